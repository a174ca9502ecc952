"""A step as bytes on the way to the process that writes it, and back: the same step.

It knows no field by name, so that a new column travels without a change here: a
dataclass becomes its fields, an array its bytes, all else what `marshal` makes of
it, which is quick, exact, and makes nothing but plain values when it is read. Both
ends are one installation, and nobody else holds the memory between them: this is
no format to keep, and no bytes of a stranger.
"""

from __future__ import annotations

import marshal
import struct
from collections.abc import Iterator
from dataclasses import fields
from math import prod
from operator import attrgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aqpolicy.errors import LineageError
from aqpolicy.lineage.record import Book
from aqpolicy.scribe.columns import Exceptions, StepColumns
from aqpolicy.scribe.ring import ALIGNMENT, Column

_KINDS: Final = {kind.__name__: kind for kind in (StepColumns, Exceptions, Book)}
_PLAIN: Final = frozenset({bool, int, float, str, bytes, type(None)})
_BYTE: Final = np.dtype(np.uint8)
_FLOAT32: Final[np.dtype[Any]] = np.dtype(np.float32)
_WITHOUT_REFERENCES: Final = 2
"""Version of `marshal` that does not look for the same object twice."""
_LENGTH: Final = struct.Struct("<Q")
_SHORT: Final = 16
"""A longer sequence holds things of one kind: its beginning tells, and whoever receives it makes sure."""


def pack(step: StepColumns) -> Iterator[Column]:
    """Return what is to be written of a step, column by column; the last one says what the others are.

    Norms travel as float32: the log rounds them so before it does anything else.

    Raises:
        LineageError: The step holds something that is no number, text or column.
    """
    yield Column(np.ascontiguousarray(step.norms).reshape(-1), _FLOAT32)
    rest = _Packer(step.norms, ["norms", _FLOAT32.str, step.norms.shape, 0]).packed(step)
    yield Column(np.frombuffer(rest, _BYTE), _BYTE)


def unpack(data: bytes, rest: int) -> StepColumns:
    """Return the step of its bytes; the arrays are views of them.

    Args:
        data: All columns.
        rest: Bytes of the last one.

    Raises:
        LineageError: They are not what `pack` made.
    """
    try:
        start = len(data) - rest
        (length,) = _LENGTH.unpack_from(data, start)
        end = start + _LENGTH.size + length
        said = marshal.loads(data[start + _LENGTH.size : end])  # noqa: S302  # from the process that started this one
        step = _Unpacker(data, end).rebuilt(said)
    except (ValueError, TypeError, LookupError, EOFError, struct.error) as error:
        raise LineageError(f"a step came damaged to the process that writes the log: {error}") from error
    if not isinstance(step, StepColumns):
        raise LineageError("what came to the process that writes the log is no step")
    return step


_NAMES: Final = {name: tuple(field.name for field in fields(kind)) for name, kind in _KINDS.items()}
_VALUES: Final = {name: attrgetter(*names) for name, names in _NAMES.items()}


class _Packer:
    """Says what stands for a value, and collects the arrays."""

    def __init__(self, norms: npt.NDArray[Any], place: list[Any]) -> None:
        self._norms, self._place = norms, place
        self._columns: list[Any] = []
        self._at = 0

    def packed(self, step: StepColumns) -> bytes:
        """Return all of a step but its norms."""
        try:
            head = marshal.dumps(self.plain(step), _WITHOUT_REFERENCES)
        except (ValueError, TypeError) as error:
            raise LineageError(f"a step cannot be handed to the process that writes the log: {error}") from error
        head = _LENGTH.pack(len(head) + -len(head) % ALIGNMENT) + head + bytes(-len(head) % ALIGNMENT)
        return b"".join((head, *self._columns))

    def plain(self, value: Any) -> Any:
        """Return what stands for a value: itself, a tuple for a sequence, a list for what is neither."""
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is tuple or kind is list:
            return self._sequence(value)
        if kind is np.ndarray and not value.dtype.hasobject:
            return self._place if value is self._norms else self._column(value)
        if _KINDS.get(kind.__name__) is kind:
            values = _VALUES[kind.__name__](value)
            return [kind.__name__, *(one if type(one) in _PLAIN else self.plain(one) for one in values)]
        if isinstance(value, np.generic):
            return value.item()
        raise TypeError(f"it holds a `{kind.__name__}`")

    def _column(self, values: npt.NDArray[Any]) -> list[Any]:
        place, count = self._at, values.nbytes
        self._columns.append(values if values.flags.c_contiguous else np.ascontiguousarray(values))
        if over := count % ALIGNMENT:
            self._columns.append(bytes(ALIGNMENT - over))
            count += ALIGNMENT - over
        self._at = place + count
        return ["array", values.dtype.str, values.shape, place]

    def _sequence(self, values: Any) -> tuple[Any, ...]:
        # Looked for are numbers of numpy, which `marshal` would take for bytes.
        return tuple(values) if _PLAIN.issuperset(map(type, values[:_SHORT])) else tuple(map(self.plain, values))


class _Unpacker:
    """Makes the values again."""

    def __init__(self, data: bytes, end: int) -> None:
        self._data, self._starts = data, {"norms": 0, "array": end}

    def rebuilt(self, said: Any) -> Any:
        """Return the value that this stands for."""
        if type(said) is tuple:
            kinds = set(map(type, said))
            if len(said) > _SHORT and bytes in kinds and len(kinds) > 1:
                raise TypeError("a long sequence is of several kinds")
            return said if _PLAIN.issuperset(kinds) else tuple(map(self.rebuilt, said))
        if type(said) is not list:
            return said
        what, *rest = said
        if what in self._starts:
            return self._column(self._starts[what], *rest)
        return _KINDS[what](**dict(zip(_NAMES[what], map(self.rebuilt, rest), strict=True)))

    def _column(self, start: int, kind: str, shape: tuple[int, ...], at: int) -> npt.NDArray[Any]:
        count = prod(shape)
        column: npt.NDArray[Any] = np.frombuffer(self._data, kind, count, start + at) if count else np.empty(0, kind)
        return column.reshape(shape)
