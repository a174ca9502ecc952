"""`aqpolicy indirect`: how far groups that are closed to some examples move through the others."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from aqpolicy.cli.trace import open_for_reading


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "indirect",
        help="measure how far closed groups move through other examples",
        description="Train a run again with the contents of those examples exchanged that were let into some depth "
        "groups only, and say how far every group that was closed to them moved because of it, as a part of its "
        "displacement. The same examples, denied everywhere, are the control: they must move nothing. Writes "
        "RUN/indirect.json.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a finished run")
    parser.add_argument(
        "--train", required=True, metavar="F", help="the recipe: FILE.py:FUNCTION[:ARGUMENT], see docs/rerun.md"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the exchange (default 0)")
    parser.add_argument("--keyring", metavar="K", type=Path, help="the keys that are trusted; by default RUN's copy")
    parser.add_argument("--json", action="store_true", help="answer as JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Train and measure; the status is 1 where the control does not hold."""
    from aqpolicy.rerun.indirect import measure_indirect
    from aqpolicy.rerun.indirect_text import indirect_lines
    from aqpolicy.rerun.origin import Origin
    from aqpolicy.trace.behaviour import find_function
    from aqpolicy.trust import load_keyring

    keyring = load_keyring(args.keyring or args.run / "keyring.json")
    origin = Origin(open_for_reading(args.run, args.keyring), keyring)
    found = measure_indirect(origin, find_function(args.train), args.seed)
    if args.json:
        json.dump(found.to_json(), sys.stdout, indent=1, allow_nan=False)
        print()
    else:
        print("\n".join(indirect_lines(found)))
    return 0 if found.control_holds else 1
