"""The meaning of verification and promotion, one check at a time."""

from __future__ import annotations

import pytest

from aqpolicy.bundle.tables import ObligationTable
from aqpolicy.semantics.verification import (
    Verified,
    after_update,
    before_update,
    check,
    is_due,
    may_promote,
    rounded,
    waits,
)


def verify(remedy: str = "rollback", direction: str = "falls", steps: int = 3) -> ObligationTable:
    parameters = {"amount": 10, "direction": direction, "metric": "gold", "remedy": remedy, "steps": steps}
    return ObligationTable("verify", "r", "", parameters)


def test_the_first_value_is_that_before_the_first_update() -> None:
    kept = before_update(Verified(), 700)
    assert kept == Verified(700)
    assert before_update(kept, 900) == kept


def test_a_check_is_due_so_many_steps_after_the_first_update_that_waits_for_one() -> None:
    kept = after_update(verify(), Verified(700), 5)
    kept = after_update(verify(), kept, 6)
    assert kept.due == 7
    assert [is_due(kept, step) for step in (6, 7, 8)] == [False, True, True]
    assert after_update(verify(steps=1), Verified(700), 5).due == 5
    assert waits(kept)
    assert not waits(Verified(700))


def test_a_loss_within_the_amount_passes_and_becomes_what_the_next_is_compared_with() -> None:
    done = check(verify(), Verified(700, 7), 690, 7)
    assert (done.passed, done.remedy, done.after) == (True, "", Verified(690))
    assert not check(verify(), Verified(690, 9), 679, 9).passed


@pytest.mark.parametrize(("direction", "now"), [("falls", 689), ("rises", 711)])
def test_a_loss_beyond_the_amount_fails_and_keeps_the_verified_value(direction: str, now: int) -> None:
    done = check(verify(direction=direction), Verified(700, 7), now, 7)
    assert (done.passed, done.remedy, done.after) == (False, "rollback", Verified(700))
    assert check(verify(direction=direction), Verified(700, 7), 1400 - now, 7).passed


def test_what_is_held_is_checked_again_until_it_passes() -> None:
    failed = check(verify("hold"), Verified(700, 7), 600, 7)
    assert (failed.remedy, failed.after) == ("hold", Verified(700, 10, held=True))
    assert check(verify("hold"), failed.after, 690, 10).after == Verified(690)


def test_a_halt_leaves_nothing_to_be_checked() -> None:
    done = check(verify("halt"), Verified(700, 7), 600, 7)
    assert (done.remedy, done.after) == ("halt", Verified(700))


@pytest.mark.parametrize(("value", "micro"), [(0.5, 500_000), (2.0**-21, 0), (3 * 2.0**-21, 1), (-1.25, -1_250_000)])
def test_values_are_rounded_to_millionths(value: float, micro: int) -> None:
    assert rounded(value) == micro


def test_halves_are_rounded_to_the_even_one() -> None:
    assert (rounded(1 / 128), rounded(3 / 128)) == (7_812, 23_438)  # 7812.5 and 23437.5 millionths, exactly


@pytest.mark.parametrize(("now", "witnesses", "allowed"), [(900, 2, True), (899, 2, False), (900, 1, False)])
def test_a_promotion_asks_for_the_metric_and_the_witnesses(now: int, witnesses: int, allowed: bool) -> None:
    asked = ObligationTable("promote", "r", "", {"metric": "gold", "op": ">=", "value": 900, "witnesses": 2})
    assert may_promote(asked, now, witnesses) is allowed
