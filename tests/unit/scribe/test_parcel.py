"""A step that travelled is the step that was sent."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.lineage_runs import LAYOUT
from support.step_columns import columns

from aqpolicy.errors import LineageError
from aqpolicy.lineage.leaf import LARGEST_NORM
from aqpolicy.scribe.columns import StepColumns
from aqpolicy.scribe.parcel import pack, unpack
from aqpolicy.scribe.ring import Column, Ring, reserve

SIZE = 1 << 16
RING = Ring(reserve(SIZE), SIZE)


def travelled(step: StepColumns) -> StepColumns:
    """Return a step as the other process gets it."""
    position = 0
    column: Column | None = None
    for column in pack(step):
        RING.put(position, column, 0, column.span)
        position += column.span
    assert column is not None
    return unpack(RING.take(0, position), column.span)


def same(one: Any, other: Any) -> bool:
    """Return whether two values are the same, to the bit and the type; a list may have become a tuple."""
    if is_dataclass(one):
        return type(one) is type(other) and all(
            same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)
        )
    if isinstance(one, np.ndarray):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and repr(one) == repr(other)


HARD = (-0.0, -1e-50, -1.0, -1.0000000001, -2.0, -2.0000000001, -3.0, LARGEST_NORM, LARGEST_NORM * (1 + 2.0**-30))
odd_norms = st.sampled_from([*HARD, 1e39, 1e-46, float("inf"), float("-inf"), float("nan")]) | st.floats(0, 1e38)
steps = st.builds(columns, st.integers(0, 2**30), st.integers(0, 9))


@settings(max_examples=100, deadline=None)
@given(steps, st.data())
def test_a_step_travels_unchanged(step: StepColumns, data: st.DataObject) -> None:
    book = replace(
        step.book,
        lr=data.draw(st.floats()),
        movement=tuple(data.draw(st.lists(st.floats(), max_size=30))),
        movement_charges=tuple(data.draw(st.lists(st.integers(0, 2**64), max_size=30))),
        closed=tuple(data.draw(st.lists(st.booleans(), max_size=30))),
    )
    sent = replace(step, book=book, phase=data.draw(st.text(max_size=5)), norms=step.norms.astype(np.float32))
    assert same(sent, travelled(sent))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(odd_norms, odd_norms), max_size=4))
def test_rounding_norms_on_the_way_changes_no_byte_of_the_log(norms: list[tuple[float, float]]) -> None:
    sent = replace(columns(0, len(norms)), norms=np.array(norms, np.float64).reshape(-1, 2))
    came = travelled(sent)
    assert came.leaves(LAYOUT) == sent.leaves(LAYOUT)
    assert same(replace(came, norms=sent.norms), sent)


@pytest.mark.parametrize("norm", [*HARD, 1e39, float("nan")])
def test_one_hard_norm_changes_no_byte_of_the_log(norm: float) -> None:
    sent = replace(columns(0), norms=np.array([[0.5, norm], [0.0, 1.0], [2.0, 3.0], [1e-46, 0.25]]))
    assert travelled(sent).leaves(LAYOUT) == sent.leaves(LAYOUT)


def test_numbers_of_numpy_arrive_as_numbers() -> None:
    step = columns(0)
    book = replace(step.book, movement=tuple(np.array([0.25, 4.0] * 20)), closed=tuple(np.array([False, True])))
    came = travelled(replace(step, book=book, today=np.int64(7)))
    assert same(came.book, replace(step.book, movement=(0.25, 4.0) * 20, closed=(False, True)))
    assert (came.today, type(came.today)) == (7, int)


def test_numbers_of_numpy_among_many_others_are_refused_at_the_latest_where_they_arrive() -> None:
    step = columns(0)
    mixed = (*[0.5] * 20, np.float64(0.5))
    with pytest.raises(LineageError, match="several kinds"):
        travelled(replace(step, book=replace(step.book, movement=mixed)))


def test_columns_of_any_order_in_memory_arrive_in_theirs() -> None:
    step = columns(0)
    turned = replace(step, norms=np.asfortranarray(step.norms), index=np.repeat(step.index, 2)[::2])
    assert same(travelled(turned), replace(step, norms=step.norms.astype(np.float32)))


def test_what_is_no_number_text_or_column_is_refused() -> None:
    for wrong in (object(), {"a": 1}, np.array([object()])):
        with pytest.raises(LineageError, match="cannot be handed"):
            list(pack(replace(columns(0), today=wrong)))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 12))
def test_a_cut_step_is_refused(length: int) -> None:
    parts = list(pack(columns(0)))
    whole = b"".join(part.values.tobytes() for part in parts)
    before = len(whole) - parts[-1].span
    end = before + length % (parts[-1].span - columns(0).charges.nbytes)
    with pytest.raises(LineageError, match="damaged"):
        unpack(whole[:end], end - before)
