"""What the auditor leaves of a row before budgets, by hand."""

from __future__ import annotations

from dataclasses import replace

from support.gating import budget, tables

from aqpolicy.bundle.tables import NO_LIMIT, AttributeTable, ObligationTable, Row, Tables
from aqpolicy.trace import words
from aqpolicy.trace.auditing.limits import Limits
from aqpolicy.units import MICRO

KEY, OTHER = b"a" * 16, b"b" * 16
DOUBT = AttributeTable("doubt", "numeric", (), (0,), MICRO, 1, (-1,))


def policy(row: Row, *obligations: ObligationTable) -> Tables:
    made = tables([[1.0, 1.0]], budgets=[budget("b", (0,))])
    return replace(made, attributes=(*made.attributes, DOUBT), rows=(*made.rows, row), obligations=tuple(obligations))


def open_row(*obligations: int, linear: tuple[tuple[int, int, int, int], ...] = ()) -> Row:
    return Row("modulate", "granted", (MICRO, MICRO), (NO_LIMIT,) * 2, (MICRO,), (), "", linear, obligations)


def often(groups: tuple[int, ...], updates: int, steps: int) -> ObligationTable:
    return ObligationTable("frequency", "r", "", {"groups": groups, "updates": updates, "steps": steps})


def wait(epochs: int) -> ObligationTable:
    return ObligationTable("defer", "r", "", {"epochs": epochs})


def waiting_row(*obligations: int) -> Row:
    return Row("defer", "denied", (0, 0), (NO_LIMIT,) * 2, (0,), (), "", (), obligations)


def test_a_linear_limit_is_kept_between_nothing_and_the_whole() -> None:
    row = open_row(linear=((0, 1, 2 * MICRO, -3 * MICRO), (1, 1, MICRO, -MICRO // 2)))
    limits = Limits(policy(row))
    for doubt, shares in ((0, (MICRO, MICRO)), (500_000, (500_000, 750_000)), (MICRO, (0, 500_000))):
        found = limits.decide(KEY, row, {"doubt": doubt}, 0, 0)
        assert found.shares == shares
        assert found.charged == (shares[0],)
        assert found.reasons == tuple(words.LINEAR if share < MICRO else words.TABLE for share in shares)


def test_a_linear_limit_rounds_down_also_below_zero() -> None:
    row = open_row(linear=((0, 1, 10, -1),))
    assert Limits(policy(row)).decide(KEY, row, {"doubt": 1}, 0, 0).shares[0] == 9


def test_a_frequency_limit_counts_steps_in_a_sliding_window_and_group_by_group() -> None:
    row = open_row(0)
    limits = Limits(policy(row, often((0,), 2, 4)))
    told = []
    for step in range(9):
        found = limits.decide(KEY, row, {}, step, 0)
        told.append(found.shares[0] > 0)
        assert found.shares[1] == MICRO
        assert found.reasons[0] == (words.TABLE if told[-1] else words.FREQUENCY)
        limits.book(step, [(row, found.shares), (row, found.shares)])
    assert told == [True, True, False, False] * 2 + [True]


def test_a_step_in_which_nothing_was_admitted_in_the_end_does_not_count() -> None:
    row = open_row(0)
    limits = Limits(policy(row, often((0,), 1, 2)))
    limits.book(0, [(row, (0, MICRO))])
    assert limits.decide(KEY, row, {}, 1, 0).shares[0] == MICRO
    limits.book(1, [(row, (1, 0))])
    assert limits.decide(KEY, row, {}, 2, 0).shares[0] == 0


def test_what_is_held_gets_nothing_and_what_was_closed_before_says_so() -> None:
    check = ObligationTable("verify", "r", "", {})
    row = open_row(0, 1)
    limits = Limits(policy(row, often((0,), 0, 1), check))
    limits.held = frozenset({1})
    found = limits.decide(KEY, row, {}, 0, 0)
    assert (found.shares, found.charged) == ((0, 0), (0,))
    assert found.reasons == (words.FREQUENCY, words.HELD)
    other = open_row(0)
    assert limits.decide(KEY, other, {}, 0, 0).shares == (0, MICRO)


def test_a_deferral_expires_after_its_epochs_example_by_example() -> None:
    row = waiting_row(0)
    limits = Limits(policy(row, wait(2)))
    assert [limits.decide(KEY, row, {}, epoch, epoch).expired for epoch in range(4)] == [False, False, True, True]
    late = limits.decide(OTHER, row, {}, 3, 3)
    assert (late.expired, late.reasons) == (False, (words.TABLE,) * 2)
    assert limits.decide(KEY, row, {}, 3, 3).reasons == (words.DEFERRAL_EXPIRED,) * 2


def test_a_deferral_is_forgotten_by_a_visit_that_does_not_wait_for_it() -> None:
    first, second = waiting_row(0), waiting_row(1)
    limits = Limits(policy(first, wait(2), wait(2)))
    limits.decide(KEY, first, {}, 0, 0)
    limits.decide(KEY, second, {}, 1, 1)
    assert not limits.decide(KEY, first, {}, 2, 2).expired
    assert not limits.decide(KEY, second, {}, 3, 3).expired
    assert limits.decide(KEY, second, {}, 5, 5).expired
