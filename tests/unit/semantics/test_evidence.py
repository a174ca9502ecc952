"""The judgments behind a label are weighed exactly, and echoes count once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aqpolicy.diagnostics import Span
from aqpolicy.model.policy import Evidence, Weights
from aqpolicy.semantics import Judgment, weigh

HERE = Span("evidence.aqp", 0, 0, 1, 1)
AUTHORITY = Weights("authority", (("crowd", 300_000), ("board", 2_000_000)), HERE)
TOOL = Weights("tool", (("hand", 1_000_000), ("model", 333_333)), HERE)
MICRO = 1_000_000


def evidence(
    *weights: Weights, keys: Sequence[str] = ("session", "model"), floor: int = 0, ceiling: int = 5 * MICRO
) -> Evidence:
    return Evidence(weights, tuple(keys), floor, ceiling, HERE)


BOTH = evidence(AUTHORITY, TOOL)


def test_nothing_weighs_as_much_as_the_floor() -> None:
    assert weigh(evidence(AUTHORITY, floor=7), []) == 7


def test_a_judgment_counts_the_product_of_its_weights_rounded_down() -> None:
    assert weigh(BOTH, [{"authority": "crowd", "tool": "model"}]) == 99_999
    assert weigh(BOTH, [{"authority": "board", "tool": "model"}]) == 666_666


def test_each_product_is_rounded_down_before_the_next() -> None:
    least = Weights("x", (("a", 1),), HERE)
    again = Weights("y", (("a", 3 * MICRO),), HERE)
    half = Weights("z", (("a", MICRO // 2),), HERE)
    assert weigh(evidence(least, half, again), [{"x": "a", "y": "a", "z": "a"}]) == 0
    assert weigh(evidence(least, again, half), [{"x": "a", "y": "a", "z": "a"}]) == 1


@pytest.mark.parametrize("judgment", [{}, {"authority": "board"}, {"authority": "nobody", "tool": "hand"}])
def test_what_is_missing_or_not_named_counts_nothing(judgment: Judgment) -> None:
    assert weigh(BOTH, [judgment]) == 0


def test_without_weights_every_independent_judgment_counts_one() -> None:
    assert weigh(evidence(), [{"session": "a"}, {"session": "b"}, {}]) == 3 * MICRO


def test_echoes_count_as_their_strongest() -> None:
    crowd, board = {"authority": "crowd", "session": "s"}, {"authority": "board", "session": "s"}
    assert weigh(evidence(AUTHORITY), [crowd, board, crowd]) == 2 * MICRO


def test_echoes_reach_through_others_and_across_keys() -> None:
    chain = [
        {"authority": "board", "session": "a"},
        {"authority": "board", "session": "b", "model": "m"},
        {"authority": "crowd", "session": "a", "model": "m"},
    ]
    assert weigh(evidence(AUTHORITY), chain[:2]) == 4 * MICRO
    assert weigh(evidence(AUTHORITY), chain) == 2 * MICRO


def test_values_of_different_keys_are_not_shared() -> None:
    assert weigh(evidence(), [{"session": "x"}, {"model": "x"}]) == 2 * MICRO


def test_a_judgment_without_a_key_shares_nothing_by_it() -> None:
    assert weigh(evidence(), [{}, {}]) == 2 * MICRO


def test_the_sum_is_kept_below_the_ceiling() -> None:
    assert weigh(evidence(ceiling=2 * MICRO), [{"session": str(n)} for n in range(9)]) == 2 * MICRO


judgments = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "authority": st.sampled_from(("crowd", "board", "nobody")),
            "tool": st.sampled_from(("hand", "model")),
            "session": st.sampled_from(("a", "b", "c", "d")),
            "model": st.integers(0, 3),
        },
    ),
    max_size=8,
)
WIDE = evidence(AUTHORITY, TOOL, floor=100_000, ceiling=3 * MICRO)
OPEN = evidence(AUTHORITY, TOOL, ceiling=100 * MICRO)


@given(judgments, st.randoms())
def test_the_order_of_judgments_never_matters(found: list[Judgment], random: object) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis' own Random
    assert weigh(OPEN, shuffled) == weigh(OPEN, found)


@given(judgments.filter(bool), st.data())
def test_an_echo_adds_nothing(found: list[Judgment], data: st.DataObject) -> None:
    echoed = data.draw(st.sampled_from(found))
    keyed = {**echoed, "session": echoed.get("session", "own")}
    once = [keyed if judgment is echoed else judgment for judgment in found]
    assert weigh(OPEN, [*once, keyed]) == weigh(OPEN, once)
    assert weigh(OPEN, [*once, {"session": keyed["session"]}]) == weigh(OPEN, once)


@given(judgments, st.sampled_from(("crowd", "board")))
def test_an_independent_judgment_never_lowers(found: list[Judgment], authority: str) -> None:
    independent = {"authority": authority, "tool": "hand", "session": "another"}
    assert weigh(WIDE, [*found, independent]) >= weigh(WIDE, found)
    assert weigh(OPEN, [*found, independent]) == weigh(OPEN, found) + weigh(OPEN, [independent])


@given(judgments)
def test_the_value_is_one_of_the_attribute(found: list[Judgment]) -> None:
    assert WIDE.floor <= weigh(WIDE, found) <= WIDE.ceiling
