"""`aqpolicy replay`: what another policy would have decided in a run; with `--train`, what it would have made."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from aqpolicy.cli.trace import open_for_reading
from aqpolicy.errors import InputError


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "replay",
        help="say what another policy would have decided in a run, and train it again",
        description="Verify a run and say, from its log, its manifest and another signed bundle, what that policy "
        "would have decided about every visit: recorded surprisal and entropy, budgets spent anew, no training. With "
        "--train the run is then trained again under it, into a new folder with a log of its own.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a finished run")
    parser.add_argument(
        "--policy", required=True, metavar="BUNDLE", type=Path, help="the other policy, compiled and signed"
    )
    parser.add_argument(
        "--by",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="only what changes in these depth groups, for these credentials",
    )
    parser.add_argument("--keyring", metavar="K", type=Path, help="the keys that are trusted; by default RUN's copy")
    parser.add_argument("--json", action="store_true", help="answer as JSON")
    parser.add_argument("--train", metavar="F", help="also train again: FILE.py:FUNCTION[:ARGUMENT], see docs/rerun.md")
    parser.add_argument("--output", metavar="NEWRUN", type=Path, help="the folder of the new run")
    parser.add_argument("--key", metavar="FILE", type=Path, help="the private key that signs the new run's log")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Decide again, and train again where that is asked for."""
    given = [args.train, args.output, args.key]
    if any(one is not None for one in given) and any(one is None for one in given):
        raise InputError("to train again, give --train, --output and --key")
    from aqpolicy.bundle import load_bundle
    from aqpolicy.rerun.replaying import replay
    from aqpolicy.trust import load_keyring

    opened = open_for_reading(args.run, args.keyring)
    keyring = load_keyring(args.keyring or args.run / "keyring.json")
    found = replay(opened, load_bundle(args.policy, keyring), args.by)
    facts = found.to_json()
    if not args.json:
        from aqpolicy.rerun.replay_text import replay_lines

        print("\n".join(replay_lines(found)), flush=True)
    if args.train is not None:
        facts["trained"] = _train(args, opened, keyring)
    if args.json:
        json.dump(facts, sys.stdout, indent=1, allow_nan=False)
        print()
    return 0


def _train(args: argparse.Namespace, opened: Any, keyring: Any) -> dict[str, Any]:
    from aqpolicy.rerun.origin import Origin
    from aqpolicy.rerun.replay_text import retrained_lines
    from aqpolicy.rerun.retraining import retrain
    from aqpolicy.trace.behaviour import find_function

    found = retrain(Origin(opened, keyring), find_function(args.train), args.policy, args.key, args.output)
    if not args.json:
        print("\n".join(retrained_lines(found)))
    return found.to_json()
