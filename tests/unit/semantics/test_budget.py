"""The meaning of spending, one number at a time."""

from __future__ import annotations

from typing import Literal

import pytest

from aqpolicy.bundle.tables import NO_LIMIT, BudgetTable
from aqpolicy.semantics import Ledger, Reason, Spent, StepSpending, empty_ledger, spend, start_epoch

NAT = 1_000_000
WHOLE = 1_000_000
Exhaust = Literal["deny", "defer", "attenuate", "halt"]


def budget(
    on_exhaust: Exhaust = "deny",
    groups: tuple[int, ...] = (0, 1),
    per_update: int = NO_LIMIT,
    per_epoch: int = NO_LIMIT,
    per_run: int = NO_LIMIT,
    exposures: int = NO_LIMIT,
    name: str = "b",
) -> BudgetTable:
    return BudgetTable(name, groups, per_update, per_epoch, per_run, exposures, on_exhaust)


def step(
    budgets: list[BudgetTable],
    surprisals: list[int | None],
    *,
    shares: tuple[int, ...] = (WHOLE, WHOLE),
    ledger: Ledger | None = None,
    keys: list[bytes] | None = None,
) -> StepSpending:
    n = len(surprisals)
    charged = [tuple(max(shares[g] for g in each.groups) for each in budgets)] * n
    names = keys or [b"example %d" % i for i in range(n)]
    return spend(budgets, ledger or empty_ledger(budgets), [shares] * n, charged, surprisals, names)


def test_what_fits_is_untouched_and_charged_its_surprisal() -> None:
    done = step([budget(per_run=10 * NAT)], [2 * NAT, 3 * NAT])
    assert [outcome.effect for outcome in done.outcomes] == [None, None]
    assert [outcome.charges for outcome in done.outcomes] == [(2 * NAT,), (3 * NAT,)]
    assert (done.ledger[0].run, done.ledger[0].epoch) == (5 * NAT, 5 * NAT)


def test_a_charge_is_rounded_up() -> None:
    done = step([budget(per_run=10)], [1], shares=(1, 0))
    assert done.outcomes[0].charges == (1,)


def test_a_limit_per_update_scales_every_covered_group() -> None:
    done = step([budget(groups=(0,), per_update=NAT)], [4 * NAT], shares=(WHOLE, 500_000))
    assert done.outcomes[0].shares == (250_000, 500_000)
    assert done.outcomes[0].reasons == (Reason.PER_UPDATE, Reason.TABLE)
    assert (done.outcomes[0].effect, done.outcomes[0].charges) == ("modulate", (NAT,))


def test_a_limit_per_update_takes_the_largest_covered_share_as_its_measure() -> None:
    done = step([budget(per_update=NAT)], [4 * NAT], shares=(500_000, WHOLE))
    assert done.outcomes[0].shares == (125_000, 250_000)


def test_the_least_of_two_limits_per_update_wins() -> None:
    done = step([budget(groups=(0,), per_update=NAT), budget(per_update=2 * NAT)], [4 * NAT])
    assert done.outcomes[0].shares == (250_000, 500_000)


def test_a_loss_that_is_not_finite_teaches_nothing_and_costs_nothing() -> None:
    done = step([budget(exposures=1)], [None])
    assert (done.outcomes[0].effect, done.outcomes[0].shares, done.outcomes[0].charges) == ("deny", (0, 0), (0,))
    assert done.ledger == empty_ledger([budget()])


def test_the_example_that_no_longer_fits_is_denied_in_covered_groups_only() -> None:
    done = step([budget(groups=(0,), per_epoch=3 * NAT)], [2 * NAT, 2 * NAT])
    assert [outcome.shares for outcome in done.outcomes] == [(WHOLE, WHOLE), (0, WHOLE)]
    assert done.outcomes[1].effect == "modulate"
    assert done.ledger[0].epoch == 2 * NAT


def test_what_did_not_fit_still_stands_before_those_behind_it() -> None:
    done = step([budget(per_run=3 * NAT)], [2 * NAT, 2 * NAT, NAT])
    assert [any(outcome.shares) for outcome in done.outcomes] == [True, False, False]


def test_a_deferred_example_keeps_nothing_at_all() -> None:
    done = step([budget("defer", groups=(0,), per_run=NAT)], [2 * NAT])
    assert (done.outcomes[0].effect, done.outcomes[0].shares) == ("defer", (0, 0))
    assert done.ledger[0].run == 0


def test_attenuation_uses_the_rest_of_the_budget_exactly() -> None:
    done = step([budget("attenuate", per_run=3 * NAT)], [2 * NAT, 4 * NAT, NAT])
    assert [outcome.shares for outcome in done.outcomes] == [(WHOLE, WHOLE), (250_000, 250_000), (0, 0)]
    assert done.ledger[0].run == 3 * NAT


def test_halt_takes_nothing_and_names_the_budget() -> None:
    done = step([budget("halt", per_run=NAT, name="all_of_it")], [NAT, NAT])
    assert done.halted == "all_of_it"
    assert [outcome.shares for outcome in done.outcomes] == [(0, 0), (0, 0)]
    assert done.ledger[0].run == 0


def test_the_tightest_window_counts() -> None:
    tight = budget(per_epoch=3 * NAT, per_run=10 * NAT)
    ledger = (Spent(epoch=2 * NAT, run=9 * NAT),)
    assert any(step([tight], [NAT], ledger=ledger).outcomes[0].shares)
    assert not any(step([tight], [NAT + 1], ledger=ledger).outcomes[0].shares)
    assert not any(step([tight], [NAT + 1], ledger=start_epoch(ledger)).outcomes[0].shares)


def test_a_new_epoch_frees_the_epoch_window_only() -> None:
    spent = Spent(5, 7, {b"x": 1})
    assert start_epoch((spent,)) == (Spent(0, 7, {b"x": 1}),)


def test_exposures_are_counted_within_a_step_and_over_steps() -> None:
    twice = budget(exposures=2)
    first = step([twice], [0, 0, 0], keys=[b"x", b"x", b"x"])
    assert [any(outcome.shares) for outcome in first.outcomes] == [True, True, False]
    second = step([twice], [0, 0], keys=[b"x", b"y"], ledger=first.ledger)
    assert [any(outcome.shares) for outcome in second.outcomes] == [False, True]
    assert dict(second.ledger[0].exposures) == {b"x": 2, b"y": 1}


@pytest.mark.parametrize("on_exhaust", ["deny", "attenuate"])
def test_used_up_exposures_leave_nothing_of_the_covered_groups(on_exhaust: Exhaust) -> None:
    done = step([budget(on_exhaust, groups=(0,), exposures=1)], [NAT, NAT], keys=[b"x", b"x"])
    assert done.outcomes[1].shares == (0, WHOLE)


def test_an_example_outside_a_budget_is_neither_charged_nor_counted() -> None:
    done = spend([budget(per_run=NAT, exposures=1)], (Spent(run=NAT),), [(WHOLE, WHOLE)], [(0,)], [9 * NAT], [b"x"])
    assert (done.outcomes[0].effect, done.outcomes[0].charges) == (None, (0,))
    assert dict(done.ledger[0].exposures) == {}


def test_budgets_judge_the_same_draft_whatever_their_order() -> None:
    one, two = budget(groups=(0,), per_run=NAT, name="one"), budget("attenuate", per_run=NAT, name="two")
    forth, back = step([one, two], [2 * NAT, NAT]), step([two, one], [2 * NAT, NAT])
    assert [outcome.shares for outcome in forth.outcomes] == [outcome.shares for outcome in back.outcomes]
    assert forth.ledger == tuple(reversed(back.ledger))
