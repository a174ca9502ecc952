"""One fact has one encoding, and the names of the log are those of everybody else."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from support.lineage_runs import LAYOUT, block, row

from aqpolicy.bundle import tables
from aqpolicy.errors import CorruptLogError, LineageError
from aqpolicy.gate.accountant import Reason
from aqpolicy.lineage import NOT_FINITE, REASONS, Layout
from aqpolicy.lineage.record import CAUSES, EFFECTS, cut_block, decode_block, decode_row, encode_block, encode_row
from aqpolicy.lineage.tally import Tally


@pytest.mark.parametrize("norm", [math.nan, math.inf, -math.inf, 1e39, -2.0])
def test_a_norm_that_is_no_number_is_written_as_minus_one(norm: float) -> None:
    written = decode_row(encode_row(replace(row(1), norms=(norm, 1.0)), LAYOUT), LAYOUT)
    assert written.norms == (NOT_FINITE, 1.0)


@pytest.mark.parametrize("bits", ["0000c07f", "0000807f", "00000080", "000000c0"])
def test_other_bits_for_it_are_refused(bits: str) -> None:
    leaf = bytearray(encode_row(row(1), LAYOUT))
    leaf[48:52] = bytes.fromhex(bits)
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
        {"route": -1},
        {"exceptions": ((2, 1, 0),)},
        {"exceptions": ((0, 1, 2**32),)},
    ],
)
def test_a_field_that_does_not_fit_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(LineageError):
        encode_row(replace(row(1), **change), LAYOUT)


@pytest.mark.parametrize("change", [{"lr": math.nan}, {"movement": (1.0,)}, {"denominator": -1}])
def test_a_book_that_does_not_fit_is_refused(change: dict[str, object]) -> None:
    step = block(0)
    with pytest.raises(LineageError):
        encode_block(replace(step, book=replace(step.book, **change)), LAYOUT)


def test_a_row_takes_the_bytes_that_the_format_says() -> None:
    assert len(encode_row(replace(row(1), sketch=b""), LAYOUT)) == LAYOUT.row_bytes == 48 + 4 * (2 + 1)
    assert len(encode_row(row(1, lowered=True), LAYOUT)) == LAYOUT.row_bytes + 8 + 5


def test_a_block_of_another_layout_is_refused() -> None:
    data, _ = encode_block(block(0), LAYOUT)
    with pytest.raises(CorruptLogError):
        decode_block(cut_block(data, Layout(3, 1)), Layout(3, 1))


def test_the_names_are_those_of_the_mask_tables() -> None:
    assert (EFFECTS, CAUSES) == (tables.EFFECTS, tables.CAUSES)


def test_the_reasons_are_those_of_the_gate() -> None:
    assert tuple(reason.name.lower() for reason in Reason) == REASONS


def test_the_tally_tells_epochs_orders_and_charges_apart() -> None:
    rows, states = block(0).rows, set()
    for epoch, members in [(0, rows), (1, rows), (0, rows[:3]), (0, ())]:
        tally = Tally(1)
        tally.add(epoch, members)
        states.add(tally.budget_state)
    assert len(states) == 4
    one, other = Tally(1), Tally(1)
    one.add(0, rows)
    other.add(0, rows[::-1])
    assert one.budget_state == other.budget_state
    assert one.data_cursor != other.data_cursor


def test_an_epoch_starts_its_sums_again_and_the_run_does_not() -> None:
    long, short = Tally(1), Tally(1)
    long.add(0, block(0).rows)
    for tally in (long, short):
        tally.add(1, block(1).rows)
    assert long.budget_state != short.budget_state
    assert long._epoch == short._epoch
