"""One fact has one encoding, and the names of the log are those of everybody else."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from support.lineage_runs import LAYOUT, block, row

from aqpolicy.bundle import tables
from aqpolicy.errors import CorruptLogError, LineageError
from aqpolicy.lineage import CAUSES, EFFECTS, NOT_FINITE, NOT_MEASURED, REASONS, Layout
from aqpolicy.lineage.block import StepBlock, cut_block, decode_block, encode_block
from aqpolicy.lineage.leaf import book_bytes, decode_book, decode_row, encode_book, encode_row, row_bytes
from aqpolicy.lineage.tally import Tally
from aqpolicy.trace import words


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
    leaf[52:56] = bytes.fromhex(bits)
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
    ],
)
def test_a_book_that_does_not_fit_is_refused(change: dict[str, object]) -> None:
    step = block(0)
    with pytest.raises(LineageError):
        encode_block(replace(step, book=replace(step.book, **change)), LAYOUT)


def test_a_movement_keeps_its_last_bit_because_charges_follow_from_it() -> None:
    movement = (math.nextafter(0.1, 1.0), 5e-324)
    book = replace(block(0).book, movement=movement)
    assert decode_book(encode_book(book, LAYOUT), LAYOUT).movement == movement


def test_what_a_book_leaves_out_is_nothing_special() -> None:
    usual = replace(block(0).book, proposed=(), factors=(), drift=(), clip=())
    assert (usual.proposed, usual.factors) == (usual.movement, (1.0, 1.0))
    assert (usual.clip, usual.drift) == ((1.0, 1.0), (NOT_MEASURED, NOT_MEASURED))


def test_rows_and_books_take_the_bytes_that_the_format_says() -> None:
    assert len(encode_row(replace(row(1), sketch=b""), LAYOUT)) == row_bytes(LAYOUT) == 52 + 4 * 2 + 8 * 1
    assert len(encode_row(row(1, lowered=True), LAYOUT)) == row_bytes(LAYOUT) + 8 + 5
    assert len(encode_book(block(0).book, LAYOUT)) == book_bytes(LAYOUT) == 72 + 49 * 2 + 16 * 1


def test_a_block_of_another_layout_is_refused() -> None:
    data, _, _ = encode_block(block(0), LAYOUT)
    for other in (Layout(3, 1, LAYOUT.phases, LAYOUT.stages), Layout(2, 1)):
        with pytest.raises(CorruptLogError):
            decode_block(cut_block(data, other), other)


def test_the_names_are_those_of_the_mask_tables() -> None:
    assert (EFFECTS, CAUSES) == (tables.EFFECTS, tables.CAUSES)


def test_the_reasons_are_those_of_the_auditor() -> None:
    assert [getattr(words, name.upper()) for name in REASONS] == list(range(len(REASONS)))


def of(epoch: int, members: tuple[object, ...], **book: object) -> StepBlock:
    step = block(0)
    return replace(step, epoch=epoch, rows=members, book=replace(step.book, **book))


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
    assert long._epoch == short._epoch
