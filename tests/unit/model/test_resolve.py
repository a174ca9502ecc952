"""What a tree becomes once its names, types and units are known."""

from __future__ import annotations

import pytest
from support.policy_text import RADIOLOGY, SMALL

from aqpolicy.diagnostics import Source
from aqpolicy.errors import PolicyError
from aqpolicy.model import (
    All,
    Any,
    Atom,
    Category,
    Condition,
    Deny,
    Limit,
    LimitNorm,
    LimitShare,
    Not,
    Numeric,
    Policy,
    load_policy,
)
from aqpolicy.model.rules import circles

RULE = "rule base when anything admit full\n"


def loaded(text: str) -> Policy:
    return load_policy(Source("policy.aqp", text))


def codes(text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        loaded(SMALL + text)
    return [diagnostic.code for diagnostic in caught.value.diagnostics]


def condition(text: str) -> Condition:
    return loaded(f"{SMALL}rule r when {text} admit full").rules[0].when


def outline(found: Condition) -> object:
    """Return a condition without its spans."""
    match found:
        case Atom():
            return (found.attribute, found.op, found.value)
        case Not():
            return ("not", outline(found.term))
        case All() | Any():
            return (type(found).__name__, *(outline(term) for term in found.terms))
    raise AssertionError(found)


def test_a_whole_policy_resolves() -> None:
    policy = loaded(RADIOLOGY)
    assert (policy.name, policy.version, policy.origin) == ("radiology.triage", "2.1.0", "input")
    assert policy.group_names == ("surface", "structure", "semantic", "head")
    assert [rule.name for rule in policy.rules][:2] == ["board_truth", "hint"]
    assert policy.rules[0].admit is not None
    assert policy.rules[1].admit is not None
    assert policy.rules[1].admit.shares == (500_000, 0, 0, 1_000_000)
    assert policy.proofs[0].text == "authority is crowd and admitted(semantic) > 0"
    assert not policy.combine_min


def test_attribute_types_are_exact() -> None:
    types = {attribute.name: attribute.type for attribute in loaded(RADIOLOGY).taxonomy.attributes}
    assert types["review"] == Category(("draft", "submitted", "approved", "rejected"), ordered=3)
    assert types["prelabel"] == Category(("none", "accepted_unchanged", "corrected"), ordered=0)
    assert types["consensus"] == Numeric("number", 0, 1_000_000, 1)
    assert types["judgments"] == Numeric("integer", 0, 1_000_000_000, 1_000_000)
    assert types["label_entropy"] == Numeric("number", 0, 10_000_000, 1, "nat")


def test_an_attribute_of_any_name_may_be_ordered() -> None:
    text = SMALL.replace("judgments : integer 0..20", "site : ordered clinic < hospital; unknown")
    types = {a.name: a.type for a in loaded(text + "rule r when site >= hospital admit full").taxonomy.attributes}
    assert types["site"] == Category(("clinic", "hospital", "unknown"), ordered=2)


def test_a_budget_keeps_every_clause() -> None:
    budget = loaded(RADIOLOGY).budgets[0]
    assert (budget.groups, budget.within, budget.exposures) == (("surface", "head"), "any_update", 4)
    assert (budget.per_update, budget.on_exhaust) == (6_000_000, "defer")
    assert [(limit.window, limit.amount) for limit in budget.windows] == [("epoch", 500_000_000)]
    assert isinstance(budget.limits[0], Limit)


def test_restrictions_keep_their_numbers() -> None:
    text = 'rule r when anything deny head because "no" limit surface share 0.3 limit all norm 0.01 l2'
    deny, share, norm = loaded(SMALL + text).rules[0].restrictions
    assert isinstance(deny, Deny)
    assert isinstance(share, LimitShare)
    assert isinstance(norm, LimitNorm)
    assert (deny.groups, deny.because) == (("head",), "no")
    assert (share.groups, share.share) == (("surface",), 300_000)
    assert (norm.groups, norm.norm) == (("surface", "semantic", "head"), 10_000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("anything", ("All",)),
        ("authority is crowd", ("authority", "=", "crowd")),
        ("authority is not crowd", ("not", ("authority", "=", "crowd"))),
        ("authority >= expert", ("Any", ("authority", "=", "expert"), ("authority", "=", "board"))),
        ("authority < expert", ("authority", "=", "crowd")),
        ("authority > board", ("Any",)),
        ("review >= draft", ("Any", ("review", "=", "draft"), ("review", "=", "approved"))),
        ("review is rejected", ("review", "=", "rejected")),
        ("consensus <= 0.000001", ("consensus", "<=", 1)),
        ("judgments is 3", ("judgments", "=", 3_000_000)),
        (
            "judgments is not one of { 1, 2 }",
            ("not", ("Any", ("judgments", "=", 1_000_000), ("judgments", "=", 2_000_000))),
        ),
        (
            "not (consensus > 0.5 or judgments < 3)",
            ("not", ("Any", ("consensus", ">", 500_000), ("judgments", "<", 3_000_000))),
        ),
    ],
)
def test_conditions_become_plain(text: str, expected: object) -> None:
    assert outline(condition(text)) == expected


def test_definitions_are_filled_in_whatever_the_order() -> None:
    policy = loaded(f"{SMALL}rule r when b admit full define b = a and judgments > 1 define a = consensus > 0.5")
    assert outline(policy.rules[0].when) == ("All", ("consensus", ">", 500_000), ("judgments", ">", 1_000_000))


def test_combine_grants_is_heard() -> None:
    assert loaded(SMALL + RULE + "combine grants by min").combine_min


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rule r when truste admit full", ["AQ201"]),
        ("rule r when consensus > 1.4 deny all rule s when review is aproved deny all", ["AQ204", "AQ204"]),
        ("rule r when consensus deny all", ["AQ203"]),
        ("rule r when review > rejected deny all", ["AQ212"]),
        ("rule r when anything limit all share 2 limit all share 0", ["AQ205", "AQ205"]),
        (RULE + "rule base when anything deny all", ["AQ202"]),
        ("rule r when anything admit full overrides r", ["AQ208"]),
        (RULE + "rule s when anything deny all overrides base", ["AQ209"]),
        (RULE + 'otherwise deny because "again"', ["AQ211"]),
        (RULE + "budget b on all on exhaust deny", ["AQ213"]),
        ("rule r when admitted(head) > 0 deny all", ["AQ214"]),
        ("", ["AQ215"]),
        (RULE + "define a = a", ["AQ216"]),
        (RULE + "budget b surprisal at most 1 nat per run", ["AQ217"]),
        (RULE + "define a = consensus > 0.1234567", ["AQ206"]),
        (RULE + "profile empty { }", ["AQ219"]),
    ],
)
def test_each_fault_has_its_code(text: str, expected: list[str]) -> None:
    assert codes(text) == expected


def test_a_fault_of_a_definition_is_told_once_however_often_it_is_used() -> None:
    assert codes("define d = consenus > 0.5 rule r when d admit full rule s when d deny all") == ["AQ201"]


def test_a_missing_taxonomy_is_one_fault_not_one_per_attribute() -> None:
    with pytest.raises(PolicyError) as caught:
        loaded("rule r when a is b and c > 1 admit full profile full { all 1 }")
    assert [diagnostic.code for diagnostic in caught.value.diagnostics] == ["AQ210"] * 4


def test_definitions_that_double_each_other_are_stopped_early() -> None:
    doubling = "\n".join(f"define d{n + 1} = d{n} and d{n}" for n in range(500))
    assert set(codes(f"define d0 = consensus > 0.5\n{doubling}\n{RULE}")) == {"AQ218"}


def test_definitions_that_lead_to_each_other_without_end_are_stopped() -> None:
    chain = "\n".join(f"define d{n} = not d{n + 1}" for n in range(3000))
    assert "AQ218" in codes(f"{chain}\ndefine d3000 = consensus > 0.5\n{RULE}")


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ({}, []),
        ({"a": ["b"], "b": []}, []),
        ({"a": ["a"]}, [["a"]]),
        ({"a": ["b"], "b": ["c"], "c": ["b"]}, [["b", "c"]]),
        ({"a": ["nobody"]}, []),
        ({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}, []),
    ],
)
def test_circles_are_found(edges: dict[str, list[str]], expected: list[list[str]]) -> None:
    assert circles(edges) == expected


def test_a_long_chain_of_overrides_is_no_circle() -> None:
    assert circles({f"n{n}": [f"n{n + 1}"] for n in range(20_000)}) == []
