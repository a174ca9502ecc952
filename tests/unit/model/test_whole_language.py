"""Every construct beyond rules and budgets of nats: what it resolves to, and what is refused of it."""

from __future__ import annotations

import pytest
from support.policy_text import SMALL

from aqpolicy.diagnostics import Source
from aqpolicy.errors import PolicyError
from aqpolicy.model import (
    All,
    Any,
    Atom,
    Charged,
    Condition,
    Defer,
    LimitFrequency,
    LimitLinear,
    Monotone,
    Never,
    Not,
    Numeric,
    Policy,
    Promote,
    SpentAtMost,
    Verify,
    load_policy,
)
from aqpolicy.units import date_text

RULE = "rule base when anything admit full\n"
BUDGET = "budget b on all surprisal at most 5 nat per epoch, at most 1 nat per update on exhaust deny\n"


def loaded(text: str) -> Policy:
    return load_policy(Source("policy.aqp", SMALL + text))


def codes(text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        loaded(text)
    return [diagnostic.code for diagnostic in caught.value.diagnostics]


def outline(found: Condition) -> object:
    match found:
        case Atom():
            return (found.attribute, found.op, found.value)
        case Not():
            return ("not", outline(found.term))
        case All() | Any():
            return (type(found).__name__, *(outline(term) for term in found.terms))
    raise AssertionError(found)


def when(text: str) -> object:
    return outline(loaded(text).rules[0].when)


def test_bands_become_comparisons_with_their_ends() -> None:
    bands = "bands of consensus { low < 0.3; middle < 0.9; high }\n"
    assert when(bands + "rule r when band is low admit full") == ("consensus", "<", 300_000)
    assert when(bands + "rule r when band is high admit full") == ("consensus", ">=", 900_000)
    middle = ("All", ("consensus", ">=", 300_000), ("consensus", "<", 900_000))
    assert when(bands + "rule r when band is middle admit full") == middle
    assert when(bands + "rule r when band is not one of low, high admit full") == (
        "not",
        ("Any", ("consensus", "<", 300_000), ("consensus", ">=", 900_000)),
    )


def test_bands_may_name_what_the_run_measures() -> None:
    policy = loaded("bands of surprisal { easy < 1 nat; hard }\nrule r when band is hard deny all\n" + RULE)
    assert [(attribute.name, attribute.origin) for attribute in policy.derived] == [("surprisal", "run")]
    assert loaded("bands of surprisal { easy < 1 nat; hard }\n" + RULE).derived == ()


def test_what_a_definition_asks_of_the_run_is_asked_where_it_is_used() -> None:
    text = "define hard = surprisal > 3 nat\ndefine late = epoch > 2\ndefine both = hard and late\n"
    names = [attribute.name for attribute in loaded(text + RULE + "rule r when both deny all").derived]
    assert names == ["surprisal", "epoch"]
    assert loaded(text + RULE).derived == ()


def test_definitions_take_values() -> None:
    text = "define agreed(level, who) = consensus >= level and authority >= who\n"
    text += "define both(x) = agreed(x, board) and judgments > 1\n"
    assert when(text + "rule r when both(0.9) admit full") == (
        "All",
        ("All", ("consensus", ">=", 900_000), ("authority", "=", "board")),
        ("judgments", ">", 1_000_000),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("define d(x) = consensus > x rule r when d admit full", ["AQ220"]),
        ("define d(x) = consensus > x rule r when d(0.5, 0.6) admit full", ["AQ220"]),
        ("define d(x) = consensus > x rule r when d(1.5) admit full", ["AQ204"]),
        ("define d(x) = consensus > x rule r when d(board) admit full", ["AQ203"]),
        ("define d(x) = consenus > x " + RULE, ["AQ201"]),
        ("define d(x) = d(x) " + RULE, ["AQ216"]),
        ("bands of authority { a; b } " + RULE, ["AQ203"]),
        ("bands of consensus { a < 0.5; a } " + RULE, ["AQ202"]),
        ("bands of consensus { a < 5; b } " + RULE, ["AQ204"]),
        ("rule r when band is settled admit full", ["AQ201"]),
        ("rule r when band < 0.5 admit full", ["AQ203"]),
        ("rule r when phase is main admit full", ["AQ201"]),
        ("phases warm < main phases a < b " + RULE, ["AQ211"]),
        ("phases warm < main rule r when phase is cool admit full", ["AQ204"]),
        ("stages a < b { c requires gold.accuracy >= 0.9 } " + RULE, ["AQ204"]),
        ("rule r when today < 2027-02-30 admit full", ["AQ204"]),
        ("rule r when today < 3 admit full", ["AQ203"]),
        ("rule r when consensus < 2027-01-01 admit full", ["AQ203"]),
        ("rule r when surprisal > 3 l2 admit full", ["AQ207"]),
        ("evidence { one per session } " + RULE, ["AQ217", "AQ219"]),
        ("evidence { weigh authority: crowd 1; crowd 2 at most 3 } " + RULE, ["AQ202"]),
        ("evidence { weigh consensus: crowd 1 at most 3 } " + RULE, ["AQ203"]),
        ("evidence { weigh authority: crowd 1 one per nobody at most 3 } " + RULE, ["AQ201"]),
        ("profile p { semantic to surface 1 } " + RULE, ["AQ219"]),
        ("profile p { surface 2 } " + RULE, ["AQ205"]),
        ("profile p { amplify surface 0.5 } " + RULE, ["AQ205"]),
        ("profile p { surface to head 1; head 1 } " + RULE, ["AQ202"]),
        (RULE + "rule r when anything limit all share 1 - authority", ["AQ203"]),
        (RULE + "budget b on all movement at most 1 nat per step", ["AQ207"]),
        (RULE + "budget b on all movement at most 1 l2 per update", ["AQ203"]),
        (RULE + "budget b on all drift at most 1 nat per run, at most 2 nat per run", ["AQ211"]),
        (RULE + "prove admitted(head) rises with nobody", ["AQ201"]),
        (RULE + "prove spent(nobody) <= 3 nat", ["AQ201"]),
        (RULE + BUDGET + "prove spent(b) <= 3 l2", ["AQ207"]),
        (RULE + 'test "t" { given anything expect admit by nobody }', ["AQ201"]),
        (RULE + 'test "t" { given admitted(head) > 0 expect admit }', ["AQ214"]),
        (RULE + "assume epochs <= 3, epochs <= 4", ["AQ211"]),
        ('import "x.aqp" ' + RULE, ["AQ221"]),
        ("extends org.base " + RULE, ["AQ221"]),
    ],
)
def test_each_fault_of_the_wider_language_has_its_code(text: str, expected: list[str]) -> None:
    assert codes(text) == expected


def test_a_taxonomy_cannot_declare_what_the_language_provides() -> None:
    text = SMALL.replace("attribute judgments : integer 0..20", "attribute surprisal : number 0..1")
    with pytest.raises(PolicyError) as caught:
        load_policy(Source("policy.aqp", text + RULE))
    assert [diagnostic.code for diagnostic in caught.value.diagnostics] == ["AQ225"]


def test_dates_are_exact_days() -> None:
    policy = loaded("rule r when anything until 2027-06-30 admit full")
    last = policy.rules[0].when
    assert isinstance(last, All)
    assert outline(last.terms[1])[:2] == ("today", "<=")  # type: ignore[index]
    assert date_text(last.terms[1].value) == "2027-06-30"
    (today,) = policy.derived
    assert isinstance(today.type, Numeric)
    assert (today.name, today.type.kind) == ("today", "date")


def test_the_courses_of_a_run_are_ordered_attributes() -> None:
    text = "phases warm < main\nstages basic < advanced { advanced requires gold.accuracy >= 0.9 }\n"
    policy = loaded(text + "rule r when phase >= main and stage is advanced admit full")
    assert [attribute.name for attribute in policy.derived] == ["phase", "stage"]
    (certification,) = policy.certifications
    assert (certification.stage, certification.metric, certification.value) == ("advanced", "gold.accuracy", 900_000)


def test_evidence_is_an_attribute_with_its_floor_and_ceiling() -> None:
    text = "evidence { weigh authority: crowd 0.25; board 4 one per session, model at least 0.1 at most 8 }\n"
    policy = loaded(text + "rule r when evidence >= 3 admit full")
    assert policy.evidence is not None
    assert policy.evidence.weights[0].weights == (("crowd", 250_000), ("board", 4_000_000))
    assert policy.evidence.independent_by == ("session", "model")
    (evidence,) = policy.derived
    assert evidence.origin == "evidence"
    assert isinstance(evidence.type, Numeric)
    assert (evidence.type.low, evidence.type.high) == (100_000, 8_000_000)


@pytest.mark.parametrize(
    ("profile", "shares"),
    [
        ("from surface 1 to head 0.1 linear", (1_000_000, 550_000, 100_000)),
        ("surface to semantic 0.5", (500_000, 500_000, 0)),
        ("surface to surface 1 tapered over 1 groups", (1_000_000, 500_000, 0)),
        ("surface to surface 1 tapered over 2", (1_000_000, 666_666, 333_333)),
        ("surface 1; amplify head 2.5", (1_000_000, 0, 2_500_000)),
    ],
)
def test_profiles_have_curves(profile: str, shares: tuple[int, ...]) -> None:
    policy = loaded(f"profile p {{ {profile} }} rule r when anything admit p")
    assert policy.rules[0].admit is not None
    assert policy.rules[0].admit.shares == shares


@pytest.mark.parametrize(
    ("text", "intercept", "slope", "at_a_quarter"),
    [
        ("1 - consensus", 1_000_000, -1_000_000, 750_000),
        ("consensus", 0, 1_000_000, 250_000),
        ("0.5 * consensus + 0.1", 100_000, 500_000, 225_000),
        ("2 * consensus - 0.25", -250_000, 2_000_000, 250_000),
        ("0.1 - consensus", 100_000, -1_000_000, 0),
    ],
)
def test_a_share_may_be_linear_in_an_attribute(text: str, intercept: int, slope: int, at_a_quarter: int) -> None:
    policy = loaded(f"rule r when anything admit full limit all share {text}")
    (limit,) = policy.rules[0].restrictions
    assert isinstance(limit, LimitLinear)
    assert (limit.intercept, limit.slope, limit.at(250_000)) == (intercept, slope, at_a_quarter)


def test_obligations_are_numbered_as_declared() -> None:
    text = """
    rule r when anything admit full
      limit head frequency 1 per 10 steps
      defer until consensus >= 0.6  # a comment
        and judgments > 2 for at most 3 epochs then deny
      verify gold.accuracy falls at most 0.01 within 200 steps else rollback
      promote after gold.accuracy >= 0.9 witnessed by 2
    """
    frequency, defer, verify, promote = (obligation for _, obligation in loaded(text).obligations)
    assert isinstance(frequency, LimitFrequency)
    assert (frequency.groups, frequency.updates, frequency.steps) == (("head",), 1, 10)
    assert isinstance(defer, Defer)
    assert (defer.epochs, defer.text) == (3, "consensus >= 0.6 and judgments > 2")
    assert isinstance(verify, Verify)
    assert (verify.metric, verify.direction, verify.amount, verify.steps) == ("gold.accuracy", "falls", 10_000, 200)
    assert isinstance(promote, Promote)
    assert (promote.value, promote.witnesses) == (900_000, 2)


def test_depth_groups_have_addresses_of_several_kinds() -> None:
    depth = 'depth from input { surface = modules "a", "b" to "c", experts "moe.*", "late.*"; '
    depth += 'protected semantic = parameters "tied.weight"; head = adapters "*" }'
    text = SMALL.replace(
        'depth from input { surface = modules "a"; semantic = modules "b"; head = modules "c" }', depth
    )
    surface, semantic, head = load_policy(Source("policy.aqp", text + RULE)).groups
    assert [part.kind for part in surface.modules] == ["modules", "modules", "experts", "experts"]
    assert (surface.protected, semantic.protected) == (False, True)
    assert head.modules[0].kind == "adapters"


def test_promises_resolve() -> None:
    text = "prove never charged(b) > 0.5\nprove admitted(head) falls with judgments\n"
    text += "prove spent(b) <= 15 nat given epochs <= 3\nassume epochs <= 3, steps <= 10\ncomplete\n"
    policy = loaded(RULE + BUDGET + text)
    never, monotone, spent = policy.proofs
    assert isinstance(never, Never)
    assert isinstance(never.never, Charged)
    assert isinstance(monotone, Monotone)
    assert (monotone.direction, monotone.attribute) == ("falls", "judgments")
    assert isinstance(spent, SpentAtMost)
    assert (spent.most, [(a.what, a.most) for a in spent.given]) == (15_000_000, [("epochs", 3)])
    assert [(a.what, a.most) for a in policy.assumptions] == [("epochs", 3), ("steps", 10)]
    assert policy.complete is not None


def test_cases_keep_what_they_expect() -> None:
    policy = loaded(RULE + 'test "t" { given consensus > 0.5 expect admit by base expect that admitted(head) is 1 }')
    (case,) = policy.cases
    assert case.title == "t"
    assert [(e.effect, e.rules, e.text) for e in case.expectations] == [
        ("admit", ("base",), "admit by base"),
        (None, (), "that admitted(head) is 1"),
    ]
