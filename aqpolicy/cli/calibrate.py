"""`aqpolicy calibrate`: hold the estimates of a run's traces to what training without the examples shows."""

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
        "calibrate",
        help="hold a run's traces to what training again shows",
        description="Train a run again and again, each time without a random group of examples or one annotator, and "
        "compare what that changes of behaviours with what the trace says. Writes RUN/calibration.json, which later "
        "traces of the run take their intervals from. It costs as many trainings as there are groups.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a finished run that can be traced")
    parser.add_argument(
        "--train", required=True, metavar="F", help="the recipe: FILE.py:FUNCTION[:ARGUMENT], see docs/rerun.md"
    )
    parser.add_argument(
        "--behaviour",
        required=True,
        action="append",
        metavar="F",
        help="takes the model, returns one number: FILE.py:FUNCTION[:ARGUMENT] (repeatable)",
    )
    parser.add_argument("-k", "--groups", type=int, default=24, metavar="K", help="random groups (default 24)")
    parser.add_argument(
        "--part", type=float, default=0.1, metavar="X", help="part of the examples in a random group (default 0.1)"
    )
    parser.add_argument("--damp", type=float, default=2.0, metavar="X", help="curvature of the estimate (default 2)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random groups (default 0)")
    parser.add_argument("--no-annotators", action="store_true", help="leave out random groups only")
    parser.add_argument("--keyring", metavar="K", type=Path, help="the keys that are trusted; by default RUN's copy")
    parser.add_argument("--json", action="store_true", help="answer as JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Train without each group in turn, and compare."""
    from aqpolicy.rerun.calibration import calibrate
    from aqpolicy.rerun.calibration_text import calibration_lines
    from aqpolicy.rerun.origin import Origin
    from aqpolicy.trace.behaviour import find_function
    from aqpolicy.trust import load_keyring

    keyring = load_keyring(args.keyring or args.run / "keyring.json")
    found = calibrate(
        Origin(open_for_reading(args.run, args.keyring), keyring),
        find_function(args.train),
        [find_function(text) for text in args.behaviour],
        args.groups,
        part=args.part,
        seed=args.seed,
        damp=args.damp,
        annotators=not args.no_annotators,
        progress=_told if sys.stderr.isatty() else None,
    )
    if args.json:
        json.dump(found.to_json(), sys.stdout, indent=1, allow_nan=False)
        print()
    else:
        print("\n".join(calibration_lines(found)))
    return 0


def _told(done: int, of: int) -> None:
    print(f"\r{done} of {of} trainings", end="\n" if done == of else "", file=sys.stderr, flush=True)
