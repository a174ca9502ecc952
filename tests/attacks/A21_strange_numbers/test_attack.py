"""A21: numbers that are none, that have two spellings, or that other readers round."""

from __future__ import annotations

import math
import struct
from dataclasses import replace

import pytest
from support.attacking import denied, put_in_place, take_away
from support.lineage_runs import LAYOUT, block, row

from aqpolicy.errors import CanonicalError, CorruptLogError, LineageError
from aqpolicy.lineage import book as books
from aqpolicy.lineage import leaf
from aqpolicy.trust import canonical

NO_INTEGER, TOO_LARGE = "is not an integer", "an integer is beyond 53 bits"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("NaN", NO_INTEGER),
        ("Infinity", NO_INTEGER),
        ("-0.0", NO_INTEGER),
        ("0.5", NO_INTEGER),
        ("1e400", NO_INTEGER),
        ("1E2", NO_INTEGER),
        ("-0", "the bytes are not the canonical form"),
        ("9007199254740992", TOO_LARGE),
        ("9" * 5_000, TOO_LARGE),
    ],
    ids=lambda text: text[:20],
)
def test_signed_json_holds_whole_numbers_that_every_reader_has(text: str, said: str) -> None:
    denied(lambda: canonical.parse_canonical(b'{"n":%s}' % text.encode()), CanonicalError, said)


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e400", "0.1000000000000000055"])
def test_without_the_look_at_floats_other_numbers_are_read(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    data = b'{"n":%s}' % text.encode()
    denied(lambda: canonical.parse_canonical(data), CanonicalError, f"`{text}` is not an integer")
    put_in_place(monkeypatch, canonical._refuse_number, float)
    denied(lambda: canonical.parse_canonical(data), CanonicalError, "a `float` has no canonical form")
    take_away(monkeypatch, canonical.parse_canonical, "the bytes are not the canonical form")
    put_in_place(monkeypatch, canonical.canonical_json, lambda _: data)
    assert repr(canonical.parse_canonical(data)["n"]) == repr(float(text))


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
    book = replace(block(0).book, **change)
    denied(lambda: books.encode_book(book, LAYOUT), LineageError, "the book of a step holds a")
