"""Conditions unfold into conjuncts over intervals."""

from __future__ import annotations

import pytest
from support.policy_text import SMALL

from aqpolicy.diagnostics import Source
from aqpolicy.errors import InputError, InternalError
from aqpolicy.model import Admitted, All, Any, Atom, Condition, Not, Policy, load_policy
from aqpolicy.space.normalise import LARGEST_GUARD, Conjunct, Unfolding
from aqpolicy.space.partition import Partition, comparisons, partition

POLICY: Policy = load_policy(Source("policy.aqp", SMALL + "rule r when anything admit full"))
AUTHORITY, REVIEW, CONSENSUS, JUDGMENTS = range(4)


def atom(name: str, op: str, value: str | int) -> Atom:
    return Atom(name, op, value, POLICY.span)  # type: ignore[arg-type]  # the operators of the table below


def cut(condition: Condition) -> list[Partition]:
    return [partition(attribute, comparisons(condition)) for attribute in POLICY.taxonomy.attributes]


def unfolded(condition: Condition) -> tuple[Conjunct, ...]:
    return Unfolding(cut(condition)).conjuncts(condition)


HALF = 500_000
CROWD, EXPERT, BOARD = (atom("authority", "=", value) for value in ("crowd", "expert", "board"))
LOW = atom("consensus", "<", HALF)


@pytest.mark.parametrize(("op", "intervals"), [("<", 0b001), ("<=", 0b011), ("=", 0b010), (">=", 0b110), (">", 0b100)])
def test_numbers_are_cut_at_and_after_a_threshold(op: str, intervals: int) -> None:
    condition = atom("consensus", op, HALF)
    part = cut(condition)[CONSENSUS]
    assert part.lowest == (0, HALF, HALF + 1)
    assert part.satisfying(condition) == intervals


def test_whole_numbers_are_cut_at_whole_numbers() -> None:
    assert cut(atom("judgments", ">", 3_000_000))[JUDGMENTS].lowest == (0, 3_000_000, 4_000_000)
    assert cut(atom("judgments", ">", 20_000_000))[JUDGMENTS].lowest == (0, 20_000_000)


def test_a_ladder_compares_within_its_order_only() -> None:
    part = cut(CROWD)[REVIEW]
    assert part.satisfying(atom("review", ">=", "draft")) == 0b011
    assert part.satisfying(atom("review", "<", "approved")) == 0b001
    assert part.satisfying(atom("review", "<=", "rejected")) == 0
    assert part.satisfying(atom("review", "=", "rejected")) == 0b100


def test_alternatives_of_one_attribute_are_joined() -> None:
    assert unfolded(Any((CROWD, LOW, BOARD))) == (((AUTHORITY, 0b101),), ((CONSENSUS, 0b001),))


def test_alternatives_that_leave_nothing_out_are_true() -> None:
    assert unfolded(Any((CROWD, EXPERT, LOW, BOARD))) == ((),)
    assert unfolded(Any((LOW, All(())))) == ((),)
    assert unfolded(All(())) == ((),)


def test_what_contradicts_itself_has_no_conjunct() -> None:
    assert unfolded(All((CROWD, BOARD))) == ()
    assert unfolded(Any(())) == ()


def test_negation_turns_and_into_or() -> None:
    assert unfolded(Not(All((CROWD, LOW)))) == (((AUTHORITY, 0b110),), ((CONSENSUS, 0b110),))
    assert unfolded(Not(Any((CROWD, LOW)))) == (((AUTHORITY, 0b110), (CONSENSUS, 0b110)),)


def test_a_product_names_its_attributes_in_order() -> None:
    condition = All((LOW, Any((CROWD, atom("judgments", ">", 3_000_000)))))
    assert unfolded(condition) == (((AUTHORITY, 0b001), (CONSENSUS, 0b001)), ((CONSENSUS, 0b001), (JUDGMENTS, 0b100)))


def test_too_many_alternatives_are_refused_with_the_way_out() -> None:
    several = Any(tuple(All((CROWD, atom("consensus", "=", n))) for n in range(LARGEST_GUARD + 1)))
    with pytest.raises(InputError, match="split the rule"):
        unfolded(several)
    assert len(unfolded(Any(several.terms[1:]))) == LARGEST_GUARD


def test_a_guard_cannot_ask_for_its_own_decision() -> None:
    with pytest.raises(InternalError, match="its own decision"):
        unfolded(All((CROWD, Admitted("head", ">", 0, POLICY.span))))
