"""Formulas simplify as they are made, and keep their meaning."""

from __future__ import annotations

from itertools import product

import pytest

from aqpolicy.space import FALSE, TRUE, Formula, both, either, neither, opposite, some
from aqpolicy.space.formula import Both, Either, Neither, Some, mentioned


def true_under(formula: Formula, held: int) -> bool:
    match formula:
        case Some(mask):
            return bool(mask & held)
        case Neither(mask):
            return not mask & held
        case Both(terms):
            return all(true_under(term, held) for term in terms)
        case Either(terms):
            return any(true_under(term, held) for term in terms)


def test_empty_masks_are_constants() -> None:
    assert (some(0), neither(0), both(), either()) == (FALSE, TRUE, TRUE, FALSE)
    assert (opposite(TRUE), opposite(FALSE)) == (FALSE, TRUE)


def test_choices_are_merged_in_either_and_denials_in_both() -> None:
    assert either(some(0b001), some(0b010), FALSE) == some(0b011)
    assert both(neither(0b001), neither(0b010), TRUE) == neither(0b011)


def test_constants_decide() -> None:
    assert both(some(1), FALSE, neither(2)) == FALSE
    assert either(some(1), TRUE, neither(2)) == TRUE


def test_what_is_denied_is_taken_out_of_choices() -> None:
    assert both(some(0b011), neither(0b001)) == Both((some(0b010), neither(0b001)))
    assert both(some(0b001), neither(0b011)) == FALSE
    assert either(neither(0b011), some(0b011)) == TRUE


def test_nested_terms_of_one_kind_are_flattened() -> None:
    inner = both(some(1), some(2))
    assert both(inner, some(4)) == Both((some(1), some(2), some(4)))
    assert either(either(neither(1), neither(2)), neither(4)) == Either((neither(1), neither(2), neither(4)))


def test_negation_reaches_the_conjuncts() -> None:
    formula = either(both(some(1), neither(2)), neither(4))
    assert opposite(formula) == both(either(neither(1), some(2)), some(4))
    assert opposite(opposite(formula)) == formula


PARTS = (TRUE, FALSE, some(0b01), some(0b11), neither(0b10), neither(0b11), both(some(1), some(2)))


@pytest.mark.parametrize(("one", "other"), list(product(PARTS, PARTS)))
def test_simplification_keeps_the_meaning(one: Formula, other: Formula) -> None:
    for held in range(4):
        a, b = true_under(one, held), true_under(other, held)
        assert true_under(both(one, other), held) is (a and b)
        assert true_under(either(one, other), held) is (a or b)
        assert true_under(opposite(either(one, both(other, some(1)))), held) is not (a or (b and bool(held & 1)))


def test_every_conjunct_that_is_spoken_of_is_mentioned() -> None:
    assert mentioned(either(both(some(1), neither(2)), neither(8))) == 0b1011
