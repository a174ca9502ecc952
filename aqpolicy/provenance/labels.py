"""The labels of a manifest: records, ids and events, cut out of the file where they are needed.

A million labels are divided and judged by what loops in C: a column of a record is
a slice with a stride, the letters of all ids are judged at once, hashes are those of
`hashlib`. A label is interpreted when somebody asks for it.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from hashlib import sha256
from itertools import accumulate, chain, islice, repeat
from struct import Struct
from typing import Final

from aqpolicy.errors import MalformedManifestError
from aqpolicy.provenance.codec import (
    EVENT,
    EVENT_TIME,
    EVENTS,
    ID_LENGTH,
    ID_LETTERS,
    LEAF_TAG,
    LONGEST_ID,
    TIME,
    UNKNOWN_CATEGORY,
    LabelCodec,
    is_example_id,
    leaf_bytes,
)

_Label = tuple[tuple[bytes], bytes, bytes]
_LEAF: Final = b"\x00" + LEAF_TAG
_ID_LENGTHS: Final = bytes(range(1, LONGEST_ID + 1))
_ID_FORMATS: Final = tuple(f"{length}s" for length in range(256))
_AT_ONCE: Final = 1024
"""Labels that one `struct` divides."""


class Labels:
    """The labels of a manifest, divided and well-formed; that they are those that were signed is not judged here.

    Nor is, before `session_hashes`, that no example is there twice.

    Raises:
        MalformedManifestError: The bytes do not divide as the records say, an
            id is ill-formed, or a number has no meaning.
    """

    def __init__(self, data: bytes, start: int, size: int, codec: LabelCodec) -> None:
        """Divide what the file has from `start` on."""
        self.size, self._data, self._start, self._codec = size, data, start, codec
        self._width = codec.record.size
        end = start + size * self._width
        if end > len(data):
            raise MalformedManifestError("the manifest is shorter than its head says")
        self._lengths = data[start + ID_LENGTH : end : self._width]
        self._counts = self._numbers(start + EVENTS, end, self._width)
        self._ids = array("Q", accumulate(self._lengths, initial=end))
        self._events = array("Q", accumulate(self._counts, initial=0))
        if self._ids[-1] + EVENT.size * self._events[-1] != len(data):
            raise MalformedManifestError("the manifest is not as long as its records say")
        self._refuse_values(end)
        self._refuse_ids()

    @cached_property
    def index(self) -> dict[bytes, int]:
        """Number of each label by the id of its example."""
        return dict(zip(self._cut_ids(0, self.size), range(self.size), strict=True))

    def record(self, index: int) -> bytes:
        """Return the record of a label."""
        at = self._start + index * self._width
        return self._data[at : at + self._width]

    def example_id(self, index: int) -> bytes:
        """Return the id of a label's example."""
        return self._data[self._ids[index] : self._ids[index + 1]]

    def events(self, index: int) -> bytes:
        """Return the history of a label."""
        at = self._ids[-1]
        return self._data[at + EVENT.size * self._events[index] : at + EVENT.size * self._events[index + 1]]

    def leaf(self, index: int) -> bytes:
        """Return the bytes of a label's leaf."""
        return leaf_bytes(self.record(index), self.example_id(index), self.events(index))

    def leaf_hashes(self, first: int, end: int) -> list[bytes]:
        """Return the leaf hashes of labels that follow each other."""
        return _hashes(self._cut(first, end, self._cut_ids(first, end)))

    def session_hashes(self, sizes: Iterable[int]) -> Iterator[list[bytes]]:
        """Return the leaf hashes of all labels, session by session, if none has the example of another.

        Raises:
            MalformedManifestError: One example is there twice.
        """
        names = list(self._cut_ids(0, self.size))
        if len(set(names)) != self.size:
            raise MalformedManifestError("one example is there twice")
        labels = self._cut(0, self.size, names)
        return (_hashes(islice(labels, size)) for size in sizes)

    def times(self, first: int, end: int) -> array[int]:
        """Return the times of labels that follow each other, in seconds since 1970."""
        start, stop = self._start + first * self._width + TIME, self._start + end * self._width
        joined = bytearray(8 * (end - first))
        for byte in range(8):
            joined[byte::8] = self._data[start + byte : stop : self._width]
        return _array("q", joined)

    def _cut(self, first: int, end: int, names: Iterable[bytes]) -> Iterator[_Label]:
        return zip(self._cut_records(first, end), names, self._cut_events(first, end), strict=True)

    def _cut_records(self, first: int, end: int) -> Iterator[tuple[bytes]]:
        width = self._width
        records = memoryview(self._data)[self._start + first * width : self._start + end * width]
        return Struct(f"{width}s").iter_unpack(records)

    def _cut_ids(self, first: int, end: int) -> Iterator[bytes]:
        return _divide(self._data, self._ids[first], self._lengths[first:end], _ID_FORMATS.__getitem__)

    def _cut_events(self, first: int, end: int) -> Iterator[bytes]:
        if self._events[first] == self._events[end]:
            return repeat(b"", end - first)
        at = self._ids[-1] + EVENT.size * self._events[first]
        return _divide(self._data, at, self._counts[first:end], _events_format)

    def _numbers(self, first: int, end: int, width: int) -> array[int]:
        """Return the numbers of two bytes that stand at `first` and in every `width` bytes behind it."""
        low = self._data[first:end:width]
        joined = bytearray(2 * len(low))
        joined[::2], joined[1::2] = low, self._data[first + 1 : end : width]
        return _array("H", joined)

    def _refuse_values(self, end: int) -> None:
        data, start, width = self._data, self._start, self._width
        if not data[start + TIME + 7 : end : width].isascii():  # the last byte of a negative number is above 127
            raise MalformedManifestError("an observation has a time before 1970")
        for field, place in zip(self._codec.fields, self._codec.places, strict=False):
            codes = set(self._numbers(start + place, end, width)) if field.kind == "category" else set()
            if any(len(field.values) <= code != UNKNOWN_CATEGORY for code in codes):
                raise MalformedManifestError(f"an observation has a value of `{field.name}` that the schema lacks")
        first, last = self._ids[-1], len(data)
        beyond = max(self._numbers(first, last, EVENT.size), default=-1) >= len(self._codec.sources)
        if beyond or not data[first + EVENT_TIME + 7 : last : EVENT.size].isascii():
            raise MalformedManifestError("an event of a history has a source or a time that does not exist")

    def _refuse_ids(self) -> None:
        letters = self._data[self._ids[0] : self._ids[-1]]
        if not self._lengths.translate(None, _ID_LENGTHS) and not letters.translate(None, ID_LETTERS):
            return
        wrong = next(index for index in range(self.size) if not is_example_id(self.example_id(index)))
        raise MalformedManifestError(f"observation {wrong} has an ill-formed example id")


@lru_cache(4096)
def _events_format(count: int) -> str:
    return f"{EVENT.size * count}s"


def _divide(data: bytes, start: int, lengths: Sequence[int], form: Callable[[int], str]) -> Iterator[bytes]:
    """Return stretches that follow each other; `form` writes a length as `struct` wants it."""
    return chain.from_iterable(_divide_some(data, start, lengths, form))


def _divide_some(
    data: bytes, start: int, lengths: Sequence[int], form: Callable[[int], str]
) -> Iterator[tuple[bytes, ...]]:
    for first in range(0, len(lengths), _AT_ONCE):
        some = Struct("".join(map(form, lengths[first : first + _AT_ONCE])))
        yield some.unpack_from(data, start)
        start += some.size


def _array(code: str, little_endian: bytearray) -> array[int]:
    numbers = array(code)
    numbers.frombytes(little_endian)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _hashes(labels: Iterable[_Label]) -> list[bytes]:
    # `leaf_hash(leaf_bytes(...))`, written out: loading a manifest spends its time here.
    return [sha256(_LEAF + record + name + history).digest() for (record,), name, history in labels]
