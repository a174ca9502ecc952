"""What a space answers: least observations, proofs that there are none, overlaps, regions."""

from __future__ import annotations

import pytest
from support.policy_text import SMALL

from aqpolicy.diagnostics import Source
from aqpolicy.errors import AnalysisError, InternalError
from aqpolicy.model import All, Any, Atom, Attribute, Category, Condition, Policy, load_policy
from aqpolicy.space import FALSE, TRUE, Space, Undecided, both, either, opposite
from aqpolicy.space.normalise import LARGEST_GUARD


def small(*guards: str, attributes: str = "") -> Policy:
    text = SMALL.replace("}\ndepth", f"  {attributes}\n}}\ndepth") if attributes else SMALL
    rules = "\n".join(f"rule r{number} when {guard} admit full" for number, guard in enumerate(guards))
    return load_policy(Source("policy.aqp", text + rules))


def spaced(*guards: str, attributes: str = "") -> tuple[Space, list[Condition]]:
    policy = small(*guards, attributes=attributes)
    conditions = [rule.when for rule in policy.rules]
    return Space(policy.attributes, conditions), conditions


LEAST = {"authority": "crowd", "review": "draft", "consensus": 0, "judgments": 0}


def test_the_least_observation_of_all() -> None:
    space, _ = spaced("anything")
    assert space.find(TRUE) == LEAST
    assert space.find(FALSE) is None


def test_the_least_observation_of_a_guard_comes_first_in_the_declared_order() -> None:
    space, (guard,) = spaced("consensus > 0.5 and authority >= expert or judgments >= 3 and authority is board")
    assert space.find(space.formula(guard)) == {**LEAST, "authority": "expert", "consensus": 500_001}


def test_whole_numbers_step_over_what_lies_between() -> None:
    space, (guard,) = spaced("judgments > 3")
    assert space.find(space.formula(guard)) == {**LEAST, "judgments": 4_000_000}


def test_a_value_outside_the_order_is_neither_above_nor_below() -> None:
    space, (low, high) = spaced("review < approved", "review >= approved")
    rest = opposite(either(space.formula(low), space.formula(high)))
    assert space.find(rest) == {**LEAST, "review": "rejected"}


def test_a_contradiction_is_proved() -> None:
    space, (guard,) = spaced("authority >= expert and consensus < 0.5 and (authority is crowd or consensus >= 0.5)")
    assert not space.possible(space.formula(guard))


def test_a_guard_that_only_others_together_cover() -> None:
    space, (guard, low, high) = spaced("judgments >= 3", "consensus < 0.5", "consensus >= 0.4 and judgments >= 2")
    one, below, above = (space.formula(each) for each in (guard, low, high))
    assert space.possible(both(one, opposite(below)))
    assert space.possible(both(one, opposite(above)))
    assert not space.possible(both(one, opposite(either(below, above))))


def test_a_choice_wider_than_is_tried_one_by_one() -> None:
    pairs = [f"(consensus > 0.{n:02} and judgments is {n % 21})" for n in range(50, 90)]
    space, (wide, clear) = spaced(" or ".join(pairs), "judgments >= 20")
    found = space.find(both(space.formula(wide), space.formula(clear)))
    assert found == {**LEAST, "consensus": 620_001, "judgments": 20_000_000}


def test_equal_conditions_are_one_and_unknown_ones_are_refused() -> None:
    space, (guard,) = spaced("authority >= expert and judgments > 3")
    again = load_policy(Source("policy.aqp", SMALL + "rule r0 when authority >= expert and judgments > 3 admit full"))
    assert space.formula(again.rules[0].when) == space.formula(guard)
    with pytest.raises(InternalError, match="not cut"):
        space.formula(small("judgments > 4").rules[0].when)


def switches(count: int) -> tuple[tuple[Attribute, ...], Condition]:
    """Return pairs of two-valued attributes, and the condition that of every pair one is on."""
    span = small("anything").span
    names = [f"{side}{number}" for number in range(count) for side in "ab"]
    on = [Atom(name, "=", "on", span) for name in names]
    pairs = tuple(Any((one, other)) for one, other in zip(on[::2], on[1::2], strict=True))
    return tuple(Attribute(name, Category(("off", "on"), 0), span) for name in names), All(pairs)


def test_a_guard_that_unfolds_too_far_is_left_open_and_spoils_no_other() -> None:
    attributes, wide = switches(13)
    assert LARGEST_GUARD < 2**13
    space = Space(attributes, [wide, All(())], [(wide, frozenset({"a0"}))])
    for ask in (space.mask, space.formula, lambda condition: space.projected(condition, {"a0"})):
        with pytest.raises(Undecided, match="4096"):
            ask(wide)
    assert space.possible(space.formula(All(())))


def test_a_guard_that_just_unfolds_is_answered() -> None:
    attributes, wide = switches(12)
    found = Space(attributes, [wide]).find(Space(attributes, [wide]).formula(wide))
    assert found == {attribute.name: "on" if attribute.name.startswith("b") else "off" for attribute in attributes}


def test_a_question_beyond_its_effort_is_undecided_and_never_proved() -> None:
    space, guards = spaced("judgments >= 3", "consensus < 0.5 or judgments is 2")
    formula = both(*(space.formula(guard) for guard in guards))
    with pytest.raises(Undecided):
        space.find(formula, 1)
    assert issubclass(Undecided, AnalysisError)
    assert space.possible(formula)


def test_overlaps_look_at_every_alternative_of_a_guard() -> None:
    space, guards = spaced(
        "authority is crowd and judgments < 3 or authority is board and judgments > 5",
        "authority is crowd and judgments > 5",
        "authority is board",
        "judgments < 3 and judgments > 5",
        "anything",
    )
    masks = [space.mask(guard) for guard in guards]
    assert space.overlapping(masks) == [0b10101, 0b10010, 0b10101, 0b00000, 0b10111]
    assert space.overlapping(masks[1:3]) == [0b01, 0b10]
    assert space.overlapping([]) == []


def test_a_projection_asks_nothing_of_the_named_attributes() -> None:
    guard = small("authority >= expert and judgments >= 3 or consensus > 0.5 and judgments < 0").rules[0].when
    names = frozenset({"judgments"})
    policy = small("anything")
    space = Space(policy.attributes, [guard], [(guard, names), (guard, frozenset({"authority", "judgments"}))])
    assert space.find(space.projected(guard, names)) == {**LEAST, "authority": "expert"}
    assert space.find(opposite(space.projected(guard, names))) == LEAST
    assert not space.possible(opposite(space.projected(guard, ["judgments", "authority"])))


def texts(guard: str, attributes: str = "") -> list[str]:
    space, (condition,) = spaced(guard, attributes=attributes)
    return [region.text() for region in space.regions(space.formula(condition), 5)]


@pytest.mark.parametrize(
    ("guard", "text"),
    [
        ("anything", "anything"),
        ("authority is board", "authority is board"),
        (
            "authority < board and review is not rejected",
            "authority is one of crowd, expert; review is one of draft, approved",
        ),
        ("consensus < 0.9", "consensus < 0.9"),
        ("consensus <= 0.9", "consensus <= 0.9"),
        ("consensus > 0.25", "consensus > 0.25"),
        ("consensus >= 0.25 and consensus < 0.5", "consensus >= 0.25 and < 0.5"),
        ("judgments >= 3 and judgments <= 9", "judgments from 3 to 9"),
        ("judgments >= 3", "judgments >= 3"),
        ("judgments < 3", "judgments < 3"),
        ("judgments is 3", "judgments is 3"),
    ],
)
def test_a_region_in_words(guard: str, text: str) -> None:
    assert texts(guard) == [text]


def test_numbers_keep_their_unit_and_dates_are_dates() -> None:
    assert texts("doubt < 0.5 nat", "attribute doubt : number 0..2 nat") == ["doubt < 0.5 nat"]
    days = "licensed >= 2021-05-01 and licensed <= 2022-01-31"
    declared = "attribute licensed : date 2020-01-01..2030-12-31"
    assert texts(days, declared) == ["licensed from 2021-05-01 to 2022-01-31"]


def test_regions_are_as_large_as_they_can_be_and_stop_where_asked() -> None:
    space, (guard,) = spaced("consensus < 0.5 or judgments >= 3 or authority is board")
    found = list(space.regions(space.formula(guard), 5))
    assert [region.text() for region in found] == ["consensus < 0.5", "judgments >= 3", "authority is board"]
    assert [region.witness for region in found] == [
        LEAST,
        {**LEAST, "consensus": 500_000, "judgments": 3_000_000},
        {**LEAST, "authority": "board", "consensus": 500_000},
    ]
    assert len(list(space.regions(space.formula(guard), 2))) == 2
    assert list(space.regions(both(space.formula(guard), opposite(space.formula(guard))), 2)) == []
