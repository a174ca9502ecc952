"""The gate settles, books and verifies exactly as the reference does, over whole runs."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from support.promises import GROUPS, Fake, metered_budgets, policy, verify
from torch import nn
from torch.optim import SGD

from aqpolicy.gate.motion.meters import Meters
from aqpolicy.gate.motion.verification import Verifier
from aqpolicy.semantics.movement import booked, nothing_metered, renew, settle
from aqpolicy.semantics.verification import Verified, after_update, before_update, check, is_due

amounts = st.one_of(st.sampled_from([0.0, 1e-6, 0.1, 0.5, 1.0]), st.floats(0.0, 3.0))
per_group = st.lists(amounts, min_size=GROUPS, max_size=GROUPS)


@settings(deadline=None, max_examples=120)
@given(st.data())
def test_steps_are_settled_and_booked_as_the_reference_says(data: st.DataObject) -> None:
    budgets = data.draw(metered_budgets())
    meters, ledger = Meters(policy(budgets)), nothing_metered(budgets)
    for _ in range(data.draw(st.integers(1, 5))):
        far, mixing = data.draw(per_group), data.draw(st.lists(per_group, min_size=GROUPS, max_size=GROUPS))
        swells = data.draw(st.sampled_from([1.0, 1.0, 2.0, 100.0]))

        def deep(factors: Sequence[float], mixing: Sequence[Sequence[float]] = mixing) -> list[float]:
            return [sum(m * f for m, f in zip(row, factors, strict=True)) for row in mixing]

        def movement(factors: Sequence[float], far: Sequence[float] = far, swells: float = swells) -> Sequence[float]:
            change = Fake(far, swells=swells)
            change.factors = tuple(factors)
            return change.movement()

        concerned = data.draw(st.lists(st.booleans(), min_size=len(budgets), max_size=len(budgets)))
        got = meters.settle(Fake(far, deep, swells), concerned)
        drift = deep if meters.watches("drift", concerned) else None
        want = settle(budgets, ledger, concerned, GROUPS, movement, drift)
        assert got.halted == want.halted
        assert got.factors == want.factors
        assert got.movement == want.movement
        assert (got.drift or ()) == want.drift
        assert got.movement_charges == want.movement_charges
        assert got.drift_charges == want.drift_charges
        meters.book(got)
        ledger = booked(ledger, want)
        window = data.draw(st.sampled_from(["", "epoch", "phase"]))
        if window == "epoch":
            meters.start_epoch()
            ledger = renew(ledger, "epoch")
        if window == "phase":
            meters.start_phase()
            ledger = renew(ledger, "phase")
        for account in meters.accounts:
            spent = getattr(ledger, account.meter)[account.budget]
            assert account.spent == (0 if account.window == "step" else getattr(spent, account.window))


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_checks_come_when_and_end_as_the_reference_says(data: st.DataObject) -> None:
    remedy = data.draw(st.sampled_from(["hold", "halt", "rollback"]))
    obligation = verify(
        falls=data.draw(st.sampled_from([0.0, 0.01, 0.5])),
        steps=data.draw(st.integers(0, 4)),
        remedy=remedy,
        direction=data.draw(st.sampled_from(["falls", "rises"])),
    )
    model, present = nn.Linear(1, 1), [0]
    verifier = Verifier(policy((), (obligation,)), lambda _: present[0], model, SGD(model.parameters(), lr=0.1))
    kept = Verified()
    for step in range(data.draw(st.integers(1, 12))):
        present[0] = data.draw(st.sampled_from([0, 5_000, 10_000, 10_001, 500_000]))
        asked = frozenset({0}) if data.draw(st.booleans()) else frozenset()
        verifier.before_step(step, asked)
        if asked:
            kept = after_update(obligation, before_update(kept, present[0]), step)
        present[0] = data.draw(st.sampled_from([0, 5_000, 10_000, 10_001, 500_000]))
        outcome = verifier.after_step(step, asked)
        if not is_due(kept, step):
            assert outcome.events == ()
            continue
        found = check(obligation, kept, present[0], step)
        (event,) = outcome.events
        assert event["verified"] == found.verified
        assert event["now"] == found.now
        assert event["passed"] is found.passed
        assert event["remedy"] == found.remedy
        assert bool(outcome.halted) == (found.remedy == "halt")
        assert outcome.rolled_back == (found.remedy == "rollback")
        kept = found.after
        assert verifier.held == (frozenset({0}) if kept.held else frozenset())
        if outcome.halted:
            return
