"""`aqpolicy memorization`: which examples a model may hold by heart, as a signed report that goes with it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aqpolicy.errors import InputError, TrustError

if TYPE_CHECKING:
    from aqpolicy.provenance.memorization import Report

CLEAN, DIFFERS = 0, 1


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "memorization",
        help="list the examples that a model may hold by heart",
        description="Verify a run and list, from its log alone, the examples that stand out of their class: how "
        "often they were admitted, what their own updates took off their own loss, what is retained, and their plain "
        "loss beside it. With --key, sign the report that goes with the model. With --check, verify a signed report: "
        "with RUN it is also made again from the log, and must be the same.",
        epilog="Exit status: 0 done, 1 a report is not signed by a trusted key, belongs to another model, or is not "
        "what the log gives, 2 usage or input error.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, nargs="?", help="the folder of a finished run")
    parser.add_argument("--keyring", metavar="K", type=Path, help="the keys that are trusted; by default RUN's copy")
    parser.add_argument(
        "--signal", choices=("influence", "norm", "loss", "retained"), default="influence", help="what is judged by"
    )
    parser.add_argument("--within", metavar="ATTRIBUTE", default="", help="compare within each value of an attribute")
    parser.add_argument(
        "--quantile", type=float, default=0.99, metavar="Q", help="part of a class that is not over (default 0.99)"
    )
    parser.add_argument("--top", type=int, default=20, metavar="N", help="examples shown (default 20)")
    parser.add_argument("--json", action="store_true", help="answer as JSON")
    parser.add_argument("--output", metavar="FILE", type=Path, help="write the signed report; needs --key")
    parser.add_argument("--key", metavar="FILE", type=Path, help="the private key of the run's log")
    parser.add_argument("--check", metavar="FILE", type=Path, help="verify a signed report")
    parser.add_argument("--model", metavar="FILE", type=Path, help="with --check: the model that it is to go with")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Make a report, or check one."""
    if args.check is not None:
        return _check(args)
    if args.run is None or args.model is not None:
        raise InputError("give the folder of a run; --model goes with --check")
    if (args.output is None) != (args.key is None):
        raise InputError("to sign a report, give --output and --key")
    from aqpolicy.cli.trace import open_for_reading, write_json
    from aqpolicy.provenance.memorization import seal_report
    from aqpolicy.trace.memorizing import memorized, report_of
    from aqpolicy.trust import load_signing_key

    opened = open_for_reading(args.run, args.keyring)
    found = memorized(opened, args.signal, within=args.within, quantile=args.quantile)
    report = report_of(opened, found)
    _show(args, report)
    if args.output is not None:
        write_json(args.output, seal_report(report, [load_signing_key(args.key)]) + b"\n")
    return CLEAN


def _check(args: argparse.Namespace) -> int:
    """Verify a report: its signature, the model that it names, and, with the run, every number of it."""
    from aqpolicy.provenance.memorization import open_report
    from aqpolicy.provenance.signed_form import read_document
    from aqpolicy.trust import load_keyring

    if args.keyring is None:
        raise InputError("--check needs --keyring, the keys that are trusted")
    keyring = load_keyring(args.keyring)
    try:
        report = open_report(read_document(args.check), keyring)
    except TrustError as error:
        print(f"refused   {error}")
        return DIFFERS
    _show(args, report)
    problem = _other_model(args, report) or _other_log(args, report)
    if problem:
        print(f"refused   {problem}")
        return DIFFERS
    if not args.json:
        again = ", and what the log of the run gives" if args.run is not None else ""
        print(f"verified  signed by a trusted key{again}")
    return CLEAN


def _other_model(args: argparse.Namespace, report: Report) -> str:
    from aqpolicy.trust import digest_text, sha256

    if args.model is None:
        return ""
    try:
        data = args.model.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read `{args.model}`: {error.strerror}") from error
    found = digest_text(sha256(data))
    return "" if found == report.model else f"`{args.model}` is another model: {found}"


def _other_log(args: argparse.Namespace, report: Report) -> str:
    """Return what is wrong where the report is made again from the log; the head may have grown since."""
    if args.run is None:
        return ""
    from aqpolicy.cli.trace import open_for_reading
    from aqpolicy.trace.memorizing import memorized, report_of
    from aqpolicy.units import MICRO

    opened = open_for_reading(args.run, args.keyring)
    found = memorized(opened, report.signal, within=report.within, quantile=report.quantile / MICRO)
    made = report_of(opened, found)
    if made.origin != report.origin:
        return "the report is of another run"
    same = made.model_copy(update={"size": report.size, "root": report.root})
    return "" if same == report else "the log of the run gives another report"


def _show(args: argparse.Namespace, report: Report) -> None:
    from aqpolicy.trace.memorization_text import report_lines

    if args.json:
        json.dump(report.model_dump(mode="json"), sys.stdout, indent=1, allow_nan=False)
        print()
        return
    for line in report_lines(report, args.top):
        print(line)
