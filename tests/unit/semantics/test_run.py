"""The meaning of a run, one promise at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from aqpolicy.bundle.tables import NO_LIMIT, AttributeTable, BudgetTable, ObligationTable, Row, StageTable, Tables
from aqpolicy.semantics import Reason, Run, Step, Visit, begin, take_step
from aqpolicy.semantics.run import enter_phase, hold, released, start_epoch
from aqpolicy.semantics.state import first_state, may_enter_phase, missing_certifications
from aqpolicy.semantics.visit import nats_up

NAT = WHOLE = 1_000_000
FREE = (NO_LIMIT, NO_LIMIT)
ERROR = Row("deny", "error", (0, 0), FREE, (), (), "error")
SELDOM = ObligationTable("frequency", "r", "", {"groups": (0,), "updates": 1, "steps": 3})
WAITS = ObligationTable("defer", "r", "", {"epochs": 2})
LOOKS = ObligationTable(
    "verify", "r", "", {"amount": 5, "direction": "falls", "metric": "gold", "remedy": "hold", "steps": 2}
)


def budget(**limits: Any) -> BudgetTable:
    known = {"per_update": NO_LIMIT, "per_epoch": NO_LIMIT, "per_run": NO_LIMIT, "exposures": NO_LIMIT}
    return BudgetTable("b", (0, 1), on_exhaust=limits.pop("on_exhaust", "deny"), **(known | limits))


def tables(
    *rows: Row, obligations: Sequence[ObligationTable] = (), budgets: Sequence[BudgetTable] = (), run: str = ""
) -> Tables:
    """Return tables whose attribute `kind` names the row; with `run`, an attribute of the run must be known too."""
    kinds = tuple(str(number) for number in range(1, len(rows) + 1))
    attributes = [
        AttributeTable("kind", "category", kinds, (), 0, 1, tuple(1 << number for number in range(len(rows)))),
        AttributeTable("doubt", "numeric", (), (0,), WHOLE, 1, (-1,)),
    ]
    if run:
        attributes.append(AttributeTable(run, "numeric", (), (0,), 100 * WHOLE, 1, (-1,), "run"))
    made = (Row(*(*_fields(ERROR)[:4], (0,) * len(budgets), *_fields(ERROR)[5:])), *rows)
    vectors = {1 << number: number + 1 for number in range(len(rows))}
    return Tables(
        ("low", "high"), tuple(attributes), made, vectors, tuple(budgets), tuple(obligations), phases=("warm", "main")
    )


def _fields(row: Row) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in row.__slots__)


def granted(shares: tuple[int, int] = (WHOLE, WHOLE), charged: tuple[int, ...] = (), **others: Any) -> Row:
    whole = set(shares) == {WHOLE}
    return Row("admit" if whole else "modulate", "granted", shares, FREE, charged, (), "", **others)


def waiting(*obligations: int) -> Row:
    return Row("defer", "denied", (0, 0), FREE, (), (), "", obligations=obligations)


def visit(kind: int = 1, surprisal: int | None = NAT, key: bytes = b"x", **others: Any) -> Visit:
    return Visit(key, {"kind": str(kind), "doubt": others.pop("doubt", 0)}, surprisal, **others)


def told(step: Step) -> list[tuple[tuple[int, ...], str, str, Reason]]:
    return [(one.shares, one.effect, one.cause, one.reason) for one in step.visits]


def test_a_linear_limit_lowers_its_group_and_what_is_charged() -> None:
    table = tables(granted(charged=(WHOLE,), linear=((0, 1, WHOLE, -WHOLE),)), budgets=[budget()])
    step = take_step(table, begin(table), [visit(doubt=250_000)])
    assert told(step) == [((750_000, WHOLE), "modulate", "granted", Reason.LINEAR)]
    assert step.visits[0].reasons == (Reason.LINEAR, Reason.TABLE)
    assert step.visits[0].charges == (NAT,)


def test_linear_limits_that_leave_nothing_deny() -> None:
    table = tables(granted(linear=((0, 1, 0, 0), (1, 1, 0, 0))))
    assert told(take_step(table, begin(table), [visit()])) == [((0, 0), "deny", "denied", Reason.LINEAR)]


def test_a_group_is_closed_while_its_frequency_is_used_up() -> None:
    table = tables(granted(obligations=(0,)), obligations=[SELDOM])
    run, open_steps = begin(table), []
    for number in range(7):
        step = take_step(table, run, [visit(), visit(key=b"y")])
        run = step.run
        assert [one.shares[1] for one in step.visits] == [WHOLE, WHOLE]
        if step.visits[0].shares[0]:
            open_steps.append(number)
            assert step.visits[1].shares[0] == WHOLE  # a step counts once
        else:
            assert step.visits[0].reason is Reason.FREQUENCY
    assert open_steps == [0, 3, 6]


def test_a_step_in_which_nothing_was_written_does_not_count_for_a_frequency() -> None:
    table = tables(granted(obligations=(0,)), obligations=[SELDOM])
    step = take_step(table, begin(table), [visit(broken=(0,))])
    assert told(step) == [((0, WHOLE), "modulate", "error", Reason.GRADIENT_NOT_FINITE)]
    assert take_step(table, step.run, [visit()]).visits[0].shares == (WHOLE, WHOLE)


def test_what_is_held_is_denied_until_it_is_not() -> None:
    table = tables(granted(obligations=(0,)), obligations=[LOOKS])
    run = hold(begin(table), 0, on=True)
    step = take_step(table, run, [visit()])
    assert told(step) == [((0, 0), "deny", "denied", Reason.HELD)]
    assert step.asked == frozenset()
    assert take_step(table, hold(run, 0, on=False), [visit()]).asked == {0}


def test_a_deferral_expires_with_its_epochs() -> None:
    table = tables(waiting(0), obligations=[WAITS])
    run, effects = begin(table), []
    for _ in range(4):
        step = take_step(table, run, [visit()])
        effects.append((step.visits[0].effect, step.visits[0].cause, step.visits[0].reason, len(step.run.queue)))
        run = start_epoch(step.run)
    late = ("deny", "denied", Reason.DEFERRAL_EXPIRED, 0)
    assert effects == [("defer", "denied", Reason.TABLE, 1)] * 2 + [late] * 2


def test_a_deferral_is_forgotten_once_its_condition_held() -> None:
    table = tables(waiting(0), granted(), obligations=[WAITS])
    run = take_step(table, begin(table), [visit()]).run
    run = take_step(table, start_epoch(run), [visit(2)]).run
    assert run.queue == {}
    step = take_step(table, start_epoch(start_epoch(run)), [visit()])
    assert step.visits[0].effect == "defer"


def test_the_queue_says_since_when_an_example_waits() -> None:
    table = tables(waiting(0), obligations=[WAITS])
    run = take_step(table, begin(table), [visit()]).run
    run = take_step(table, start_epoch(run), [visit()]).run
    assert [(one.step, one.epoch, one.last.step) for one in run.queue.values()] == [(0, 0, 1)]


def test_who_was_deferred_by_a_row_is_released_where_the_row_defers_no_more() -> None:
    table = tables(waiting(0), granted(), obligations=[WAITS])
    run = take_step(table, begin(table), [visit()]).run
    assert released(table, run, {b"x": {"kind": "1", "doubt": 0}}) == ()
    assert released(table, run, {b"x": {"kind": "2", "doubt": 0}}) == (b"x",)


@pytest.mark.parametrize(
    ("limits", "freed_by"),
    [
        ({"per_epoch": NAT}, "epoch"),
        ({"meters": (("surprisal", "phase", NAT),)}, "phase"),
        ({"meters": (("surprisal", "step", NAT),)}, "step"),
    ],
)
def test_who_was_deferred_by_a_budget_is_released_with_its_window(limits: dict[str, Any], freed_by: str) -> None:
    table = tables(granted(charged=(WHOLE,)), budgets=[budget(on_exhaust="defer", **limits)])
    run = take_step(table, begin(table), [visit(surprisal=2 * NAT)]).run
    observed = {b"x": {"kind": "1", "doubt": 0}}
    assert set(run.queue) == {b"x"}
    for event, later in (("step", run), ("epoch", start_epoch(run)), ("phase", enter_phase(run, "main"))):
        assert (b"x" in released(table, later, observed)) == (event == freed_by or freed_by == "step")


def test_a_window_per_step_is_fresh_in_every_step() -> None:
    table = tables(granted(charged=(WHOLE,)), budgets=[budget(meters=(("surprisal", "step", NAT),))])
    run = begin(table)
    for _ in range(2):
        step = take_step(table, run, [visit(), visit(key=b"y")])
        assert [any(one.shares) for one in step.visits] == [True, False]
        run = step.run


def test_a_phase_gives_back_its_own_window_only() -> None:
    limits = budget(per_run=3 * NAT, meters=(("surprisal", "phase", 2 * NAT),))
    table = tables(granted(charged=(WHOLE,)), budgets=[limits])
    run = take_step(table, begin(table), [visit(surprisal=2 * NAT)]).run
    assert not any(take_step(table, run, [visit()]).visits[0].shares)
    run = enter_phase(run, "main")
    assert any(take_step(table, run, [visit()]).visits[0].shares)
    assert not any(take_step(table, run, [visit(surprisal=2 * NAT)]).visits[0].shares)


def test_an_amplified_update_is_charged_what_it_writes() -> None:
    table = tables(granted((100 * WHOLE, WHOLE), charged=(100 * WHOLE,)), budgets=[budget()])
    largest = 2**31 - 1
    assert take_step(table, begin(table), [visit(surprisal=largest)]).visits[0].charges == (100 * largest,)


def test_a_loss_that_is_not_finite_is_an_error_of_its_own_row() -> None:
    table = tables(granted(charged=(WHOLE,)), budgets=[budget(exposures=1)])
    step = take_step(table, begin(table), [visit(surprisal=None)])
    assert told(step) == [((0, 0), "deny", "error", Reason.NOT_FINITE)]
    assert (step.visits[0].decided.route, step.visits[0].charges) == (1, (0,))


@pytest.mark.parametrize("run", ["surprisal", "predictive_entropy"])
def test_what_the_tables_ask_and_nobody_knows_selects_the_error_row(run: str) -> None:
    table = tables(granted(), run=run)
    assert take_step(table, begin(table), [visit(surprisal=None)]).visits[0].decided.route == 0
    assert take_step(table, begin(table), [visit(entropy=NAT)]).visits[0].decided.route == 1


def test_a_manifest_never_stands_in_for_the_run() -> None:
    table = tables(granted(), run="predictive_entropy")
    forged = Visit(b"x", {"kind": "1", "doubt": 0, "predictive_entropy": 0}, NAT)
    assert take_step(table, begin(table), [forged]).visits[0].decided.route == 0


@pytest.mark.parametrize(
    ("others", "reason"),
    [({"known": False}, Reason.UNKNOWN_EXAMPLE), ({"refused": True}, Reason.REFUSED_EXAMPLE)],
)
def test_who_is_unknown_or_refused_gets_nothing(others: dict[str, bool], reason: Reason) -> None:
    table = tables(granted())
    assert told(take_step(table, begin(table), [visit(**others)])) == [((0, 0), "deny", "error", reason)]


def test_a_budget_is_concerned_where_it_charges_what_is_admitted() -> None:
    table = tables(granted(charged=(WHOLE,)), granted(charged=(0,)), budgets=[budget()])
    assert take_step(table, begin(table), [visit(2)]).concerned == (False,)
    assert take_step(table, begin(table), [visit(1, broken=(0, 1))]).concerned == (False,)
    assert take_step(table, begin(table), [visit(2), visit(1)]).concerned == (True,)


@pytest.mark.parametrize(
    ("nats", "micro"),
    [(0.5, 500_000), (1e-9, 1), (0.1, 100_001), (-3.0, 0), (1e9, 2**31 - 1), (float("nan"), None), (1e308, 2**31 - 1)],
)
def test_nats_are_rounded_up_and_clipped(nats: float, micro: int | None) -> None:
    assert nats_up(nats, 2**31 - 1) == micro


COURSE = Tables(
    ("g",),
    (),
    (),
    {},
    (),
    phases=("warm", "main", "cool"),
    stages=(
        StageTable("basic"),
        StageTable("pilot", (("safe", ">=", 900_000),)),
        StageTable("open", (("auc", ">", 950_000),)),
    ),
)


def test_a_run_begins_in_the_first_phase_and_stage_and_never_goes_back() -> None:
    state = first_state(COURSE, today=20_000)
    assert (state.phase, state.stage, state.attributes["today"]) == ("warm", "basic", 20_000 * WHOLE)
    allowed = [name for name in COURSE.phases if may_enter_phase(COURSE, "main", name)]
    assert allowed == ["cool"]
    assert not may_enter_phase(COURSE, "warm", "nowhere")


def test_a_stage_asks_for_the_certifications_of_all_that_are_skipped() -> None:
    good = {"safe": 900_000, "auc": 950_001}
    assert missing_certifications(COURSE, "basic", "open", good) == ()
    assert missing_certifications(COURSE, "basic", "open", {**good, "safe": 899_999}) == (("safe", ">=", 900_000),)
    assert missing_certifications(COURSE, "basic", "open", {"safe": 900_000}) == (("auc", ">", 950_000),)
    assert missing_certifications(COURSE, "pilot", "open", {"auc": 950_001}) == ()


@pytest.mark.parametrize("name", ["basic", "pilot", "nowhere"])
def test_a_stage_that_is_not_later_may_not_be_entered(name: str) -> None:
    assert missing_certifications(COURSE, "pilot", name, {"safe": WHOLE, "auc": WHOLE}) is None


def test_a_halted_run_is_as_it_was_before_the_step() -> None:
    table = tables(granted(charged=(WHOLE,)), budgets=[budget(per_run=NAT, on_exhaust="halt")])
    run: Run = begin(table)
    step = take_step(table, run, [visit(), visit(key=b"y")])
    assert (step.run.halted, step.run.ledger, step.run.state) == ("b", run.ledger, run.state)
    assert [one.reason for one in step.visits] == [Reason.HALTED] * 2
