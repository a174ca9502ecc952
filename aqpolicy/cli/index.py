"""`aqpolicy index`: compile a finished run, so that any behaviour of its model is traced at once."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

FILE = "trace.index"


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "index",
        help="compile a run, so that behaviours are traced at once",
        description="Verify a run and compile what its log holds of every example into a few bytes each. "
        "`aqpolicy trace RUN --index FILE` then answers any behaviour with one backward pass and one product.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a finished run")
    parser.add_argument("--keyring", metavar="K", type=Path, help="the keys that are trusted; by default RUN's copy")
    parser.add_argument("--size", type=int, default=256, metavar="N", help="bytes per example (default 256)")
    parser.add_argument("--damp", type=float, default=2.0, metavar="X", help="curvature of the estimate (default 2)")
    parser.add_argument("--output", metavar="FILE", type=Path, help=f"the index; by default {FILE} in the folder")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Verify, compile, write."""
    from aqpolicy.cli.trace import open_for_reading
    from aqpolicy.trace.compiling import compile_index
    from aqpolicy.trace.index_file import write_index

    opened = open_for_reading(args.run, args.keyring)
    index = compile_index(opened, size=args.size, damp=args.damp, progress=_show)
    path = args.output or args.run / FILE
    write_index(path, index)
    e, k = index.levels.shape
    print(f"{path}: {e} examples, {k} numbers each, {path.stat().st_size} bytes")
    print(f"{index.facts.captured:.1%} of the run's own last gradients lies in what the index can answer")
    return 0


def _show(done: int, count: int) -> None:
    if sys.stderr.isatty():
        print(f"\rasked {done} of {count}", end="\n" if done == count else "", file=sys.stderr, flush=True)
