"""Laws of a run that hold for all tables, all examples and every order of steps, epochs and phases."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.running import GROUPS, Course, budgets, courses, walk

from aqpolicy.bundle.tables import NO_LIMIT, BudgetTable, Tables
from aqpolicy.semantics import Reason, Run, Step, Visit, take_step
from aqpolicy.semantics.budget import surprisal_windows
from aqpolicy.semantics.movement import Factors, Meter, Settled, booked, nothing_metered, renew, settle
from aqpolicy.units import MICRO

MODEST = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CALM = ("deny", "defer", "attenuate")
"""What an exhausted budget may do without ending the run."""


def steps_of(course: Course) -> Iterator[tuple[Run, list[Visit], Step]]:
    for run, action, step in walk(course):
        if step is not None:
            yield run, course.visits(action), step  # type: ignore[arg-type]


@MODEST
@given(courses())
def test_no_budget_of_nats_is_ever_overspent(course: Course) -> None:
    spent: dict[tuple[int, str], int] = defaultdict(int)
    for before, action, step in walk(course):
        if action in ("epoch", "phase"):
            spent = defaultdict(int, {at: total for at, total in spent.items() if at[1] != action})
        for b, budget in enumerate(course.tables.budgets if step is not None else ()):
            assert step is not None
            charges = [one.charges[b] for one in step.visits]
            assert budget.per_update == NO_LIMIT or max(charges) <= budget.per_update
            for window, limit in surprisal_windows(budget).items():
                total = sum(charges) if window == "step" else spent[b, window] + sum(charges)
                spent[b, window] = total
                assert total <= limit, (budget, window, before.state)


@MODEST
@given(courses())
def test_no_example_is_charged_more_often_than_it_may_be_exposed(course: Course) -> None:
    shown: Counter[tuple[int, bytes]] = Counter()
    for _, visits, step in steps_of(course):
        for visit, one in zip(visits, step.visits, strict=True):
            for b, budget in enumerate(course.tables.budgets):
                applies = one.decided.charged[b] > 0 and any(one.shares[g] for g in budget.groups)
                shown[b, visit.key] += applies
    for (b, _), count in shown.items():
        limit = course.tables.budgets[b].exposures
        assert limit == NO_LIMIT or count <= limit


@MODEST
@given(courses())
def test_nothing_that_comes_after_the_row_ever_raises_a_share(course: Course) -> None:
    for _, visits, step in steps_of(course):
        for visit, one in zip(visits, step.visits, strict=True):
            said = course.tables.rows[one.decided.route].shares
            assert all(left <= most for left, most in zip(one.decided.shares, said, strict=True))
            assert all(left <= most for left, most in zip(one.shares, one.decided.shares, strict=True))
            assert not any(one.shares[g] for g in visit.broken)
            told = [reason is not Reason.TABLE for reason in one.reasons]
            lowered = [left < most for left, most in zip(one.shares, said, strict=True)]
            assert all(why for why, less in zip(told, lowered, strict=True) if less)


@MODEST
@given(courses(CALM), st.data())
def test_what_comes_later_in_a_step_changes_nothing_before_it(course: Course, data: st.DataObject) -> None:
    for run, visits, step in steps_of(course):
        first = data.draw(st.integers(0, len(visits)))
        alone = take_step(course.tables, run, visits[:first])
        assert alone.visits == step.visits[:first]


@MODEST
@given(courses(), st.data())
def test_the_order_of_budgets_is_immaterial(course: Course, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(course.tables.budgets))))
    turned = replace(course, tables=reordered(course.tables, order))
    for (_, _, one), (_, _, other) in zip(steps_of(course), steps_of(turned), strict=True):
        assert [told.shares for told in one.visits] == [told.shares for told in other.visits]
        assert [told.effect for told in one.visits] == [told.effect for told in other.visits]
        charges = [tuple(told.charges[b] for b in order) for told in one.visits]
        assert charges == [told.charges for told in other.visits]
        assert (one.run.halted == "") == (other.run.halted == "")
        assert tuple(one.concerned[b] for b in order) == other.concerned


def reordered(tables: Tables, order: Sequence[int]) -> Tables:
    rows = tuple(replace(row, charged=tuple(row.charged[b] for b in order)) for row in tables.rows)
    return replace(tables, rows=rows, budgets=tuple(tables.budgets[b] for b in order))


@MODEST
@given(courses())
def test_a_denied_example_equals_an_absent_one(course: Course) -> None:
    for run, visits, step in steps_of(course):
        pairs = list(zip(visits, step.visits, strict=True))
        left = [(visit, one) for visit, one in pairs if any(one.decided.shares) and visit.surprisal is not None]
        alone = take_step(course.tables, run, [visit for visit, _ in left])
        assert [one.shares for one in alone.visits] == [one.shares for _, one in left]
        assert [one.charges for one in alone.visits] == [one.charges for _, one in left]
        assert alone.run.ledger == step.run.ledger
        assert (alone.asked, alone.concerned) == (step.asked, step.concerned)


@MODEST
@given(courses())
def test_no_window_of_steps_ever_holds_more_updates_than_its_frequency(course: Course) -> None:
    wrote: dict[tuple[int, int], set[int]] = defaultdict(set)
    for run, _, step in steps_of(course):
        for one in step.visits:
            for number in course.tables.rows[one.decided.route].obligations:
                for group in range(GROUPS):
                    if one.shares[group] > 0:
                        wrote[number, group].add(run.state.step)
    for number, obligation in enumerate(course.tables.obligations):
        if obligation.kind != "frequency":
            continue
        groups, updates, length = (obligation.parameters[name] for name in ("groups", "updates", "steps"))
        assert isinstance(groups, tuple)
        assert isinstance(updates, int)
        assert isinstance(length, int)
        for group in groups:
            found = wrote[number, group]
            assert all(sum(start <= at < start + length for at in found) <= updates for start in found)


@MODEST
@given(courses())
def test_a_deferral_lasts_at_most_its_epochs(course: Course) -> None:
    began: dict[bytes, dict[int, int]] = {}
    for run, visits, step in steps_of(course):
        for visit, one in zip(visits, step.visits, strict=True):
            row = course.tables.rows[one.decided.route]
            pending = row.obligations if row.effect == "defer" else ()
            before = began.get(visit.key, {})
            began[visit.key] = {number: before.get(number, run.state.epoch) for number in pending}
            limits = {number: course.tables.obligations[number].parameters["epochs"] for number in pending}
            late = any(run.state.epoch - began[visit.key][number] >= limits[number] for number in pending)  # type: ignore[operator]
            if pending:
                assert one.effect == ("deny" if late else "defer")
            if late and visit.surprisal is not None and not step.run.halted:
                assert (one.reason, one.cause) == (Reason.DEFERRAL_EXPIRED, "denied")


@MODEST
@given(courses())
def test_the_queue_holds_exactly_those_whose_last_visit_was_deferred(course: Course) -> None:
    last: dict[bytes, str] = {}
    for _, visits, step in steps_of(course):
        if step.run.halted:
            break
        last |= {visit.key: one.effect for visit, one in zip(visits, step.visits, strict=True)}
        assert set(step.run.queue) == {key for key, effect in last.items() if effect == "defer"}


@MODEST
@given(courses())
def test_a_halted_step_takes_nothing_and_changes_nothing(course: Course) -> None:
    for run, _, step in steps_of(course):
        if step.run.halted:
            assert step.run == replace(run, halted=step.run.halted)
            assert not any(any(one.shares) or any(one.charges) for one in step.visits)
            assert {reason for one in step.visits for reason in one.reasons} == {Reason.HALTED}


@MODEST
@given(courses())
def test_who_held_updates_has_none_admitted(course: Course) -> None:
    for run, _, step in steps_of(course):
        assert step.asked.isdisjoint(run.held)
        held = [
            one for one in step.visits if not run.held.isdisjoint(course.tables.rows[one.decided.route].obligations)
        ]
        assert not any(any(one.shares) for one in held)


# ---- Movement and drift

_factor = st.floats(0, 1, allow_nan=False)
_far = st.one_of(st.floats(0, 30, allow_nan=False), st.sampled_from([0.0, 1e-6, float("inf"), 1e30]))
_metered = budgets().map(
    lambda one: replace(
        one, meters=tuple(sorted({("movement", "step", 9 * MICRO), ("drift", "run", MICRO), *one.meters}))
    )
)


def moving(far: Sequence[float], bends: Sequence[float]) -> Callable[[Factors], tuple[float, ...]]:
    """Return a step that moves a little further than its factors say, as rounding and other groups make it."""

    def measure(factors: Factors) -> tuple[float, ...]:
        pairs = zip(far, factors, bends, strict=True)
        return tuple(0.0 if factor == 0 else way * factor * (1 + bend * (1 - factor)) for way, factor, bend in pairs)

    return measure


def drifting(deep: Sequence[float], echo: float) -> Callable[[Factors], tuple[float, ...]]:
    """Return a step in which what moves in one group drifts in those behind it too."""

    def measure(factors: Factors) -> tuple[float, ...]:
        before = [sum(factors[:g]) for g in range(len(factors))]
        return tuple(way * factor + echo * way * sum_ for way, factor, sum_ in zip(deep, factors, before, strict=True))

    return measure


Told = tuple[str, tuple[bool, ...], Settled]
"""The window that was opened, which budgets were concerned, and how the step ended."""


@st.composite
def changes(draw: st.DrawFn) -> tuple[list[BudgetTable], list[Told]]:
    """Draw budgets and settle steps under them, epochs and phases between."""
    drawn = draw(st.lists(_metered, min_size=1, max_size=3))
    ledger, told = nothing_metered(drawn), []
    for _ in range(draw(st.integers(1, 6))):
        window = draw(st.sampled_from(["", "", "epoch", "phase"]))
        if window in ("epoch", "phase"):
            ledger = renew(ledger, window)  # type: ignore[arg-type]
        far, bends = draw(st.tuples(*[_far] * GROUPS)), draw(st.tuples(*[st.sampled_from([0.0, 1e-7, 3.0])] * GROUPS))
        deep, echo = draw(st.tuples(*[_far.filter(lambda one: one < 100)] * GROUPS)), draw(st.sampled_from([0.0, 0.5]))
        concerned = draw(st.tuples(*[st.booleans()] * len(drawn)))
        settled = settle(drawn, ledger, concerned, GROUPS, moving(far, bends), drifting(deep, echo))
        told.append((window, concerned, settled))
        if settled.halted:
            break
        ledger = booked(ledger, settled)
    return drawn, told


@MODEST
@given(changes())
def test_no_budget_of_movement_or_drift_is_ever_overspent(
    run: tuple[list[BudgetTable], list[Told]],
) -> None:
    owned, told = run
    spent: dict[tuple[int, str, str], int] = defaultdict(int)
    for opened, _, settled in told:
        spent = defaultdict(int, {at: total for at, total in spent.items() if at[2] != opened})
        for b, budget in enumerate(owned):
            charged: dict[Meter, int] = {
                "movement": settled.movement_charges[b],
                "drift": settled.drift_charges[b],
            }
            for meter, window, limit in budget.meters:
                if meter in ("movement", "drift"):
                    before = 0 if window == "step" else spent[b, meter, window]
                    spent[b, meter, window] = before + charged[meter]  # type: ignore[index]
                    assert spent[b, meter, window] <= limit


@MODEST
@given(changes())
def test_what_is_charged_is_what_was_measured_last(
    run: tuple[list[BudgetTable], list[Told]],
) -> None:
    owned, told = run
    for _, concerned, settled in told:
        assert all(0 <= factor <= 1 for factor in settled.factors)
        assert not settled.halted or set(settled.factors) == {0.0}
        for b, budget in enumerate(owned):
            meters = {meter for meter, _, _ in budget.meters if concerned[b]}
            far = math.sqrt(sum(settled.movement[g] ** 2 for g in budget.groups))
            deep = max(settled.drift[g] for g in budget.groups) if settled.drift else 0.0
            assert settled.movement_charges[b] == (math.ceil(far * MICRO) if "movement" in meters else 0)
            assert settled.drift_charges[b] == (math.ceil(deep * MICRO) if "drift" in meters else 0)


@MODEST
@given(st.lists(_metered, max_size=3), st.tuples(*[_far] * GROUPS))
def test_a_step_that_concerns_no_budget_goes_as_far_as_the_optimizer_took_it(
    owned: list[BudgetTable], far: tuple[float, ...]
) -> None:
    assume(max(far) < 1e10)
    settled = settle(owned, nothing_metered(owned), [False] * len(owned), GROUPS, moving(far, (0, 0, 0)))
    assert (settled.factors, settled.movement) == ((1.0,) * GROUPS, far)
    assert not any(settled.movement_charges)
