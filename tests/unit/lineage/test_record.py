"""One fact has one encoding, and the names of the log are those of everybody else."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from support.lineage_runs import LAYOUT, block, row

from aqpolicy.bundle import tables
from aqpolicy.errors import CorruptLogError, LineageError
from aqpolicy.lineage import CAUSES, EFFECTS, NOT_BOOKED, NOT_FINITE, NOT_MEASURED, REASONS, Layout
from aqpolicy.lineage.block import StepBlock, cut_block, decode_blocks, encode_blocks
from aqpolicy.lineage.book import book_bytes, decode_book, encode_book
from aqpolicy.lineage.leaf import HEAD_BYTES, decode_row, encode_row, row_bytes
from aqpolicy.lineage.tally import Tally
from aqpolicy.trace import words

HALF = replace(LAYOUT, norms="float16")


@pytest.mark.parametrize("norm", [math.nan, math.inf, -math.inf, 1e39, -3.0])
def test_a_norm_that_is_no_number_is_written_as_minus_one(norm: float) -> None:
    written = decode_row(encode_row(replace(row(1), norms=(norm, 1.0)), LAYOUT), LAYOUT)
    assert written.norms == (NOT_FINITE, 1.0)


def test_a_norm_that_was_not_measured_is_told_from_one_that_is_no_number() -> None:
    written = decode_row(encode_row(replace(row(1), norms=(NOT_MEASURED, 1.0)), LAYOUT), LAYOUT)
    assert written.norms == (NOT_MEASURED, 1.0)


@pytest.mark.parametrize("bits", ["0000c07f", "0000807f", "00000080", "000040c0"])
def test_other_bits_for_it_are_refused(bits: str) -> None:
    leaf = bytearray(encode_row(row(1), LAYOUT))
    leaf[HEAD_BYTES : HEAD_BYTES + 4] = bytes.fromhex(bits)
    with pytest.raises(CorruptLogError, match="no gate writes"):
        decode_row(bytes(leaf), LAYOUT)


@pytest.mark.parametrize(
    "change",
    [
        {"example_key": b"short"},
        {"norms": (1.0,)},
        {"charges": ()},
        {"effect": "maybe"},
        {"surprisal": 2**32},
        {"entropy": 2**32},
        {"charges": (2**64,)},
        {"route": -1},
        {"exceptions": ((2, 1, 0),)},
        {"exceptions": ((0, 1, 2**32),)},
    ],
)
def test_a_field_that_does_not_fit_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(LineageError):
        encode_row(replace(row(1), **change), LAYOUT)


@pytest.mark.parametrize(
    "change",
    [
        {"lr": math.nan},
        {"movement": (1.0,)},
        {"denominator": 0.0},
        {"denominator": math.inf},
        {"loss_scale": -1.0},
        {"factors": (1.5, 1.0)},
        {"factors": (math.nan, 1.0)},
        {"movement_charges": ()},
        {"drift_charges": (-1,)},
        {"parts": 2**16},
        {"touched": ((2, 0, (1,)),)},
        {"touched": ((0, 0, ()),)},
        {"touched": ((0, 0, (3, 3)),)},
        {"touched": ((0, 0, (2**63,)),)},
        {"touched": ((1, 0, (1,)), (0, 0, (1,)))},
    ],
)
def test_a_book_that_does_not_fit_is_refused(change: dict[str, object]) -> None:
    step = block(0)
    with pytest.raises(LineageError):
        encode_blocks(replace(step, book=replace(step.book, **change)), LAYOUT, 3)


def test_a_movement_keeps_its_last_bit_because_charges_follow_from_it() -> None:
    movement = (math.nextafter(0.1, 1.0), 5e-324)
    book = replace(block(0).book, movement=movement)
    assert decode_book(encode_book(book, LAYOUT), LAYOUT).movement == movement


def test_what_a_book_leaves_out_is_nothing_special() -> None:
    usual = replace(block(0).book, proposed=(), factors=(), drift=(), clip=())
    assert (usual.proposed, usual.factors) == (usual.movement, (1.0, 1.0))
    assert (usual.clip, usual.drift) == ((1.0, 1.0), (NOT_MEASURED, NOT_MEASURED))


def test_rows_and_books_take_the_bytes_that_the_format_says() -> None:
    assert len(encode_row(replace(row(1), sketch=b""), LAYOUT)) == row_bytes(LAYOUT) == 36 + 4 * 2 + 4 * 1
    assert len(encode_row(row(1, lowered=True), LAYOUT)) == row_bytes(LAYOUT) + 2 + 8 + 4 + 5
    assert len(encode_row(replace(row(1), sketch=b"", charges=(2**32,)), LAYOUT)) == row_bytes(LAYOUT) + 4
    assert row_bytes(HALF) == 36 + 2 * 2 + 4 * 1
    usual = replace(block(0).book, proposed=(), factors=(), residual=(NOT_BOOKED,) * 2)
    assert len(encode_book(usual, LAYOUT)) == book_bytes(LAYOUT) == 73 + 8 * 2 + 16 * 1 + 2 + 4
    assert len(encode_book(block(0).book, LAYOUT)) == book_bytes(LAYOUT, 3) == book_bytes(LAYOUT) + 3 * 8 * 2
    touched = replace(usual, touched=((0, 2, (5, 6, 200)),))
    assert len(encode_book(touched, LAYOUT)) == book_bytes(LAYOUT) + 8 + 1 + 1 + 2


@pytest.mark.parametrize("norm", [math.nan, math.inf, 65520.0, -3.0])
def test_a_norm_that_float16_cannot_hold_is_written_as_minus_one(norm: float) -> None:
    written = decode_row(encode_row(replace(row(1), norms=(norm, 0.1)), HALF), HALF)
    assert written.norms == (NOT_FINITE, 0.0999755859375)


def test_a_large_charge_makes_all_of_its_row_wide_and_only_that() -> None:
    layout = Layout(2, 2)
    for charges in ((1, 2**32), (2**64 - 1, 0), (2**32 - 1, 5)):
        leaf = encode_row(replace(row(1), charges=charges, sketch=b""), layout)
        assert decode_row(leaf, layout).charges == charges
        assert len(leaf) == row_bytes(layout) + 8 * (max(charges) >= 2**32)


def test_a_block_of_another_layout_is_refused() -> None:
    (one,) = encode_blocks(block(0), LAYOUT, 3)
    for other in (Layout(3, 1, LAYOUT.phases, LAYOUT.stages), Layout(2, 1), HALF):
        with pytest.raises(CorruptLogError):
            decode_blocks([cut_block(one.data, other)], other)


def test_blocks_of_other_ranks_are_not_put_together() -> None:
    step = replace(block(0), visits=((1, 1), (2, 0)))
    raw = [cut_block(one.data, LAYOUT) for one in encode_blocks(step, LAYOUT, 3)]
    assert decode_blocks(raw, LAYOUT) == step
    for wrong in (raw[1:], raw[::-1], [raw[0], raw[0]], [raw[0], replace(raw[1], parts=(1, 0, 0))]):
        with pytest.raises(CorruptLogError, match="not those of the ranks of one step"):
            decode_blocks(wrong, LAYOUT)


@pytest.mark.parametrize("visits", [((3,),), ((4, -1), (1, 0)), ((2, 2), (0,)), ((),)])
def test_parts_and_ranks_that_are_not_those_of_the_rows_are_refused(visits: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(LineageError, match="do not add up to its 4 rows"):
        encode_blocks(replace(block(0), visits=visits), LAYOUT, 3)


def test_the_names_are_those_of_the_mask_tables() -> None:
    assert (EFFECTS, CAUSES) == (tables.EFFECTS, tables.CAUSES)


def test_the_reasons_are_those_of_the_auditor() -> None:
    assert [getattr(words, name.upper()) for name in REASONS] == list(range(len(REASONS)))


def of(epoch: int, members: tuple[object, ...], **book: object) -> StepBlock:
    step = block(0)
    return replace(step, epoch=epoch, rows=members, book=replace(step.book, **book), visits=())


def test_the_tally_tells_epochs_orders_and_charges_apart() -> None:
    rows, states = block(0).rows, set()
    steps = [of(0, rows), of(1, rows), of(0, rows[:3]), of(0, ()), of(0, rows, movement_charges=(1,))]
    for step in [*steps, of(0, rows, drift_charges=(1,))]:
        tally = Tally(1)
        tally.add(step)
        states.add(tally.budget_state)
    assert len(states) == 6
    one, other = Tally(1), Tally(1)
    one.add(of(0, rows))
    other.add(of(0, rows[::-1]))
    assert one.budget_state == other.budget_state
    assert one.data_cursor != other.data_cursor


def test_an_epoch_starts_its_sums_again_and_the_run_does_not() -> None:
    long, short = Tally(1), Tally(1)
    long.add(of(0, block(0).rows))
    for tally in (long, short):
        tally.add(of(1, block(1).rows))
    assert long.budget_state != short.budget_state
    assert long._sums[0] == short._sums[0]


def test_the_tally_tells_ranks_and_parts_apart() -> None:
    cursors = set()
    for visits in (((4,),), ((2, 2),), ((1, 3),), ((2,), (2,))):
        tally = Tally(1)
        tally.add(replace(block(0), visits=visits))
        cursors.add(tally.data_cursor)
    assert len(cursors) == 4


def test_a_tally_comes_back_and_takes_no_more_than_it_can_say() -> None:
    tally = Tally(1)
    tally.add(block(11))
    again = Tally.from_bytes(tally.to_bytes(), 1)
    assert (again.digest, again.to_bytes(), again.epoch) == (tally.digest, tally.to_bytes(), 1)
    before = again.digest
    with pytest.raises(CorruptLogError, match="more than a log can hold"):
        again.charge(1, [2**64 - 1], [0], [0])
    assert again.digest == before
    with pytest.raises(CorruptLogError, match="another length"):
        Tally.from_bytes(tally.to_bytes() + b"0", 1)
