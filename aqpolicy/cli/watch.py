"""`aqpolicy watch`: draw a run while it goes on."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

SHORTEST: Final = 0.1
LONGEST: Final = 3600.0

_WIDTH, _HEIGHT = 80, 24

_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l"
"""Another screen, without a cursor, without wrapping."""
_LEAVE: Final = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[2K", "\x1b[J"


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "watch",
        help="draw a run while it goes on",
        description="Draw what a run admits, modulates, defers and denies, what is left of its budgets, and what "
        "waits, while it goes on. It reads RUN/live.json, which the training writes; that file is a convenience and "
        "no evidence: `aqpolicy log` shows what was signed.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a run")
    parser.add_argument("--once", action="store_true", help="draw once and leave, as where the output is no terminal")
    parser.add_argument(
        "--interval", type=_seconds, default=1.0, metavar="S", help="seconds between two drawings (default: 1)"
    )
    parser.set_defaults(func=run)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not SHORTEST <= value <= LONGEST:
        raise argparse.ArgumentTypeError(f"`{text}` is not a number of seconds from {SHORTEST} to {LONGEST:.0f}")
    return value


def run(args: argparse.Namespace) -> int:
    """Draw until the run ends or the reader has seen enough."""
    lines, ended = _drawn(args.run)
    if not (args.once or ended) and sys.stdout.isatty():
        _follow(args.run, args.interval)
        lines, _ = _drawn(args.run)
    print("\n".join(lines))
    return 0


def _follow(run: Path, interval: float) -> None:
    """Draw again and again, until the run ends or the reader has seen enough."""
    ended = False
    with _screen(), suppress(KeyboardInterrupt):
        while not ended:
            lines, ended = _drawn(run, shutil.get_terminal_size((_WIDTH, _HEIGHT)).lines - 1)
            _show(lines)
            time.sleep(0 if ended else interval)


def _drawn(run: Path, rows: int | None = None) -> tuple[list[str], bool]:
    """Return the lines of a drawing, and whether the run has ended."""
    from aqpolicy.report.live_form import read_live
    from aqpolicy.report.live_look import look_of
    from aqpolicy.report.live_view import frame

    live, columns = read_live(run), shutil.get_terminal_size((_WIDTH, _HEIGHT)).columns
    look = look_of(sys.stdout)
    return frame(live, run.resolve().name, time.time(), look, columns=columns, rows=rows), bool(live.ended)


@contextmanager
def _screen() -> Iterator[None]:
    """Draw on a screen of its own, and give the reader's back whatever happens."""
    print(_ENTER, end="", flush=True)
    try:
        yield
    finally:
        print(_LEAVE, end="", flush=True)


def _show(lines: list[str]) -> None:
    # Each line is cleared before it is written: behind a full line the cursor stands on its last letter.
    text = "".join(f"{_CLEAR_LINE}{line}\n" for line in lines)
    print(f"{_HOME}{text}{_CLEAR_BELOW}", end="", flush=True)
