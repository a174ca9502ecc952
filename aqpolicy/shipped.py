"""Find `grammar/` and `policies/`, in a wheel or in a checkout; the only file that knows both places."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from aqpolicy.errors import InternalError


def shipped_folder(name: str) -> Path:
    """Return the folder of a shipped resource tree.

    In a wheel it lies in `aqpolicy/_shipped`; in a checkout at the top level,
    recognised by the `pyproject.toml` beside it, so that a broken wheel never
    reads a stranger's `site-packages/grammar`.

    Args:
        name: `grammar` or `policies`.

    Raises:
        InternalError: The installation holds no such folder.
    """
    packaged = Path(str(files("aqpolicy"))) / "_shipped" / name
    if packaged.is_dir():
        return packaged
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "pyproject.toml").is_file() and (checkout / name).is_dir():
        return checkout / name
    raise InternalError(f"this installation of aqpolicy has no `{name}` folder; install it again")


def grammar_text() -> str:
    """Return the grammar of the routing language."""
    return (shipped_folder("grammar") / "aqpolicy.lark").read_text(encoding="utf-8")
