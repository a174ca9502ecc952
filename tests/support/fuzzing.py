"""Bytes that are nearly right: what a decoder is fed with, and what it may cost."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

from aqpolicy.errors import AqpolicyError

MOST_S = 0.1
"""CPU seconds that a decoder may take for bytes of the size of a seed."""
MOST_BYTES = 64 << 20
TRIES = 3
"""A measurement that is too large is made again: only what stays too large counts."""

_EXTREMES = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
)
_TEXTS = (
    b'"', b"\\", b"\\u0000", b"\\ud800", b"{", b"}", b"[" * 500, b"]" * 500, b"1e400", b"-0", b"-0.0", b"NaN",
    b"9" * 400, b"null", b"true", b'{"a":1,"a":2}', b"\xff\xfe", b"\xed\xa0\x80", b"\xe2\x80\xae", b"\r\n", b"\n\n",
    b"\0", b"0", b" ", b"=", b"sha256:", b"\x80" * 12,
)  # fmt: skip


def mutated(seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """Return one of the seeds, changed in one place or a few."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        chance.choice(_CHANGES)(data, seeds, chance)
    return bytes(data)


def _at(data: bytearray, chance: random.Random) -> int:
    near = min(len(data), 96)  # heads and lengths lie in front
    return chance.randrange(near + 1) if chance.random() < 0.5 else chance.randrange(len(data) + 1)


def _flip(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    if data:
        data[min(_at(data, chance), len(data) - 1)] ^= 1 << chance.randrange(8)


def _cut(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    at = _at(data, chance)
    del data[at : at + chance.choice((1, 2, 4, 32, len(data)))]


def _number(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    width, order = chance.choice(((1, "<B"), (2, "<H"), (4, "<I"), (8, "<Q"), (8, ">Q"), (4, ">I")))
    at, value = _at(data, chance), chance.choice(_EXTREMES) & ((1 << 8 * width) - 1)
    data[at : at + width] = struct.pack(order, value)


def _text(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    at = _at(data, chance)
    data[at : at + chance.choice((0, 1, 4))] = chance.choice(_TEXTS)


def _splice(data: bytearray, seeds: Sequence[bytes], chance: random.Random) -> None:
    other = chance.choice(seeds)
    data[_at(data, chance) :] = other[chance.randrange(len(other) + 1) :]


def _repeat(data: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    at, width = _at(data, chance), chance.choice((1, 4, 16, 64))
    data[at:at] = data[at : at + width] * chance.choice((1, 2, 50))


_CHANGES: Sequence[Callable[[bytearray, Sequence[bytes], random.Random], None]] = (
    _flip, _flip, _cut, _number, _number, _text, _splice, _repeat,
)  # fmt: skip


def outcome(decode: Callable[[bytes], Any], data: bytes) -> Any:
    """Return what a decoder makes of bytes, None where it refuses them; it may refuse with a typed error only."""
    try:
        return decode(data)
    except AqpolicyError:
        return None


def seconds(decode: Callable[[bytes], Any], data: bytes) -> float:
    """Return the CPU seconds that a decoder takes, the least of a few where they are too many."""
    least = MOST_S * 2
    for _ in range(TRIES):
        began = time.process_time()
        outcome(decode, data)
        least = min(least, time.process_time() - began)
        if least <= MOST_S:
            break
    return least


def peak_bytes(decode: Callable[[bytes], Any], data: bytes) -> int:
    """Return the most memory that a decoder holds at a time."""
    tracemalloc.start()
    try:
        outcome(decode, data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
