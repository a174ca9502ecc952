"""Amounts stay exact up to the largest numbers of the language, where products need more than 64 bits."""

from __future__ import annotations

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.accounts import LARGEST, MICRO, World, budget, row, whole

from aqpolicy.bundle.tables import LARGEST_SHARE, NO_LIMIT
from aqpolicy.gate.accounts.accountant import Accountant, Spending
from aqpolicy.gate.accounts.quotients import part_of, within
from aqpolicy.gate.accounts.state import RunState
from aqpolicy.gate.accounts.visits import LARGEST_SURPRISAL, Reason

DEAREST = LARGEST_SHARE // MICRO * LARGEST_SURPRISAL
"""Micro-nats of a visit of share 100 and the largest surprisal."""

shares = st.integers(1, LARGEST_SHARE)
nats = st.integers(1, LARGEST_SURPRISAL)


def spend(*visits: tuple[int, int], **limits: object) -> Spending:
    """Spend on visits of a share and a surprisal; the second group has half the share, and is covered too."""
    rows = [row((share, share // 2)) for share, _ in visits]
    names = [f"{n + 1}-x" for n in range(len(visits))]
    world = World(whole(rows, budgets=[budget(groups=(0, 1), **limits)]), names)
    accountant = Accountant(world.tables, len(names))
    accountant.begin_step(RunState())
    return accountant.spend(world.batch(names, [surprisal for _, surprisal in visits]))


@given(shares, st.data())
def test_a_part_of_a_share_is_exact(share: int, data: st.DataObject) -> None:
    total = data.draw(st.integers(1, 2**38 - 1))
    part = data.draw(st.integers(0, total))
    found = part_of(*(torch.tensor([value]) for value in (share, part, total)))
    assert found.tolist() == [share * part // total]


@given(shares, shares, nats, st.data())
@example(LARGEST_SHARE, LARGEST_SHARE, LARGEST_SURPRISAL, None)
def test_a_share_within_a_limit_is_exact(share: int, charged: int, surprisal: int, data: st.DataObject | None) -> None:
    limit = charged * surprisal if data is None else data.draw(st.integers(0, charged * surprisal))
    found = within(*(torch.tensor([value]) for value in (share, limit, charged, surprisal)))
    assert found.tolist() == [share * limit // (charged * surprisal)]


@settings(deadline=None)
@given(shares, nats, st.one_of(st.integers(0, DEAREST + 1), st.integers(0, LARGEST), st.just(LARGEST)))
@example(LARGEST_SHARE, LARGEST_SURPRISAL, DEAREST - 1)
@example(LARGEST_SHARE, LARGEST_SURPRISAL, DEAREST)
@example(LARGEST_SHARE, LARGEST_SURPRISAL, LARGEST)
def test_the_limit_on_one_update_is_exact(share: int, surprisal: int, limit: int) -> None:
    spending = spend((share, surprisal), per_update=limit)
    cost = share * surprisal
    over = cost > limit * MICRO
    want = [one * limit * MICRO // cost if over else one for one in (share, share // 2)]
    assert spending.shares.tolist() == [want]
    assert spending.charges.tolist() == [[-(-want[0] * surprisal // MICRO)]]
    assert spending.charges.item() <= limit


@settings(deadline=None)
@given(shares, nats, st.integers(0, DEAREST))
@example(LARGEST_SHARE, LARGEST_SURPRISAL, DEAREST - 1)
@example(LARGEST_SHARE, LARGEST_SURPRISAL, 1)
def test_attenuation_is_exact(share: int, surprisal: int, room: int) -> None:
    spending = spend((share, surprisal), per_run=room, on_exhaust="attenuate")
    charge = -(-share * surprisal // MICRO)
    want = [one * room // charge if charge > room else one for one in (share, share // 2)]
    assert spending.shares.tolist() == [want]
    assert spending.charges.item() <= room


def test_the_dearest_visits_fill_the_largest_budget_over_many_steps() -> None:
    world = World(whole([row((LARGEST_SHARE,))], budgets=[budget(per_run=LARGEST)]), ("1-a",))
    accountant = Accountant(world.tables, 1)
    batch = world.batch(["1-a"] * 1000, LARGEST_SURPRISAL)
    fits, admitted = LARGEST // DEAREST, 0
    for step in range(fits // 1000 + 2):
        accountant.begin_step(RunState(step=step))
        spending = accountant.spend(batch)
        accountant.commit([spending])
        admitted += int((spending.shares > 0).sum())
        assert accountant.run == [admitted * DEAREST]
    assert admitted == fits
    assert spending.reasons.unique().tolist() == [Reason.EXHAUSTED]


def test_what_is_not_limited_is_counted_beyond_64_bits() -> None:
    world = World(whole([row((LARGEST_SHARE,))], budgets=[budget(per_run=NO_LIMIT)]), ("1-a",))
    accountant = Accountant(world.tables, 1)
    saved = accountant.state_dict()
    saved["spent"]["run"] = [2**70]
    accountant.load_state_dict(saved)
    spending = accountant.spend(world.batch(["1-a"], LARGEST_SURPRISAL))
    accountant.commit([spending])
    assert spending.shares.tolist() == [[LARGEST_SHARE]]
    assert accountant.run == [2**70 + DEAREST]
