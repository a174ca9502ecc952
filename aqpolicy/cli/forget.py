"""`aqpolicy forget`: train a run again without some examples, so that they were never learned.

A model without them cannot be made by subtraction; this goes back to before them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from aqpolicy.cli.trace import open_for_reading
from aqpolicy.errors import InputError

CLEAN, DIFFERS = 0, 1


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "forget",
        help="train a run again without some examples, exactly",
        description="Go back to the last checkpoint before the first step that these examples could have changed, and "
        "train from there without them, as a new attempt in the run's signed log. Model and optimizer are then, bit "
        "for bit, those that never had them. Some steps are first taken again as they were: where they are not "
        "those of the log, nothing is written.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a run")
    parser.add_argument(
        "--credential",
        action="append",
        default=[],
        metavar="ID",
        help="forget all that was signed with it (repeatable)",
    )
    parser.add_argument("--example", action="append", default=[], metavar="ID", help="forget one example (repeatable)")
    parser.add_argument("--train", metavar="F", help="the recipe: FILE.py:FUNCTION[:ARGUMENT], see docs/rerun.md")
    parser.add_argument("--reason", metavar="TEXT", help="why; it goes into the log")
    parser.add_argument("--key", metavar="FILE", type=Path, help="the private key that signs the run's log")
    parser.add_argument("--keyring", metavar="K", type=Path, help="the keys that are trusted; by default RUN's copy")
    parser.add_argument(
        "--check", action="store_true", help="also train from the beginning without them, and compare every bit"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be trained again; write nothing")
    parser.add_argument("--json", action="store_true", help="answer as JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Plan, rehearse, train again, and say what came of it."""
    from aqpolicy.rerun.forgetting import forget
    from aqpolicy.rerun.origin import Origin
    from aqpolicy.rerun.plan import plan_forgetting
    from aqpolicy.rerun.text import forgotten_lines, plan_lines
    from aqpolicy.trace.behaviour import find_function
    from aqpolicy.trust import load_keyring

    keyring = load_keyring(args.keyring or args.run / "keyring.json")
    origin = Origin(open_for_reading(args.run, args.keyring), keyring)
    plan = plan_forgetting(origin, args.credential, args.example)
    if args.dry_run or not plan.is_needed:
        _answer(args, plan.to_json(), plan_lines(plan))
        return CLEAN
    missing = [f"--{name}" for name in ("train", "reason", "key") if getattr(args, name) is None]
    if missing:
        raise InputError(f"to forget, give {', '.join(missing)}; or --dry-run, to see what would be done")
    if not args.json:
        print("\n".join(plan_lines(plan)), flush=True)
    found = forget(origin, plan, find_function(args.train), args.key, reason=args.reason, check=args.check)
    _answer(args, found.to_json(), forgotten_lines(found))
    return DIFFERS if found.is_exact is False else CLEAN


def _answer(args: argparse.Namespace, facts: dict[str, Any], lines: list[str]) -> None:
    if args.json:
        json.dump(facts, sys.stdout, indent=1, allow_nan=False)
        print()
    else:
        print("\n".join(lines))
