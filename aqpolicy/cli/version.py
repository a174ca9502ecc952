"""`aqpolicy version`: name everything that a proof or a bundle depends on, without loading any of it."""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from aqpolicy import LANGUAGE_VERSION, __version__
from aqpolicy.shipped import grammar_text

PACKAGES: Final = ("lark", "z3-solver", "pydantic", "pynacl", "lmdb", "torch")

BUNDLE_FORMAT: Final = "aqpolicy bundle 2"
"""Said again here, and compared by a test, because `aqpolicy.bundle` loads what this command must not."""


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "version",
        help="name the versions of everything that a result depends on",
        description="Name the versions of aqpolicy, its language and formats, and of what it is built on.",
    )
    parser.add_argument("--format", choices=["text", "json"], default="text", help="how it is written (default: text)")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print the versions."""
    found = versions()
    if args.format == "json":
        print(json.dumps(found, indent=2))
        return 0
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:<{width}}  {'not installed' if value is None else value}")
    return 0


def versions() -> dict[str, str | int | None]:
    """Return each name with its version; None for a package that is not installed."""
    return {
        "aqpolicy": __version__,
        "language": LANGUAGE_VERSION,
        "grammar": f"sha256:{hashlib.sha256(grammar_text().encode()).hexdigest()}",
        "bundle": BUNDLE_FORMAT,
        "python": platform.python_version(),
        **{name: _installed(name) for name in PACKAGES},
    }


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
