"""Blocks, rows and books, for the second verifier (attack A37)."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from math import copysign, inf, isfinite
from struct import calcsize, iter_unpack, pack, unpack, unpack_from
from typing import Any


class RefusedError(Exception):
    """The log is not what was signed."""


def need(holds: object, said: str) -> None:
    if not holds:
        raise RefusedError(said)


def digest(data: bytes) -> bytes:
    return sha256(data).digest()


def root(hashes: list[bytes]) -> bytes:
    if len(hashes) < 2:
        return hashes[0] if hashes else digest(b"")
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return digest(b"\1" + root(hashes[:split]) + root(hashes[split:]))


@dataclass
class Row:
    key: bytes
    index: int
    route: int
    masses: tuple[float, ...]
    charges: tuple[int, ...]


def is_number(value: float, *marks: float) -> bool:
    return value in marks or (copysign(1, value) > 0 and value < inf)


def read_row(data: bytes, at: int, groups: int, budgets: int, code: str) -> tuple[Row, int]:
    """Return the row that begins there, and where it ends."""
    key, index, route, effect, cause, _, flags, _, _ = unpack_from("<16sIIBBBBII", data, at)
    norms = unpack_from(f"<{groups}{code}", data, at + 36)
    need(effect < 4 and cause < 4 and flags < 8, "row")
    need(all(is_number(norm, -1, -2) for norm in norms), "norm")
    at += 36 + calcsize(f"<{groups}{code}")
    wide = f"<{budgets}{'Q' if flags & 1 else 'I'}"
    charges, at, masses = unpack_from(wide, data, at), at + calcsize(wide), list(norms)
    need(not flags & 1 or max(charges, default=0) >= 2**32, "charges")
    if flags & 2:
        (count,) = unpack_from("<H", data, at)
        for group, _, share in iter_unpack("<HHI", data[at + 2 : at + 2 + 8 * count]):
            if norms[group] > 0 and share < 1_000_000:
                (masses[group],) = unpack(f"<{code}", pack(f"<{code}", norms[group] * share / 1_000_000))
        need(count, "exceptions")
        at += 2 + 8 * count
    if flags & 4:
        (length,) = unpack_from("<I", data, at)
        need(length, "sketch")
        at += 4 + length
    need(at <= len(data), "row")
    return Row(key, index, route, tuple(masses) if effect > 1 else (0.0,) * groups, charges), at


def read_book(data: bytes, groups: int, budgets: int) -> tuple[Any, ...]:
    """Return movement, charges for movement, charges for drift."""
    magic, name, *terms, flags, mask, _ = unpack_from("<4s16s6dBHH", data)
    need(magic == b"AQB3" and name.isascii() and flags < (32 if flags & 4 else 4) and mask < 512, "book")
    head = 73
    if flags & 4:
        second, epsilon = unpack_from("<2d", data, head)
        need(0 < second < 1 and is_number(epsilon), "settings")
        head += 16
    need(all(map(isfinite, terms)) and min(terms[-2:]) > 0, "settings")
    width, kept = 8 * groups, [number for number in range(9) if mask >> number & 1]
    moved, *others = (unpack_from(f"<{groups}d", data, head + width * at) for at in range(1 + len(kept)))
    usual = (moved, (-1.0,) * groups, (1.0,) * groups, (-2.0,) * groups, (1.0,) * groups, *[(-1.0,) * groups] * 4)
    for number, column in zip(kept, others, strict=True):
        marks = ((-1.0,), (-1.0,), (), (-1.0, -2.0), (-1.0,), *[(-1.0,)] * 4)[number]
        need(column != usual[number] and all(is_number(value, *marks) for value in column), "column")
        need(number != 2 or max(column) <= 1, "factor")
    need(all(is_number(value, -1.0) for value in moved), "movement")
    at = head + width * (1 + len(kept))
    charges, at = unpack_from(f"<{2 * budgets}Q", data, at), at + 16 * budgets
    need(max(data[at : at + groups], default=0) < 2, "closed")
    (count,), at, last = unpack_from("<I", data, at + groups), at + groups + 4, (-1, -1)
    for _ in range(count):
        group, place, rows = unpack_from("<HHI", data, at)
        need((group, place) > last and group < groups and rows, "touched")
        last, at, row = (group, place), at + 8, -1
        for _ in range(rows):
            digits = [data[at]]
            while digits[-1] >= 128:
                digits.append(data[at + len(digits)])
            need(len(digits) == 1 or digits[-1], "touched")
            row += 1 + sum((digit & 127) << 7 * number for number, digit in enumerate(digits))
            at += len(digits)
        need(row < 2**63, "touched")
    need(at == len(data), "book")
    return moved, charges[:budgets], charges[budgets:]


def read_block(
    data: bytes, inner: bytes, rows: int, book: bool, shape: tuple[int, int, str]
) -> tuple[Any, list[Row], Any]:
    """Return rows per part, rows, and the book, of a block whose leaves have this root."""
    (count,) = unpack_from("<H", data, 48)
    parts = unpack_from(f"<{count}I", data, 50)
    start = at = 50 + 4 * count + 4 * (rows + book)
    found, ends, last = [], [at], None
    for _ in range(rows):
        row, at = read_row(data, at, *shape)
        found.append(row)
        ends.append(at)
    if book:
        last = read_book(data[at:], *shape[:2])
        ends.append(len(data))
    hashes = [digest(b"\0" + data[one:two]) for one, two in pairwise(ends)]
    need(ends[-1] == len(data) and root(hashes) == inner and sum(parts) == rows and count, "leaves")
    need(b"".join(each[:4] for each in hashes) == data[50 + 4 * count : start], "hashes")
    return parts, found, last
