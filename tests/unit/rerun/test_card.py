"""The calibration card: slope, rank correlation, band and coverage of estimates against truths."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqpolicy.errors import InputError
from aqpolicy.rerun.card import card
from aqpolicy.trace.ranking import spearman

numbers = st.floats(-100, 100).map(lambda value: round(value, 3))
columns = st.integers(3, 8).flatmap(lambda size: st.lists(numbers, min_size=size, max_size=size))


def test_estimates_that_are_the_truth_need_no_correction() -> None:
    truth = [[1.0, -2.0, 3.0, 0.5], [0.1, 0.2, -0.3, 0.0]]
    found = card(truth, truth)
    assert (found.slope, found.spearman, found.band, found.coverage) == (1.0, 1.0, 0.0, 1.0)
    assert (found.behaviours, found.groups) == (2, 4)
    assert found.scales[0] == pytest.approx(math.sqrt((1 + 4 + 9 + 0.25) / 4))
    assert found.interval(2.0, found.scales[0]) == (2.0, 2.0)


@given(columns, st.sampled_from([0.25, 2.0, -4.0]))
def test_scaled_estimates_have_the_inverse_slope_and_the_same_band(truth: list[float], factor: float) -> None:
    said = [value + (1.0 if at % 2 else -1.0) for at, value in enumerate(truth)]
    if sum(a * b for a, b in zip(said, truth, strict=True)) == 0:
        return
    one, other = card([said], [truth]), card([[factor * value for value in said]], [truth])
    assert other.slope == pytest.approx(one.slope / factor, rel=1e-9)
    assert other.band == pytest.approx(one.band, rel=1e-9)
    assert other.coverage == pytest.approx(one.coverage)
    if one.spearman is not None:
        assert other.spearman == pytest.approx(one.spearman if factor > 0 else -one.spearman)


def test_a_band_holds_as_many_truths_as_it_says() -> None:
    chance = random.Random(3)
    said = [[chance.gauss(0, 1) for _ in range(60)] for _ in range(20)]
    truth = [[0.8 * value + chance.gauss(0, 0.3) for value in line] for line in said]
    found = card(said, truth)
    assert found.slope == pytest.approx(0.8, abs=0.02)
    assert found.coverage == pytest.approx(0.9, abs=0.03)
    held = [
        low <= true <= high
        for line, scale in enumerate(found.scales)
        for estimate, true in zip(said[line], truth[line], strict=True)
        for low, high in [found.interval(estimate, scale)]
    ]
    assert sum(held) / len(held) == pytest.approx(0.9, abs=0.02)


def test_estimates_that_say_nothing_have_slope_0_and_a_band_of_the_truths_size() -> None:
    found = card([[0.0, 0.0, 0.0, 0.0]], [[1.0, -1.0, 1.0, -1.0]])
    assert (found.slope, found.spearman) == (0.0, None)
    assert found.band == pytest.approx(1.0)
    assert found.scales == pytest.approx((1.0,))
    assert card([[0.0] * 3], [[0.0] * 3]).coverage == 1.0


def test_alike_numbers_share_their_ranks() -> None:
    assert spearman([1, 2, 2, 3], [10, 20, 20, 30]) == pytest.approx(1.0)
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1.0)
    assert spearman([1, 1, 2], [0, 1, 1]) == pytest.approx(0.5)
    assert spearman([1, 1, 1], [1, 2, 3]) is None


@pytest.mark.parametrize(
    ("said", "true"),
    [
        ([[1.0, 2.0]], [[1.0, 2.0]]),
        ([[1.0, 2.0, 3.0]], [[1.0, 2.0]]),
        ([[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]] * 2),
        ([[1.0, 2.0, 3.0], [1.0]], [[1.0, 2.0, 3.0], [1.0]]),
        ([[1.0, 2.0, math.nan]], [[1.0, 2.0, 3.0]]),
        ([[1.0, 2.0, 3.0]], [[1.0, 2.0, math.inf]]),
        ([], []),
    ],
)
def test_what_makes_no_card_is_refused(said: list[list[float]], true: list[list[float]]) -> None:
    with pytest.raises(InputError, match="a card needs"):
        card(said, true)
