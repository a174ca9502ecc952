"""The auditor's spending, by hand."""

from __future__ import annotations

import pytest
from support.gating import budget, tables

from aqpolicy.gate import Reason
from aqpolicy.trace import ledger
from aqpolicy.trace.ledger import Ledger, Visit, reason_of, verdict_of

NAT = 1_000_000


def spend(made, *surprisals, keys="abcdef", rows=None):
    rows = rows or [1] * len(surprisals)
    table = made.tables
    return made.step(
        [Visit(key.encode(), table.rows[row], nats) for key, row, nats in zip(keys, rows, surprisals, strict=False)]
    )


def test_the_reason_codes_are_the_gates() -> None:
    for reason in Reason:
        assert getattr(ledger, reason.name) == reason.value
    assert len(ledger.REASONS) == len(Reason)


def test_an_update_over_its_limit_is_attenuated_to_the_limit() -> None:
    made = Ledger(tables([[1.0, 0.5]], budgets=[budget(groups=(0, 1), per_update=2 * NAT)]))
    (outcome,) = spend(made, 8 * NAT)
    assert outcome.shares == (250_000, 125_000)
    assert outcome.charges == (2 * NAT,)
    assert outcome.reasons == (ledger.PER_UPDATE,) * 2


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
    assert spend(made, 5)[0].reasons == (ledger.EXHAUSTED,)


def test_a_budget_that_does_not_apply_charges_nothing() -> None:
    made = Ledger(tables([[1.0]], budgets=[budget(per_run=0)], charged=[(0,)]))
    (outcome,) = spend(made, NAT)
    assert (outcome.shares, outcome.charges) == ((NAT,), (0,))


def test_a_broken_gradient_closes_its_group_and_is_not_charged() -> None:
    table = tables([[1.0, 1.0]], budgets=[budget(groups=(0,), per_run=NAT)])
    (outcome,) = Ledger(table).step([Visit(b"a", table.rows[1], NAT, broken=(0,))])
    assert outcome.shares == (0, NAT)
    assert outcome.charges == (0,)
    assert reason_of(outcome, known=True, refused=False) == ledger.GRADIENT_NOT_FINITE
    assert verdict_of(table.rows[1], outcome.shares, ledger.GRADIENT_NOT_FINITE) == ("modulate", "error")


def test_a_loss_without_a_number_learns_nothing() -> None:
    table = tables([[1.0]])
    (outcome,) = Ledger(table).step([Visit(b"a", table.rows[1], None)])
    assert outcome.shares == (0,)
    assert verdict_of(table.rows[1], outcome.shares, reason_of(outcome, known=True, refused=False)) == ("deny", "error")
