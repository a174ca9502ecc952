"""Two policies compared: a proof that they decide the same, or every change with where it happens."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.checking import ANY, EXPERTS, HEAD, a_policy

from aqpolicy.analysis import Change, Comparison, compare
from aqpolicy.errors import InputError
from aqpolicy.model import Policy
from aqpolicy.semantics import evaluate
from aqpolicy.testing import observations, policies

TEXT = (
    EXPERTS
    + "rule low when consensus < 0.5 limit head share 0.25\nrule gentle when consensus < 0.75 limit surface norm 1\n"
)


def compared(new: str, budgets: str = ANY, old: str = TEXT, head: str = HEAD) -> Comparison:
    return compare(a_policy(old), a_policy(new, budgets, head))


def the_change(new: str, budgets: str = ANY, old: str = TEXT) -> Change:
    comparison = compared(new, budgets, old)
    assert len(comparison.changes) == 1, comparison.changes
    assert not comparison.equivalent
    return comparison.changes[0]


@pytest.mark.parametrize(
    "new",
    [
        TEXT,
        "\n".join(reversed(TEXT.splitlines())),
        TEXT.replace("experts", "renamed"),
        TEXT.replace("consensus < 0.5", "not (consensus > 0.499999)"),
        TEXT + "rule again when authority is board admit full",
    ],
    ids=["same", "reordered", "renamed", "said otherwise", "said twice"],
)
def test_policies_that_decide_the_same_are_equivalent(new: str) -> None:
    comparison = compared(new)
    assert comparison.equivalent
    assert comparison.verdict == "equivalent"


def test_a_larger_share_is_wider_and_says_where() -> None:
    change = the_change(TEXT.replace("share 0.25", "share 0.5"))
    assert change.direction == "wider"
    assert change.what == ("the share of `head` rises from 0.25 to 0.5",)
    assert change.regions == ("authority is one of expert, board; consensus < 0.5",)
    assert change.witness == {"authority": "expert", "review": "draft", "consensus": "0", "judgments": "0"}
    assert "head 0.25" in change.old
    assert "head 0.5" in change.new


def test_a_stricter_guard_is_narrower() -> None:
    change = the_change(TEXT.replace("consensus < 0.5", "consensus < 0.625"))
    assert change.direction == "narrower"
    assert change.regions == ("authority is one of expert, board; consensus >= 0.5 and < 0.625",)


def test_changes_of_one_kind_are_gathered_and_different_ones_told_apart() -> None:
    new = TEXT + "rule a when judgments is 0 deny head\nrule b when judgments is 9 deny head\n"
    comparison = compared(new)
    assert [change.what for change in comparison.changes] == [
        ("the share of `head` falls from 0.25 to 0",),
        ("the share of `head` falls from 1 to 0",),
    ]
    assert all(len(change.regions) == 2 for change in comparison.changes)
    assert comparison.verdict == "narrower"


def test_a_change_in_both_directions_is_told_twice() -> None:
    comparison = compared(
        "rule experts when authority >= expert admit weak\n",
        old="rule experts when authority >= expert admit other profile other { head 0.5 }\n",
    )
    assert [change.direction for change in comparison.changes] == ["wider", "narrower"]
    assert comparison.verdict == "both"


@pytest.mark.parametrize(
    ("old", "new", "direction", "what"),
    [
        (TEXT, TEXT.replace("norm 1", "norm 2"), "wider", "the norm of `surface` goes from 1 to 2"),
        (TEXT, TEXT.replace("norm 1", "norm 0.5"), "narrower", "the norm of `surface` goes from 1 to 0.5"),
        (
            TEXT + "rule w when authority is board promote after gold.accuracy >= 0.9",
            TEXT,
            "wider",
            "an obligation of rule `w` is no longer asked",
        ),
        (
            TEXT,
            TEXT + "rule w when authority is board limit head frequency 1 per 10 steps",
            "narrower",
            "an obligation of rule `w` is asked now",
        ),
        (
            TEXT + "rule d when consensus is 0 deny all",
            TEXT + "rule d when consensus is 0 defer until consensus > 0 for at most 2 epochs then deny",
            "wider",
            "deferred instead of denied",
        ),
    ],
)
def test_norms_obligations_and_deferrals_count(old: str, new: str, direction: str, what: str) -> None:
    change = the_change(new, old=old)
    assert change.direction == direction
    assert what in change.what


@pytest.mark.parametrize(
    ("budgets", "direction", "what"),
    [
        (
            ANY.replace("100 nat", "200 nat"),
            "wider",
            "budget `any` limits surprisal from 100 nat per run to 200 nat per run",
        ),
        (
            ANY.replace("at most 100 nat per run, ", ""),
            "wider",
            "budget `any` no longer limits surprisal to 100 nat per run",
        ),
        (
            ANY.replace("exhaust deny", "exhaust halt"),
            "narrower",
            "budget `any` says `on exhaust halt`, and said `deny`",
        ),
        (
            ANY.replace("on exhaust", "exposures at most 3 per example on exhaust"),
            "narrower",
            "budget `any` goes from no limit to 3 for exposures per example",
        ),
    ],
)
def test_limits_of_budgets_count(budgets: str, direction: str, what: str) -> None:
    change = the_change(TEXT, budgets)
    assert (change.direction, change.what) == (direction, (what,))


def test_charges_that_are_dropped_are_found_where_they_happen() -> None:
    change = the_change(TEXT, ANY.replace("for anything", "for consensus >= 0.25"))
    assert change.direction == "wider"
    assert change.what == ("budget `any` is no longer charged",)
    assert change.regions == ("authority is one of expert, board; consensus < 0.25",)


def test_a_new_budget_narrows() -> None:
    other = ANY.replace("budget any for anything", "budget more for consensus < 0.5")
    comparison = compared(TEXT, ANY + other)
    assert [what for change in comparison.changes for what in change.what] == [
        "budget `more` is charged now",
        "budget `more` is new",
    ]


class TestVocabulary:
    def test_policies_over_other_values_are_compared_on_those_they_share(self) -> None:
        head = HEAD.replace("crowd < expert < board", "crowd < expert < fellow < board")
        comparison = compared(TEXT, head=head)
        assert comparison.vocabulary == ("attribute `authority` now also has `fellow`",)
        assert comparison.changes == ()
        assert comparison.verdict == "vocabulary"
        assert not comparison.equivalent

    def test_new_attributes_are_free_in_the_old_policy(self) -> None:
        head = HEAD.replace("attribute judgments", "attribute fresh : one of no, yes\n  attribute judgments")
        comparison = compared(TEXT + "rule f when fresh is no deny head\n", head=head)
        assert "attribute `fresh` is new" in comparison.vocabulary
        assert all("fresh is no" in region for change in comparison.changes for region in change.regions)

    def test_ranges_are_compared_where_they_overlap(self) -> None:
        head = HEAD.replace("integer 0..10", "integer 5..20")
        comparison = compared(TEXT + "rule f when judgments < 7 deny head\n", head=head)
        assert comparison.vocabulary == (
            "attribute `judgments` was an integer from 0 to 10, and is an integer from 5 to 20",
        )
        assert [change.witness["judgments"] for change in comparison.changes if change.witness is not None] == [
            "5",
            "5",
        ]

    def test_groups_that_come_and_go_are_told(self) -> None:
        head = HEAD.replace('head = modules "b"', 'head = modules "c"; tail = modules "d"')
        comparison = compared(TEXT, head=head)
        assert comparison.vocabulary == (
            "depth group `tail` is new",
            "depth group `head` covers other parts of the model",
        )
        assert [what for change in comparison.changes for what in change.what] == [
            "the share of `tail` rises from 0 to 1",
            "budget `any` now covers `tail`",
        ]

    def test_nothing_in_common_is_refused(self) -> None:
        head = HEAD.replace("integer 0..10", "integer 20..30")
        with pytest.raises(InputError, match="judgments"):
            compared(TEXT, head=head)


def test_shares_that_move_with_an_attribute_are_compared_by_the_solver() -> None:
    old = EXPERTS + "rule e when review is draft limit head share 1 - 0.5 * consensus\n"
    assert compared(old, old=old).equivalent
    change = the_change(old.replace("1 - 0.5", "1 - 0.25"), old=old)
    assert change.direction == "wider"
    assert change.witness is not None
    assert change.witness["consensus"] == "0.000003"  # the first value at which rounding down tells the two apart


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_what_is_not_listed_is_decided_the_same(data: st.DataObject) -> None:
    old: Policy = data.draw(policies())
    kept = data.draw(st.sets(st.sampled_from([rule.name for rule in old.rules])))
    rules = tuple(
        replace(rule, overrides=tuple(name for name in rule.overrides if name in kept))
        for rule in old.rules
        if rule.name in kept
    )
    new = replace(old, rules=rules)
    comparison = compare(old, new)
    for observation in data.draw(st.lists(observations(old), max_size=10)):
        one, other = evaluate(old, observation), evaluate(new, observation)
        assert one.shares == other.shares or comparison.changes
        assert (one.effect == "defer") == (other.effect == "defer") or comparison.changes
    backwards = compare(new, old)
    assert comparison.equivalent == backwards.equivalent
    assert {change.direction for change in comparison.changes} == {
        {"wider": "narrower", "narrower": "wider"}[change.direction] for change in backwards.changes
    }
