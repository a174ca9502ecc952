"""`aqpolicy describe`: write what a policy must know of a model. It builds the model and runs nothing else of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "describe",
        help="write a model's modules and parameters for `compile`",
        description="Call a function that builds a model, and write the model's modules and parameters as JSON. "
        "This runs the file's own code.",
    )
    parser.add_argument(
        "target", metavar="FILE.py:FUNCTION", help="or package.module:FUNCTION; called without arguments"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="where to write, e.g. model.json")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Build, describe, write."""
    from aqpolicy.gate.describe import build_model, describe_model
    from aqpolicy.trust import canonical_json, replace_file

    description = describe_model(build_model(args.target))
    replace_file(args.out, canonical_json(description))
    count = len(description["parameters"])
    print(f"{args.out}: {len(description['modules'])} modules, {count} parameters")
    return 0
