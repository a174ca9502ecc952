"""Where a run may be, and which checks it owes, as the auditor derives it from its events."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.lineage_runs import block
from support.promises import policy, promote, verify

from aqpolicy.bundle.tables import NO_LIMIT, ObligationTable, Row, StageTable, Tables
from aqpolicy.errors import CorruptLogError
from aqpolicy.trace.auditing.course import Course
from aqpolicy.units import MICRO

STAGES = (StageTable("trial"), StageTable("ward", (("gold", ">=", 900_000),)), StageTable("open", (("gold", ">", 0),)))
DIGEST = "sha256:" + "ab" * 32


def course(*obligations: ObligationTable, models: Any = None) -> Course:
    """Return a run whose row 1 asks for all obligations."""
    made = policy(obligations=obligations)
    row = Row("admit", "granted", (MICRO,) * 3, (NO_LIMIT,) * 3, (), (), "", (), tuple(range(len(obligations))))
    tables: Tables = replace(made, rows=(*made.rows, row), phases=("warm", "tune", "cool"), stages=STAGES)
    return Course(tables, models or {})


def at(number: int, **state: Any) -> Any:
    return replace(block(number), **{"epoch": 0, "phase": "warm", "stage": "trial", "today": 1, **state})


def entered(kind: str, name: str, step: int, **more: Any) -> dict[str, Any]:
    return {"event": kind, kind: name, "step": step, **more}


def checked(
    step: int, verified: int, now: int, *, passed: bool, remedy: str = "", obligation: int = 0
) -> dict[str, Any]:
    return {
        "event": "verification",
        "obligation": obligation,
        "metric": "gold",
        "verified": verified,
        "now": now,
        "passed": passed,
        "remedy": remedy,
        "step": step,
    }


# ---- phases, stages, epochs, the date


def test_a_run_goes_through_phases_and_stages_in_order() -> None:
    one = course()
    assert not one.arrive(at(0))
    one.follow(1, [entered("phase", "cool", 1), entered("stage", "open", 1, metrics={"gold": 900_000})], last=False)
    assert one.arrive(at(1, phase="cool", stage="open", epoch=2))
    assert one.phases_entered == 1


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([entered("phase", "warm", 1)], "entered phase `warm` from `warm`"),
        ([entered("phase", "tune", 1), entered("phase", "warm", 1)], "entered phase `warm` from `tune`"),
        ([entered("phase", "hot", 1)], "entered phase `hot`"),
        ([entered("phase", "tune", 0)], "names another step"),
        ([entered("stage", "ward", 1)], "`gold` does not certify it"),
        ([entered("stage", "ward", 1, metrics={"gold": 899_999})], "stage `ward` was entered although"),
        ([entered("stage", "open", 1, metrics={"gold": 1})], "stage `open` was entered although"),
        ([entered("stage", "ward", 1, metrics={"gold": True})], "`gold` does not certify it"),
        ([{"event": "stage", "step": 1}], "entered stage `None`"),
    ],
    ids=str,
)
def test_what_the_policy_does_not_allow_is_found(events: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(CorruptLogError, match=message):
        course().follow(1, events, last=False)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"phase": "tune"}, "the step is in phase `tune`, the events of the run lead to `warm`"),
        ({"stage": "ward"}, "the step is in stage `ward`"),
        ({"today": 2}, "the date of the run changed"),
        ({"epoch": -1}, "the epoch went back"),
    ],
)
def test_a_step_that_is_elsewhere_is_found(state: dict[str, Any], message: str) -> None:
    one = course()
    one.arrive(at(0))
    with pytest.raises(CorruptLogError, match=message):
        one.arrive(at(1, **state))


# ---- verifications


def test_an_update_makes_a_check_due_and_the_next_value_is_compared_with_the_last_passed() -> None:
    one = course(verify(falls=0.1, steps=2))
    one.take(3, [1])
    one.take(4, [1])
    one.follow(4, [], last=False)
    one.follow(5, [checked(4, 500_000, 400_000, passed=True)], last=False)
    one.take(5, [1])
    with pytest.raises(CorruptLogError, match="was compared with 500000, not with 400000"):
        one.follow(7, [checked(6, 500_000, 450_000, passed=True)], last=False)
    assert one.checking.checks == 1


def test_a_check_that_is_missing_is_found_unless_the_run_broke_off() -> None:
    for last in (True, False):
        one = course(verify(steps=1))
        one.take(0, [1])
        if last:
            one.follow(1, [], last=True)
        else:
            with pytest.raises(CorruptLogError, match="`verify gold` was due and was not checked"):
                one.follow(1, [], last=False)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (checked(0, 5, 5, passed=True), "other verifications took place than were due"),
        (checked(0, 500_000, 399_999, passed=True, obligation=1), "what followed from"),
        (checked(0, 500_000, 400_000, passed=False, remedy="hold", obligation=1), "what followed from"),
        (checked(0, 500_000, 399_999, passed=False, remedy="halt", obligation=1), "what followed from"),
        ({**checked(0, 5, 5, passed=True, obligation=1), "metric": "other"}, "says nothing of its metric"),
        ({**checked(0, 5, 5, passed=True, obligation=1), "now": 0.5}, "says nothing of its metric"),
        ({**checked(0, 5, 5, passed=True, obligation=1), "step": 1}, "names another step"),
    ],
    ids=str,
)
def test_a_lie_about_a_check_is_found(event: dict[str, Any], message: str) -> None:
    one = course(promote(), verify(falls=0.1, remedy="hold"))
    one.take(0, [1])
    with pytest.raises(CorruptLogError, match=message):
        one.follow(1, [event], last=False)


def test_what_failed_and_holds_is_held_until_a_later_check_is_passed() -> None:
    one = course(verify(falls=0.1, steps=3, remedy="hold"))
    one.take(0, [1])
    one.follow(3, [checked(2, 500_000, 100_000, passed=False, remedy="hold")], last=False)
    assert one.checking.held == {0}
    one.follow(5, [], last=False)
    one.follow(6, [checked(5, 500_000, 450_000, passed=True)], last=False)
    assert one.checking.held == frozenset()
    one.follow(20, [], last=False)


def test_a_metric_that_rises_loses_the_other_way() -> None:
    one = course(verify(falls=0.1, direction="rises", remedy="halt"))
    one.take(0, [1])
    one.follow(1, [checked(0, 500_000, 600_001, passed=False, remedy="halt")], last=False)
    assert one.checking.halted == "verify gold"


def test_a_rollback_takes_back_what_waited_and_measures_anew() -> None:
    one = course(verify(steps=2), verify(steps=9, remedy="hold"))
    one.take(0, [1])
    failed = checked(1, 900_000, 0, passed=False, remedy="rollback")
    one.follow(2, [failed], last=False)
    assert one.checking.rollbacks == 1
    one.follow(9, [], last=False)  # the second one's updates went with the first one's
    one.take(9, [1])
    one.follow(11, [{**failed, "step": 10}], last=False)
    one.follow(18, [], last=False)


def test_a_check_out_of_turn_belongs_to_a_publication() -> None:
    for models, passed in (({1: [DIGEST]}, True), ({}, True), ({}, False)):
        one = course(verify(steps=5, remedy="hold"), models=models)
        one.take(0, [1])
        event = checked(0, 5, 5 if passed else 0, passed=passed, remedy="" if passed else "hold")
        if models or not passed:
            one.follow(1, [event], last=False)
        else:
            with pytest.raises(CorruptLogError, match="nothing asked for"):
                one.follow(1, [event], last=False)


def test_nothing_is_published_while_a_check_is_outstanding() -> None:
    one = course(verify(steps=5), models={1: [DIGEST]})
    one.take(0, [1])
    with pytest.raises(CorruptLogError, match="a model was published although"):
        one.follow(1, [], last=True)


# ---- promotions


def candidate(state: str, now: int = 950_000, **more: Any) -> dict[str, Any]:
    look = {"obligation": 0, "metric": "gold", "op": ">=", "value": 900_000, "now": now, "holds": now >= 900_000}
    told = {"event": "promotion", "state": state, "name": "model", "candidate": DIGEST, "step": 1, "witnesses": 0}
    return {**told, "checks": [look], "unverified": [], **more}


def owing(witnesses: int = 0) -> Course:
    one = course(promote(witnesses=witnesses), models={1: [DIGEST]})
    one.take(0, [1])
    return one


def test_a_model_of_a_run_that_owes_nothing_is_simply_published() -> None:
    course(promote(), models={0: [DIGEST]}).follow(0, [], last=True)


def test_a_promotion_that_holds_is_executed_and_one_that_does_not_is_refused() -> None:
    owing().follow(1, [candidate("executed")], last=True)
    owing().follow(1, [candidate("refused", 899_999)], last=True)


def later(state: str, **more: Any) -> dict[str, Any]:
    return {"event": "promotion", "state": state, "name": "model", "candidate": DIGEST, **more}


def test_witnesses_come_between_a_candidate_and_its_execution() -> None:
    begun = candidate("tentative", witnesses=2)
    owing(2).follow(1, [begun, later("witnessed", signed_by=["a", "b"]), later("executed")], last=True)
    owing(2).follow(1, [begun, later("aborted")], last=True)


@pytest.mark.parametrize(
    ("events", "witnesses", "message"),
    [
        ([], 0, "a model was published although"),
        ([candidate("executed", 899_999)], 0, "the policy makes it `refused`"),
        ([candidate("refused")], 0, "the policy makes it `executed`"),
        ([candidate("executed")], 2, "the policy makes it `tentative`"),
        ([candidate("tentative", witnesses=1)], 2, "the policy makes it `tentative`"),
        ([candidate("executed", checks=[])], 0, "other obligations than the run owes"),
        ([candidate("executed", checks=[{"obligation": 0, "metric": "other"}])], 0, "not what `promote after gold`"),
        ([candidate("tentative", witnesses=2), later("executed")], 2, "went from `tentative` to `executed`"),
        ([candidate("tentative", witnesses=2), later("witnessed", signed_by=["a", "a"])], 2, "by fewer than 2"),
        ([later("executed")], 0, "goes on that never began"),
        ([candidate("refused", 1), later("executed")], 0, "went from `refused` to `executed`"),
    ],
    ids=str,
)
def test_a_model_that_had_to_stay_is_found(events: list[dict[str, Any]], witnesses: int, message: str) -> None:
    with pytest.raises(CorruptLogError, match=message):
        owing(witnesses).follow(1, events, last=True)


def test_a_metric_that_contradicts_what_is_said_of_it_is_found() -> None:
    lie = candidate("executed", 1)
    lie["checks"][0]["holds"] = True
    with pytest.raises(CorruptLogError, match="is not what its metric says"):
        owing().follow(1, [lie], last=True)
