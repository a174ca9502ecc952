"""The auditor's spending, by hand."""

from __future__ import annotations

import pytest
from support.gating import budget, tables

from aqpolicy.bundle.tables import Row
from aqpolicy.gate import Reason
from aqpolicy.trace import words
from aqpolicy.trace.auditing.ledger import Ledger, Visit, concerned
from aqpolicy.trace.auditing.limits import Decided
from aqpolicy.trace.words import reason_of, verdict_of

NAT = 1_000_000


def decided(row: Row) -> Decided:
    return Decided(row, row.shares, (words.TABLE,) * len(row.shares), row.charged)


def spend(made, *surprisals, keys="abcdef", rows=None):
    rows = rows or [1] * len(surprisals)
    table = made.tables
    return made.step(
        [
            Visit(key.encode(), decided(table.rows[row]), nats)
            for key, row, nats in zip(keys, rows, surprisals, strict=False)
        ]
    )


def test_the_reason_codes_are_the_gates() -> None:
    for reason in Reason:
        assert getattr(words, reason.name) == reason.value
    assert len(words.REASONS) == len(Reason)


def test_an_update_over_its_limit_is_attenuated_to_the_limit() -> None:
    made = Ledger(tables([[1.0, 0.5]], budgets=[budget(groups=(0, 1), per_update=2 * NAT)]))
    (outcome,) = spend(made, 8 * NAT)
    assert outcome.shares == (250_000, 125_000)
    assert outcome.charges == (2 * NAT,)
    assert outcome.reasons == (words.PER_UPDATE,) * 2


@pytest.mark.parametrize(
    ("word", "shares"), [("deny", (0, NAT)), ("defer", (0, 0)), ("attenuate", (500_000, NAT)), ("halt", (0, 0))]
)
def test_what_does_not_fit_is_treated_as_the_budget_says(word: str, shares: tuple[int, int]) -> None:
    made = Ledger(tables([[1.0, 1.0]], budgets=[budget(groups=(0,), per_epoch=3 * NAT, on_exhaust=word)]))
    first, second = spend(made, 2 * NAT, 2 * NAT)
    assert second.shares == shares
    assert first.shares == ((0, 0) if word == "halt" else (NAT, NAT))
    assert made.epoch[0] <= 3 * NAT


def test_an_epoch_gives_its_window_back_and_the_run_does_not() -> None:
    made = Ledger(tables([[1.0]], budgets=[budget(per_epoch=NAT, per_run=int(1.5 * NAT))]))
    assert spend(made, NAT)[0].charges == (NAT,)
    made.start_epoch()
    assert spend(made, NAT, NAT // 2)[0].charges == (0,)
    assert made.run == [NAT]


def test_exposures_count_visits_within_a_step_too() -> None:
    made = Ledger(tables([[1.0]], budgets=[budget(exposures=2)]))
    outcomes = spend(made, 0, 0, 0, keys="aaa")
    assert [outcome.shares for outcome in outcomes] == [(NAT,), (NAT,), (0,)]
    assert spend(made, 5)[0].reasons == (words.EXHAUSTED,)


def test_a_budget_that_does_not_apply_charges_nothing() -> None:
    made = Ledger(tables([[1.0]], budgets=[budget(per_run=0)], charged=[(0,)]))
    (outcome,) = spend(made, NAT)
    assert (outcome.shares, outcome.charges) == ((NAT,), (0,))


def test_a_broken_gradient_closes_its_group_and_is_not_charged() -> None:
    table = tables([[1.0, 1.0]], budgets=[budget(groups=(0,), per_run=NAT)])
    (outcome,) = Ledger(table).step([Visit(b"a", decided(table.rows[1]), NAT, broken=(0,))])
    assert outcome.shares == (0, NAT)
    assert outcome.charges == (0,)
    assert reason_of(outcome.reasons, known=True, refused=False) == words.GRADIENT_NOT_FINITE
    assert verdict_of(table.rows[1], outcome.shares, words.GRADIENT_NOT_FINITE) == ("modulate", "error")


def test_a_loss_without_a_number_learns_nothing() -> None:
    table = tables([[1.0]])
    (outcome,) = Ledger(table).step([Visit(b"a", decided(table.rows[1]), None)])
    assert outcome.shares == (0,)
    assert verdict_of(table.rows[1], outcome.shares, reason_of(outcome.reasons, known=True, refused=False)) == (
        "deny",
        "error",
    )


@pytest.mark.parametrize(
    ("window", "between", "charges"),
    [("step", "start_epoch", (2, 2)), ("phase", "start_epoch", (2, 0)), ("phase", "start_phase", (2, 2))],
)
def test_windows_per_step_and_per_phase(window: str, between: str, charges: tuple[int, int]) -> None:
    one = budget(meters=(("surprisal", window, 3 * NAT),))
    made = Ledger(tables([[1.0]], budgets=[one]))
    for expected in charges:
        outcomes = spend(made, 2 * NAT, 2 * NAT)
        assert sum(outcome.charges[0] for outcome in outcomes) == expected * NAT
        getattr(made, between)()


def test_a_run_that_a_budget_halts_says_which() -> None:
    made = Ledger(tables([[1.0]], budgets=[budget("calm"), budget("strict", per_run=0, on_exhaust="halt")]))
    assert spend(made, 0)[0].shares == (NAT,)
    assert made.halted == ""
    assert spend(made, 1)[0].reasons == (words.HALTED,)
    assert made.halted == "strict"


def test_a_budget_is_concerned_where_something_of_it_was_admitted() -> None:
    table = tables([[1.0, 0.0], [0.0, 1.0]], budgets=[budget("a", (0,)), budget("b", (1,)), budget("c", (0, 1))])
    visits = [Visit(b"a", decided(table.rows[1]), NAT), Visit(b"b", decided(table.rows[2]), None)]
    assert concerned(table, visits, Ledger(table).step(visits)) == (True, False, True)
