"""Rows and books: decoding is the inverse of encoding, and one fact has one encoding."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage import CAUSES, EFFECTS, Book, Layout, Row
from aqpolicy.lineage.block import HEAD_BYTES, RawBlock, StepBlock, cut_block, decode_blocks, encode_blocks, key_of_row
from aqpolicy.lineage.entry import (
    KINDS,
    RankEntry,
    StepEntry,
    decode_entry,
    decode_step,
    encode_entry,
    encode_step,
)
from aqpolicy.lineage.leaf import decode_row, encode_row
from aqpolicy.lineage.record import NORMS
from aqpolicy.lineage.scan import scan_rows
from aqpolicy.trust import root_of

LAYOUT = Layout(3, 2, ("warm-up", "tune"), ("trial",))
counts = st.integers(0, 2**32 - 1)
large = st.integers(0, 2**64 - 1)
# The numbers that a log can hold: what is not finite is written as -1, what was not measured as -2.
finite = {width: st.floats(0.0, width=width, allow_nan=False, allow_infinity=False).map(abs) for width in (16, 32)}
norms = {width: st.sampled_from([-1.0, -2.0]) | numbers for width, numbers in finite.items()}
measured = st.floats(0.0, allow_nan=False, allow_infinity=False).map(abs)
floats = st.just(-1.0) | measured


def rows(width: int) -> st.SearchStrategy[Row]:
    return st.builds(
        Row,
        example_key=st.binary(min_size=16, max_size=16),
        manifest_index=counts,
        route=counts,
        effect=st.sampled_from(EFFECTS),
        cause=st.sampled_from(CAUSES),
        reason_code=st.integers(0, 255),
        surprisal=counts,
        norms=st.tuples(*[norms[width]] * 3),
        charges=st.tuples(large | counts, large | counts),
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
    touched=st.dictionaries(
        st.tuples(st.integers(0, 2), st.integers(0, 2**16 - 1)),
        st.sets(st.integers(0, 300) | st.integers(0, 2**63 - 1), min_size=1, max_size=5),
        max_size=3,
    ).map(lambda found: tuple((*place, tuple(sorted(found[place]))) for place in sorted(found))),
)


@st.composite
def visits_of(draw: st.DrawFn, ranks: int) -> tuple[tuple[int, ...], ...]:
    """Return rows per part and rank; at most 8 in all."""
    parts = draw(st.integers(1, 2))
    return tuple(tuple(draw(st.integers(0, 2)) for _ in range(ranks)) for _ in range(parts))


@st.composite
def recorded(draw: st.DrawFn, width: int = 32) -> StepBlock:
    """Return a step of one to three ranks."""
    visits = draw(st.integers(1, 3).flatmap(visits_of))
    count = sum(map(sum, visits))
    members = tuple(draw(st.lists(rows(width), min_size=count, max_size=count)))
    return replace(draw(blocks), rows=members, visits=visits)


blocks = st.builds(
    StepBlock,
    attempt=counts,
    step=st.integers(0, 2**64 - 1),
    epoch=counts,
    time_ns=st.integers(0, 2**64 - 1),
    rows=st.just(()),
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


def cut(step: StepBlock, layout: Layout = LAYOUT) -> list[RawBlock]:
    return [cut_block(one.data, layout) for one in encode_blocks(step, layout, 9)]


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(NORMS))
def test_decode_is_the_inverse_of_encode(data: st.DataObject, kept: str) -> None:
    layout = replace(LAYOUT, norms=kept)
    step = data.draw(recorded(int(kept.removeprefix("float"))))
    written = encode_blocks(step, layout, 9)
    raw = [cut_block(one.data, layout) for one in written]
    for rank, (one, block) in enumerate(zip(written, raw, strict=True)):
        assert (block.rank, block.entry, len(block.rows)) == (rank, 9, one.rows)
        assert block.differing(block.recomputed()) == []
        assert root_of(block.recomputed()) == one.root
        assert list(block.leaves) == one.leaves
    assert decode_blocks(raw, layout) == step
    assert [one.data for one in encode_blocks(decode_blocks(raw, layout), layout, 9)] == [one.data for one in written]


@settings(max_examples=60, deadline=None)
@given(recorded())
def test_a_key_is_read_where_its_row_begins(step: StepBlock) -> None:
    for one in encode_blocks(step, LAYOUT, 9):
        block = cut_block(one.data, LAYOUT)
        found = [key_of_row(memoryview(one.data), number, LAYOUT) for number in range(-1, one.rows + 1)]
        assert found == [b"", *(decode_row(row, LAYOUT).example_key for row in block.rows), b""]


@settings(max_examples=60, deadline=None)
@given(recorded(), st.data())
def test_a_changed_byte_is_noticed_or_is_no_block(step: StepBlock, data: st.DataObject) -> None:
    one = data.draw(st.sampled_from(encode_blocks(step, LAYOUT, 9)))
    head = HEAD_BYTES + 4 * len(step.visits)
    if len(one.data) == head:
        return
    changed = bytearray(one.data)
    changed[data.draw(st.integers(head, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        raw = cut_block(bytes(changed), LAYOUT)
    except CorruptLogError:
        return
    recomputed = raw.recomputed()
    assert raw.differing(recomputed)
    stored_changed = root_of(recomputed) == one.root
    assert stored_changed == (list(raw.leaves) == one.leaves)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_raise_nothing_but_corruption(data: bytes) -> None:
    for decode in (lambda: decode_blocks([cut_block(data, LAYOUT)], LAYOUT), lambda: decode_entry(data)):
        try:
            decode()
        except CorruptLogError:
            continue


@settings(max_examples=100, deadline=None)
@given(recorded(), st.data())
def test_a_leaf_that_decodes_has_no_other_encoding(step: StepBlock, data: st.DataObject) -> None:
    raw = cut(step)
    rank = data.draw(st.integers(0, len(raw) - 1))
    if not raw[rank].leaves:
        return
    number = data.draw(st.integers(0, len(raw[rank].leaves) - 1))
    leaf = bytearray(raw[rank].leaves[number])
    leaf[data.draw(st.integers(0, len(leaf) - 1))] ^= data.draw(st.integers(1, 255))
    leaves = (*raw[rank].leaves[:number], bytes(leaf), *raw[rank].leaves[number + 1 :])
    changed = [*raw[:rank], replace(raw[rank], leaves=leaves), *raw[rank + 1 :]]
    try:
        again = decode_blocks(changed, LAYOUT)
    except CorruptLogError:
        return
    assert cut(again)[rank].leaves == leaves


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from(NORMS), st.booleans())
def test_all_rows_at_once_are_the_rows_one_by_one(data: st.DataObject, kept: str, is_changed: bool) -> None:
    layout = replace(LAYOUT, norms=kept)
    members = data.draw(st.lists(rows(int(kept.removeprefix("float"))), max_size=5))
    leaves = [encode_row(row, layout) for row in members]
    if is_changed and leaves:
        leaf = bytearray(leaves[-1])
        leaf[data.draw(st.integers(0, len(leaf) - 1))] ^= data.draw(st.integers(1, 255))
        leaves[-1] = bytes(leaf)
    try:
        decoded = [decode_row(leaf, layout) for leaf in leaves]
    except CorruptLogError:
        with pytest.raises(CorruptLogError):
            scan_rows(leaves, layout)
        return
    keys = b"".join(row.example_key for row in decoded)
    assert scan_rows(leaves, layout) == (keys, [sum(row.charges[at] for row in decoded) for at in range(2)])


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
