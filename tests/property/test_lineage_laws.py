"""Rows and books: decoding is the inverse of encoding, and one fact has one encoding."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage.entry import KINDS, decode_entry, encode_entry
from aqpolicy.lineage.record import (
    CAUSES,
    EFFECTS,
    Book,
    Layout,
    Row,
    StepBlock,
    cut_block,
    decode_block,
    encode_block,
)

LAYOUT = Layout(groups=3, budgets=2)
counts = st.integers(0, 2**32 - 1)
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
rows = st.builds(
    Row,
    example_key=st.binary(min_size=16, max_size=16),
    manifest_index=st.integers(0, 2**64 - 1),
    route=counts,
    effect=st.sampled_from(EFFECTS),
    cause=st.sampled_from(CAUSES),
    reason_code=st.integers(0, 255),
    surprisal=counts,
    norms=st.tuples(floats, floats, floats),
    charges=st.tuples(counts, counts),
    exceptions=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), counts), max_size=3).map(tuple),
    sketch=st.binary(max_size=20),
)
doubles = st.floats(allow_nan=False, allow_infinity=False)
books = st.builds(
    Book,
    lr=doubles,
    momentum=doubles,
    dampening=doubles,
    weight_decay=doubles,
    nesterov=st.booleans(),
    optimizer=st.sampled_from(["SGD", "AdamW"]),
    movement=st.tuples(floats, floats, floats),
    residual=st.tuples(floats, floats, floats),
    closed=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    denominator=counts,
)
blocks = st.builds(
    StepBlock,
    attempt=counts,
    step=st.integers(0, 2**64 - 1),
    epoch=counts,
    time_ns=st.integers(0, 2**64 - 1),
    rows=st.lists(rows, max_size=4).map(tuple),
    book=books,
)


@given(blocks)
def test_decode_is_the_inverse_of_encode(block: StepBlock) -> None:
    data, root = encode_block(block)
    raw = cut_block(data, LAYOUT)
    assert raw.root == root
    assert raw.damaged is None
    assert decode_block(raw, LAYOUT) == block
    assert encode_block(decode_block(raw, LAYOUT))[0] == data


@given(blocks, st.data())
def test_a_changed_byte_is_noticed_or_is_no_block(block: StepBlock, data: st.DataObject) -> None:
    encoded, root = encode_block(block)
    at = data.draw(st.integers(struct.calcsize("<4sIQIQI"), len(encoded) - 1))
    changed = bytearray(encoded)
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        raw = cut_block(bytes(changed), LAYOUT)
    except CorruptLogError:
        return
    assert raw.root != root or raw.damaged is not None


@given(st.binary(max_size=400))
def test_arbitrary_bytes_raise_nothing_but_corruption(data: bytes) -> None:
    for decode in (lambda: decode_block(cut_block(data, LAYOUT), LAYOUT), lambda: decode_entry(data)):
        try:
            decode()
        except CorruptLogError:
            continue


@given(st.sampled_from(sorted(KINDS)), st.binary(max_size=100))
def test_entries_come_back(kind: int, payload: bytes) -> None:
    assert decode_entry(encode_entry(kind, payload)) == (kind, payload)
