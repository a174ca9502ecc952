"""`aqpolicy trace`: from a behaviour back to depth groups, updates, examples, annotators and signed observations.

With `--example` or `--from-annotator` it goes the other way: what a source wrote.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aqpolicy.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aqpolicy.rerun.applying import Calibrated
    from aqpolicy.rerun.foreseeing import Foreseen
    from aqpolicy.trace import Run
    from aqpolicy.trace.result import Trace


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "trace",
        help="follow a behaviour back to updates and annotators",
        description="Verify a run, then follow a behaviour of its model back to depth groups, updates, examples, "
        "annotators and signed observations; or show what one example or annotator wrote.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a finished run")
    parser.add_argument("--keyring", metavar="K", type=Path, help="the keys that are trusted; by default RUN's copy")
    function = "FILE.py:FUNCTION or package.module:FUNCTION"
    parser.add_argument("--model", metavar="F", help=f"builds the untrained model: {function}")
    parser.add_argument("--behaviour", metavar="F", help=f"takes the model, returns one number: {function}[:ARGUMENT]")
    parser.add_argument("--example", metavar="ID", help="show what the log says of one example")
    parser.add_argument("--from-annotator", metavar="ID", help="show what the labels of one credential changed")
    parser.add_argument(
        "--what-if", metavar="BUNDLE", type=Path, help="say what this policy would make of the behaviour; needs factors"
    )
    parser.add_argument(
        "--replay",
        metavar="ID",
        action="append",
        help="train again without this credential or example, and say what became of the behaviour (repeatable)",
    )
    parser.add_argument("--train", metavar="F", help="with --replay: the recipe, see docs/rerun.md")
    parser.add_argument(
        "--index", metavar="FILE", type=Path, help="answer from what `aqpolicy index` compiled, at once"
    )
    parser.add_argument(
        "--level",
        type=int,
        choices=(0, 1, 3),
        default=3,
        help="0: contribution, 1: the behaviour's own book along the run (needs factors), 3: estimate (default)",
    )
    parser.add_argument("--damp", type=float, default=2.0, metavar="X", help="curvature of the estimate (default 2)")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="updates and examples listed (default 10)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the answer as JSON")
    parser.add_argument("--html", metavar="FILE", type=Path, help="also write the trace of a behaviour as a page")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Answer one question about a run."""
    asked = [args.behaviour, args.example, args.from_annotator]
    if sum(question is not None for question in asked) != 1:
        raise InputError("give one of --behaviour (with --model), --example and --from-annotator")
    _refuse_together(args)
    if args.replay is not None:
        return _replay(args)
    if args.index is not None:
        return _by_index(args)
    opened = open_for_reading(args.run, args.keyring)
    if args.behaviour is None:
        return _source(args, opened)
    if args.what_if is not None:
        return _what_if(args, opened)
    if args.level == 1:
        return _journey(args, opened)
    from aqpolicy.rerun.applying import Calibrated, calibrated
    from aqpolicy.trace.text import trace_lines

    found = _trace(args, opened)
    intervals = calibrated(found, args.run)
    if args.html is not None:
        _write_page(args, found, intervals)
    facts = found.to_json()
    lines = list(trace_lines(found))
    if isinstance(intervals, Calibrated):
        facts["calibrated"] = intervals.to_json()
        lines += ["", *intervals.lines(args.top)]
    elif intervals is not None:
        lines += ["", intervals]
    return _tell(args, facts, lines)


def _refuse_together(args: argparse.Namespace) -> None:
    """Refuse options that do not go together, before anything is opened.

    Raises:
        InputError: Some do not.
    """
    if args.html is not None and args.behaviour is None:
        raise InputError("--html shows where a behaviour comes from; give --behaviour and --model")
    if args.behaviour is None and (args.what_if or args.index or args.replay):
        raise InputError("--what-if, --index and --replay are about a behaviour; give --behaviour")
    ways = [name for name in ("what_if", "index", "replay") if getattr(args, name) is not None]
    if len(ways) > 1:
        raise InputError(f"--{ways[0].replace('_', '-')} and --{ways[1]} are two questions; ask one")
    if args.replay is not None and args.train is None:
        raise InputError("--replay trains again; give --train, the recipe")
    if args.behaviour is not None and args.replay is None and args.model is None:
        raise InputError("--behaviour needs --model, the function that builds the untrained model")
    if args.html is not None and (args.index is not None or args.replay is not None or args.level == 1):
        raise InputError(
            "--html shows levels 0 and 3, traced in full; --index, --replay and level 1 are text and --json"
        )


def _tell(args: argparse.Namespace, facts: dict[str, Any], lines: Iterable[str]) -> int:
    """Print an answer, and write it as JSON where that is asked for."""
    if args.json is not None:
        write_json(args.json, json.dumps(facts, indent=1, allow_nan=False).encode("utf-8") + b"\n")
    for line in lines:
        print(line)
    return 0


def open_for_reading(folder: Path, keyring: Path | None) -> Run:
    """Verify a run; where no keyring is given, the run's own copy is used, and said to be."""
    from aqpolicy.trace import open_run
    from aqpolicy.trust import load_keyring

    if keyring is None:
        print(f"aqpolicy: trusting {folder / 'keyring.json'}; give --keyring to trust your own", file=sys.stderr)
    return open_run(folder, load_keyring(keyring or folder / "keyring.json"))


def write_json(path: Path, data: bytes) -> None:
    """Write an answer.

    Raises:
        InputError: The file cannot be written.
    """
    try:
        path.write_bytes(data)
    except OSError as error:
        raise InputError(f"cannot write `{path}`: {error.strerror}") from error


def _trace(args: argparse.Namespace, opened: Run) -> Trace:
    from aqpolicy.trace.behaviour import find_function
    from aqpolicy.trace.query import trace_behaviour

    model, behaviour = find_function(args.model), find_function(args.behaviour)
    return trace_behaviour(opened, model, behaviour, level=args.level, damp=args.damp, top=args.top)


def _journey(args: argparse.Namespace, opened: Run) -> int:
    from aqpolicy.trace.behaviour import find_function
    from aqpolicy.trace.journey import follow

    found = follow(opened, find_function(args.model), find_function(args.behaviour), top=args.top)
    return _tell(args, found.to_json(), found.lines())


def _replay(args: argparse.Namespace) -> int:
    from aqpolicy.rerun.origin import Origin
    from aqpolicy.rerun.proving import prove
    from aqpolicy.trace.behaviour import find_function
    from aqpolicy.trust import load_keyring

    origin = Origin(open_for_reading(args.run, args.keyring), load_keyring(args.keyring or args.run / "keyring.json"))
    recipe, behaviour = find_function(args.train), find_function(args.behaviour)
    found = prove(origin, recipe, behaviour, args.replay, damp=args.damp)
    return _tell(args, found.to_json(), found.lines())


def _by_index(args: argparse.Namespace) -> int:
    from aqpolicy.trace.answering import trace_by_index
    from aqpolicy.trace.behaviour import find_function

    model, behaviour = find_function(args.model), find_function(args.behaviour)
    found = trace_by_index(args.run, args.index, model, behaviour, args.top)
    return _tell(args, found.to_json(), found.lines())


def _write_page(
    args: argparse.Namespace, found: Trace, intervals: Calibrated | str | None, foreseen: Foreseen | None = None
) -> None:
    from aqpolicy.report.trace_page import render_trace_page
    from aqpolicy.trust import replace_file

    page = render_trace_page(found, None if isinstance(intervals, str) else intervals, foreseen)
    replace_file(args.html, page.encode("utf-8"))
    print(f"aqpolicy: wrote {args.html}", file=sys.stderr)


def _what_if(args: argparse.Namespace, opened: Run) -> int:
    from aqpolicy.bundle import load_bundle
    from aqpolicy.rerun.applying import calibrated
    from aqpolicy.rerun.foreseeing import foresee
    from aqpolicy.trace.behaviour import find_function
    from aqpolicy.trust import load_keyring

    other = load_bundle(args.what_if, load_keyring(args.keyring or args.run / "keyring.json"))
    found = foresee(opened, other, find_function(args.model), find_function(args.behaviour), damp=args.damp)
    if args.html is not None:
        traced = _trace(args, opened)
        _write_page(args, traced, calibrated(traced, args.run), found)
    return _tell(args, found.to_json(), found.lines())


def _source(args: argparse.Namespace, opened: Run) -> int:
    from aqpolicy.trace.footprint import credentials_of, footprint, masses_by
    from aqpolicy.trace.text import comparison_lines, footprint_lines

    found = footprint(opened, credential=args.from_annotator, example=args.example)
    if args.json is not None:
        write_json(args.json, found.to_json())
    for line in footprint_lines(found, visits=args.example is not None):
        print(line)
    if args.from_annotator is not None:
        for line in comparison_lines(masses_by(opened, credentials_of(opened)), opened.tables.groups):
            print(line)
    return 0
