"""Look at all rows of a step at once: are they rows, whose are they, what were budgets charged.

It takes exactly the rows that `decode_row` takes, and makes no object per number:
a verifier needs keys and charges, not norms. Norms are looked at through their
highest byte, which tells nearly all that are finite and not negative.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from typing import Final

from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage.leaf import FLAGS, FLAGS_AT, HEAD_BYTES, KEY, cut_tail, decode_row, norm_bytes, row_bytes
from aqpolicy.lineage.record import CAUSES, EFFECTS, NOT_MEASURED, Layout

_EFFECTS: Final = bytes(range(len(EFFECTS)))
_CAUSES: Final = bytes(range(len(CAUSES)))
_KNOWN: Final = bytes(range(FLAGS + 1))
_SMALL: Final = {4: bytes(range(0x7F)), 2: bytes(range(0x7C))}
"""Highest bytes of norms that are finite and not negative; of f32, not of all such."""
_UNMEASURED: Final = {4: struct.pack("<f", NOT_MEASURED), 2: struct.pack("<e", NOT_MEASURED)}


def scan_rows(rows: Sequence[bytes], layout: Layout) -> tuple[bytes, list[int]]:
    """Return the keys of rows, one after the other, and what every budget is charged by all.

    Trust:
        rows are untrusted.

    Raises:
        CorruptLogError: One is not the one encoding of a row; `where` names the first.
    """
    if not rows:
        return b"", [0] * layout.budgets
    if min(map(len, rows)) >= row_bytes(layout):
        heads = b"".join([row[:HEAD_BYTES] for row in rows])
        if _are_heads(heads) and _are_norms(rows, layout):
            try:
                return b"".join([row[KEY] for row in rows]), _charged(rows, heads, layout)
            except CorruptLogError:  # which row it is, the slow way tells
                pass
    return _one_by_one(rows, layout)


def _are_heads(heads: bytes) -> bool:
    return (
        not heads[FLAGS_AT - 3 :: HEAD_BYTES].translate(None, _EFFECTS)
        and not heads[FLAGS_AT - 2 :: HEAD_BYTES].translate(None, _CAUSES)
        and not heads[FLAGS_AT::HEAD_BYTES].translate(None, _KNOWN)
    )


def _are_norms(rows: Sequence[bytes], layout: Layout) -> bool:
    """Return whether all norms are such as a gate writes; a row with marks among them is decoded whole."""
    size = norm_bytes(layout)
    start, end, small = HEAD_BYTES, HEAD_BYTES + size * layout.groups, _SMALL[size]
    highs = [row[start + size - 1 : end : size] for row in rows]
    if not b"".join(highs).translate(None, small):
        return True
    unmeasured = _UNMEASURED[size] * layout.groups
    try:
        for row, high in zip(rows, highs, strict=True):
            if high.translate(None, small) and row[start:end] != unmeasured:
                decode_row(row, layout)
    except CorruptLogError:
        return False
    return True


def _charged(rows: Sequence[bytes], heads: bytes, layout: Layout) -> list[int]:
    plain = row_bytes(layout)
    if any(heads[FLAGS_AT::HEAD_BYTES]) or set(map(len, rows)) != {plain}:
        charges = [cut_tail(row, layout)[0] for row in rows]
    else:
        charges = list(_plain_charges(plain, layout.budgets).iter_unpack(b"".join(rows)))
    return [sum(column) for column in zip(*charges, strict=True)]


@cache
def _plain_charges(plain: int, budgets: int) -> struct.Struct:
    return struct.Struct(f"<{plain - 4 * budgets}x{budgets}I")


def _one_by_one(rows: Sequence[bytes], layout: Layout) -> tuple[bytes, list[int]]:
    decoded = []
    for number, row in enumerate(rows):
        try:
            decoded.append(decode_row(row, layout))
        except CorruptLogError as error:
            raise CorruptLogError(error.problem, f"row {number}") from error
    charged = [sum(row.charges[number] for row in decoded) for number in range(layout.budgets)]
    return b"".join(row.example_key for row in decoded), charged
