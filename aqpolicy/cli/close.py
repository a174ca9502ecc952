"""`aqpolicy close`: whether every change of every tensor is explained by what the log says made it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "close",
        help="check that a run's book balances",
        description="Verify a run, take every step again from what was recorded, and compare with the weights that "
        "were published: fresh gradients, momentum, decay, what clipping withheld, and rounding, group by group and "
        "tensor by tensor. Ends with 1 where something is not explained.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a finished run")
    parser.add_argument("--keyring", metavar="K", type=Path, help="the keys that are trusted; by default RUN's copy")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the answer as JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Close the book of a run."""
    from aqpolicy.cli.trace import open_for_reading, write_json
    from aqpolicy.trace.closing import close_run

    opened = open_for_reading(args.run, args.keyring)
    found = close_run(opened, _shown if sys.stderr.isatty() else None)
    if args.json is not None:
        write_json(args.json, json.dumps(found.to_json(), indent=1, allow_nan=False).encode("utf-8") + b"\n")
    for line in found.lines():
        print(line)
    return 0 if found.closes else 1


def _shown(done: int, of: int) -> None:
    end = "\n" if done == of else ""
    print(f"\rtaking step {done} of {of} again", end=end, file=sys.stderr, flush=True)
