"""Find `grammar/`, `policies/` and the pages of rules, in a wheel or a checkout; the only file that knows both."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

from aqpolicy.errors import InternalError

_PLACES: Final = {"rules": "docs/rules"}
"""Where a folder lies in a checkout, if not at the top level."""


def shipped_folder(name: str) -> Path:
    """Return the folder of a shipped resource tree.

    In a wheel it lies in `aqpolicy/_shipped`; in a checkout at the top level,
    recognised by the `pyproject.toml` beside it, so that a broken wheel never
    reads a stranger's `site-packages/grammar`.

    Args:
        name: `grammar`, `policies` or `rules`.

    Raises:
        InternalError: The installation holds no such folder.
    """
    packaged = Path(str(files("aqpolicy"))) / "_shipped" / name
    if packaged.is_dir():
        return packaged
    checkout = Path(__file__).resolve().parents[1]
    place = checkout / _PLACES.get(name, name)
    if (checkout / "pyproject.toml").is_file() and place.is_dir():
        return place
    raise InternalError(f"this installation of aqpolicy has no `{name}` folder; install it again")


def grammar_text() -> str:
    """Return the grammar of the routing language."""
    return (shipped_folder("grammar") / "aqpolicy.lark").read_text(encoding="utf-8")


def parse_tables_text() -> str:
    """Return the parse tables generated from the grammar (`make grammar`)."""
    return (shipped_folder("grammar") / "parse_tables.json").read_text(encoding="utf-8")


def rules_folder() -> Path:
    """Return the folder with one documentation page for each diagnostic code."""
    return shipped_folder("rules")
