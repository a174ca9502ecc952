"""A21: numbers that are none, that have two spellings, or that other readers round."""

from __future__ import annotations

import math
import struct
from dataclasses import replace

import pytest
from support.attacking import put_in_place
from support.lineage_runs import LAYOUT, block, row

from aqpolicy.errors import CanonicalError, CorruptLogError, LineageError
from aqpolicy.lineage import book as books
from aqpolicy.lineage import leaf
from aqpolicy.trust import canonical


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-0", "-0.0", "0.5", "1e400", "1E2", "9007199254740992", "9" * 5_000]
)
def test_signed_json_holds_whole_numbers_that_every_reader_has(text: str) -> None:
    with pytest.raises(CanonicalError):
        canonical.parse_canonical(b'{"n":%s}' % text.encode())


def test_without_the_look_at_floats_a_not_a_number_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_place(monkeypatch, canonical._refuse_number, float)
    put_in_place(monkeypatch, canonical.canonical_json, lambda _: b'{"n":NaN}')
    assert math.isnan(canonical.parse_canonical(b'{"n":NaN}')["n"])


@pytest.mark.parametrize("norm", [math.nan, math.inf, -math.inf, -0.0, -3.0])
def test_a_row_holds_norms_that_a_gate_writes(monkeypatch: pytest.MonkeyPatch, norm: float) -> None:
    data = bytearray(leaf.encode_row(row(1), LAYOUT))
    struct.pack_into("<f", data, leaf.HEAD_BYTES, norm)
    with pytest.raises(CorruptLogError, match="a norm that no gate writes"):
        leaf.decode_row(bytes(data), LAYOUT)
    put_in_place(monkeypatch, leaf.marks_of, lambda *_: set())
    assert repr(leaf.decode_row(bytes(data), LAYOUT).norms[0]) == repr(norm)


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.0, -7.0])
def test_a_book_holds_movements_that_a_gate_writes(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    data = bytearray(books.encode_book(block(0).book, LAYOUT))
    struct.pack_into("<d", data, books.BOOK_HEAD.size, value)
    with pytest.raises(CorruptLogError, match="a number that no gate writes"):
        books.decode_book(bytes(data), LAYOUT)
    put_in_place(monkeypatch, books._are_numbers, lambda *_: True)
    assert repr(books.decode_book(bytes(data), LAYOUT).movement[0]) == repr(value)


@pytest.mark.parametrize("change", [{"lr": math.nan}, {"denominator": 0.0}, {"factors": (2.0, 1.0)}])
def test_none_of_it_is_written(change: dict[str, object]) -> None:
    with pytest.raises(LineageError):
        books.encode_book(replace(block(0).book, **change), LAYOUT)
