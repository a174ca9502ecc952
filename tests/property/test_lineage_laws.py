"""Rows and books: decoding is the inverse of encoding, and one fact has one encoding."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage import CAUSES, EFFECTS, Book, Layout, Row
from aqpolicy.lineage.block import HEAD_BYTES, StepBlock, cut_block, decode_block, encode_block
from aqpolicy.lineage.entry import (
    KINDS,
    RankEntry,
    StepEntry,
    decode_entry,
    decode_step,
    encode_entry,
    encode_step,
)
from aqpolicy.trust import root_of

LAYOUT = Layout(3, 2, ("warm-up", "tune"), ("trial",))
counts = st.integers(0, 2**32 - 1)
large = st.integers(0, 2**64 - 1)
# The numbers that a log can hold: what is not finite is written as -1, what was not measured as -2.
norms = st.sampled_from([-1.0, -2.0]) | st.floats(0.0, width=32, allow_nan=False, allow_infinity=False).map(abs)
measured = st.floats(0.0, allow_nan=False, allow_infinity=False).map(abs)
floats = st.just(-1.0) | measured
rows = st.builds(
    Row,
    example_key=st.binary(min_size=16, max_size=16),
    manifest_index=st.integers(0, 2**64 - 1),
    route=counts,
    effect=st.sampled_from(EFFECTS),
    cause=st.sampled_from(CAUSES),
    reason_code=st.integers(0, 255),
    surprisal=counts,
    norms=st.tuples(norms, norms, norms),
    charges=st.tuples(large, large),
    exceptions=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 13), counts), max_size=3).map(tuple),
    sketch=st.binary(max_size=20),
    entropy=counts,
)
positive = measured.filter(bool)
part = st.floats(0.0, 1.0).map(abs)
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
    denominator=positive,
    mixed=st.booleans(),
    parts=st.integers(0, 2**16 - 1),
    loss_scale=positive,
    proposed=st.tuples(floats, floats, floats),
    factors=st.tuples(part, part, part),
    drift=st.tuples(*[floats | st.just(-2.0)] * 3),
    clip=st.tuples(floats, floats, floats),
    movement_charges=st.tuples(large, large),
    drift_charges=st.tuples(large, large),
)
blocks = st.builds(
    StepBlock,
    attempt=counts,
    step=st.integers(0, 2**64 - 1),
    epoch=counts,
    time_ns=st.integers(0, 2**64 - 1),
    rows=st.lists(rows, max_size=4).map(tuple),
    book=books,
    phase=st.sampled_from(["", "warm-up", "tune"]),
    stage=st.sampled_from(["", "trial"]),
    today=st.integers(-(2**31), 2**31 - 1),
)

digests = st.binary(min_size=32, max_size=32)
steps = st.integers(0, 2**64 - 1)
STEP_FIELDS = (
    st.binary(min_size=16, max_size=16),
    counts,
    steps,
    counts,
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**16 - 1),
    st.integers(-(2**31), 2**31 - 1),
    steps,
    *[digests] * 4,
)


def ranks(parts: list[tuple[int, int, bytes]]) -> tuple[RankEntry, ...]:
    return tuple(RankEntry(number, rows, cells, root) for number, (rows, cells, root) in enumerate(parts))


@settings(max_examples=60, deadline=None)
@given(blocks)
def test_decode_is_the_inverse_of_encode(block: StepBlock) -> None:
    data, root, rows = encode_block(block, LAYOUT)
    assert rows == len(block.rows)
    raw = cut_block(data, LAYOUT)
    assert raw.recomputed() == list(raw.hashes)
    assert root_of(raw.hashes) == root
    assert decode_block(raw, LAYOUT) == block
    assert encode_block(decode_block(raw, LAYOUT), LAYOUT)[0] == data


@settings(max_examples=60, deadline=None)
@given(blocks, st.data())
def test_a_changed_byte_is_noticed_or_is_no_block(block: StepBlock, data: st.DataObject) -> None:
    encoded, root, _ = encode_block(block, LAYOUT)
    at = data.draw(st.integers(HEAD_BYTES, len(encoded) - 1))
    changed = bytearray(encoded)
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        raw = cut_block(bytes(changed), LAYOUT)
    except CorruptLogError:
        return
    assert raw.recomputed() != list(raw.hashes)
    assert root_of(raw.recomputed()) == root or root_of(raw.hashes) == root


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_raise_nothing_but_corruption(data: bytes) -> None:
    for decode in (lambda: decode_block(cut_block(data, LAYOUT), LAYOUT), lambda: decode_entry(data)):
        try:
            decode()
        except CorruptLogError:
            continue


@settings(max_examples=60, deadline=None)
@given(blocks, st.data())
def test_a_block_that_decodes_has_no_other_encoding(block: StepBlock, data: st.DataObject) -> None:
    encoded, _, _ = encode_block(block, LAYOUT)
    raw = cut_block(encoded, LAYOUT)
    number = data.draw(st.integers(0, len(raw.leaves) - 1))
    leaf = bytearray(raw.leaves[number])
    leaf[data.draw(st.integers(0, len(leaf) - 1))] ^= data.draw(st.integers(1, 255))
    leaves = (*raw.leaves[:number], bytes(leaf), *raw.leaves[number + 1 :])
    try:
        again = decode_block(replace(raw, leaves=leaves), LAYOUT)
    except CorruptLogError:
        return
    assert cut_block(encode_block(again, LAYOUT)[0], LAYOUT).leaves == leaves


@settings(max_examples=60, deadline=None)
@given(
    st.builds(StepEntry, *STEP_FIELDS, st.lists(st.tuples(counts, counts, digests), min_size=1, max_size=5).map(ranks))
)
def test_step_entries_of_any_number_of_ranks_come_back(entry: StepEntry) -> None:
    payload = encode_step(entry)
    assert decode_step(payload) == entry
    assert len(payload) == 180 + 48 * len(entry.ranks)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_step_entry_or_the_encoding_of_one(data: bytes) -> None:
    try:
        entry = decode_step(data)
    except CorruptLogError:
        return
    assert encode_step(entry) == data


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.binary(max_size=100))
def test_entries_come_back(kind: int, payload: bytes) -> None:
    assert decode_entry(encode_entry(kind, payload)) == (kind, payload)
