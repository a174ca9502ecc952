"""Read how strict a project wants to be: `[tool.aqpolicy]` of a `pyproject.toml`, or an `aqpolicy.toml`.

One run has one file: the nearest upward from the current directory that has settings.
Nothing is merged. In one folder `aqpolicy.toml` wins; its tables have no prefix. The
command line beats the file, the file beats the defaults. Whatever the bytes hold, they
are settings or an `InputError` that names file and key.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any, Final, Literal

from aqpolicy.diagnostics import CODES, Severity, did_you_mean
from aqpolicy.diagnostics.formats import FORMATS
from aqpolicy.diagnostics.levels import is_adjustable
from aqpolicy.errors import InputError
from aqpolicy.units import MICRO

Level = Literal["error", "warning", "note", "ignore"]

SEVERITIES: Final = ("error", "warning", "note")
"""From the gravest to the mildest."""

LEVELS: Final = (*SEVERITIES, "ignore")
OPTIMIZERS: Final = ("adaptive", "plain")
"""What training updates with: adaptive normalises gradients (Adam and its kin), plain does not (SGD)."""

_MAX_BYTES: Final = 1_000_000
MAX_EFFORT: Final = 2**32 - 1
"""The solver counts its steps in 32 bits."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How policies are checked and reported; the keys in files are these names with `-` for `_`."""

    format: str = "full"
    fail_level: Severity = "error"
    """The mildest finding that makes a run fail."""
    effort: int = 20_000_000
    """Steps of the solver for one question."""
    policy_roots: tuple[str, ...] = ()
    """Folders that imports are looked up in, relative to the current directory."""
    optimizer: str = "adaptive"
    starved_below: int = 0
    """A group is starved if nothing can write it above this share, in millionths."""
    line_width: int = 100
    levels: Mapping[str, Level] = field(default_factory=dict, hash=False)
    """The level of each code that is not left at its own."""


def find_settings(start: Path | None = None) -> Settings:
    """Return the settings of the nearest file upward from a folder, or the defaults.

    Args:
        start: The folder; the current directory by default.

    Raises:
        InputError: A file that may hold settings cannot be read or understood.
    """
    start = Path.cwd() if start is None else start.absolute()
    for folder in (start, *start.parents):
        for name in ("aqpolicy.toml", "pyproject.toml"):
            data = _read(folder / name)
            found = None if data is None else parse_settings(data, os.path.relpath(folder / name, start))
            if found is not None:
                return found
    return Settings()


def parse_settings(data: bytes, file: str) -> Settings | None:
    """Return the settings of one file; None for a `pyproject.toml` that has no `[tool.aqpolicy]`.

    Args:
        data: The bytes of the file.
        file: Its path relative to the current directory; `policy-roots` are relative to its folder.

    Raises:
        InputError: The bytes are not TOML, or hold a key or value that settings do not have.
    """
    table: Any = _toml(data, file)
    where = ""
    if PurePath(file).name == "pyproject.toml":
        tool = table.get("tool")
        table, where = (tool.get("aqpolicy") if isinstance(tool, dict) else None), "tool.aqpolicy"
        if table is None:
            return None
    if not isinstance(table, dict):
        raise InputError(f"{file}: `{where}` must be a table")
    return _settings(table, file, f"{where}." if where else "")


def _settings(table: Mapping[str, object], file: str, prefix: str) -> Settings:
    values: dict[str, Any] = {}
    for key, value in table.items():
        reader = _READERS.get(key)
        if reader is None:
            raise InputError(f"{file}: unknown key `{prefix}{_short(key)}`{_hint(key, _READERS)}")
        try:
            values[key.replace("-", "_")] = reader(value)
        except _UnfitError as error:
            raise InputError(f"{file}: `{prefix}{key}{error.below}` {error}") from None
    settings = Settings(**values)
    folder = PurePath(file).parent
    return replace(settings, policy_roots=tuple(str(folder / root) for root in settings.policy_roots))


# ---- Files --------------------------------------------------------------------------------------


def _read(path: Path) -> bytes | None:
    """Return a file's bytes, None where there is no such file."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        raise InputError(f"`{path}` is larger than settings may be")
    return data


def _toml(data: bytes, file: str) -> dict[str, object]:
    try:
        return tomllib.loads(data.decode("utf-8"), parse_float=Decimal)
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text") from error
    except RecursionError as error:
        raise InputError(f"{file}: nested too deep") from error
    except (ValueError, ArithmeticError) as error:  # ValueError: not TOML, or a number that Python refuses
        raise InputError(f"{file}: not TOML: {_short(str(error))}") from error


# ---- Values -------------------------------------------------------------------------------------


class _UnfitError(Exception):
    """A value is not one that its key takes; `below` names the part of it."""

    def __init__(self, expected: str, below: str = "") -> None:
        super().__init__(expected)
        self.below = below


def _choice(names: Mapping[str, object] | tuple[str, ...]) -> Callable[[object], str]:
    """Return a reader of one of several words."""

    def read(value: object) -> str:
        if isinstance(value, str) and value in names:
            return value
        hint = _hint(value, names) if isinstance(value, str) else ""
        raise _UnfitError(f"must be one of {', '.join(f'`{name}`' for name in names)}{hint}")

    return read


def _count(low: int, high: int) -> Callable[[object], int]:
    """Return a reader of whole numbers in a range."""

    def read(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise _UnfitError(f"must be a whole number from {low} to {high}")

    return read


def _share(value: object) -> int:
    """Read a share, as a number or as a decimal in quotes, to exact millionths."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"{value}" if 0 <= value <= 1 else None
    text = str(value) if isinstance(value, str | Decimal) else ""
    match = re.fullmatch(r"([01])(?:\.([0-9]{1,6}))?", text)
    share = int(match[1]) * MICRO + int((match[2] or "").ljust(6, "0")) if match else -1
    if not 0 <= share <= MICRO:
        raise _UnfitError("must be a share from 0 to 1 with at most six decimals")
    return share


def _folders(value: object) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(each, str) and each and each.isprintable() for each in value):
        return tuple(value)
    raise _UnfitError("must be a list of folders")


def _levels(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise _UnfitError("must be a table of codes and levels")
    return MappingProxyType({code: _level(code, level) for code, level in value.items()})


def _level(code: str, level: object) -> str:
    below = f".{_short(code)}"
    if code not in CODES:
        raise _UnfitError(f"is not the code of a finding{_hint(code, CODES)}", below)
    if not is_adjustable(code) and level != "error":
        raise _UnfitError("is an error that cannot be lowered", below)
    try:
        return _choice(LEVELS)(level)
    except _UnfitError as error:
        raise _UnfitError(str(error), below) from None


_READERS: Final[Mapping[str, Callable[[object], object]]] = MappingProxyType(
    {
        "format": _choice(FORMATS),
        "fail-level": _choice(SEVERITIES),
        "effort": _count(1, MAX_EFFORT),
        "policy-roots": _folders,
        "optimizer": _choice(OPTIMIZERS),
        "starved-below": _share,
        "line-width": _count(40, 1_000),
        "levels": _levels,
    }
)


def _hint(word: str, names: Mapping[str, object] | tuple[str, ...]) -> str:
    return "".join(f"; {line}" for line in did_you_mean(word, names))


def _short(text: str) -> str:
    """Return text that fits into a message: printable, and not endless."""
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
