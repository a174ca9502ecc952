"""The meaning of a policy, example by example."""

from __future__ import annotations

import pytest
from support.policy_text import OBSERVATION, SMALL

from aqpolicy.diagnostics import Source
from aqpolicy.errors import InternalError
from aqpolicy.model import Admitted, All, Any, Atom, Charged, Not, load_policy
from aqpolicy.semantics import UNDECIDABLE, Decision, evaluate, holds


def decided(text: str, **changes: object) -> Decision:
    return evaluate(load_policy(Source("policy.aqp", SMALL + text)), {**OBSERVATION, **changes})


FULL, WEAK, NOTHING = (1_000_000,) * 3, (500_000, 0, 250_000), (0, 0, 0)


def test_a_whole_grant_admits() -> None:
    decision = decided('rule r "A title" when anything admit full')
    assert (decision.effect, decision.cause, decision.shares) == ("admit", "granted", FULL)
    assert (decision.reason, decision.rules) == ("A title", ("r",))


def test_a_partial_grant_modulates() -> None:
    decision = decided("rule r when anything admit weak")
    assert (decision.effect, decision.shares, decision.reason) == ("modulate", WEAK, "r")


def test_a_norm_limit_alone_modulates() -> None:
    decision = decided("rule r when anything admit full rule s when anything limit head norm 0.01")
    assert (decision.effect, decision.shares) == ("modulate", FULL)
    assert decision.norms == (None, None, 10_000)


def test_what_no_rule_admits_is_denied_by_default() -> None:
    decision = decided("rule r when authority is crowd admit full")
    assert (decision.effect, decision.cause, decision.rules) == ("deny", "default", ())
    assert decision.reason == "no rule admits it"


def test_a_denial_of_everything_names_its_reason() -> None:
    decision = decided('rule r when anything admit full rule s when anything deny all because "never"')
    assert (decision.effect, decision.cause, decision.reason) == ("deny", "denied", "never")


def test_a_denial_without_words_is_named_by_its_rule() -> None:
    assert decided("rule r when anything admit full rule s when anything deny all").reason == "s"


def test_denials_of_several_rules_add_up() -> None:
    text = "rule r when anything admit full rule s when anything deny surface, head rule t when anything deny semantic"
    assert (decided(text).cause, decided(text).reason) == ("denied", "s")


def test_a_grant_of_which_nothing_is_left_is_denied() -> None:
    decision = decided("rule r when anything admit weak rule s when anything deny surface, head")
    assert (decision.cause, decision.shares, decision.reason) == ("denied", NOTHING, "nothing is left")


def test_the_least_limit_wins() -> None:
    text = (
        "rule r when anything admit full limit head share 0.5 limit head share 0.2 limit head norm 3 limit head norm 2"
    )
    decision = decided(text)
    assert (decision.shares[2], decision.norms[2]) == (200_000, 2_000_000)


GRANTS = "rule r when anything admit full rule s when consensus > 0.5 admit weak "


def test_grants_that_differ_are_an_error() -> None:
    decision = decided(GRANTS)
    assert (decision.cause, decision.shares) == ("error", NOTHING)
    assert decision.reason == "grants conflict: r, s"


def test_grants_that_agree_are_no_error() -> None:
    assert decided("rule r when anything admit full rule s when anything admit full").cause == "granted"


def test_grants_combine_by_the_least_where_the_policy_says_so() -> None:
    assert decided(GRANTS + "combine grants by min").shares == WEAK


def test_an_overridden_grant_yields() -> None:
    decision = decided(GRANTS + "overrides r")
    assert (decision.shares, decision.rules) == (WEAK, ("s",))


def test_a_rule_that_does_not_apply_overrides_nothing() -> None:
    assert decided(GRANTS + "overrides r", consensus=500_000).shares == FULL


def test_overrides_reach_through_rules_that_do_not_apply() -> None:
    text = """rule a when anything admit full
              rule b when authority is crowd admit full overrides a
              rule c when anything admit weak overrides b"""
    assert decided(text).shares == WEAK


def test_an_overridden_rule_keeps_its_restrictions() -> None:
    text = "rule r when anything admit full deny head rule s when anything admit weak overrides r"
    decision = decided(text)
    assert (decision.shares, decision.rules) == ((500_000, 0, 0), ("r", "s"))


@pytest.mark.parametrize("value", [None, "nobody", 1, True, 0.75, -1, 1_000_001, 10**30, b"0.5", [1]], ids=repr)
def test_a_value_that_an_attribute_cannot_have_is_an_error(value: object) -> None:
    name = "authority" if value in (1, "nobody") and value is not True else "consensus"
    decision = decided("rule r when anything admit full", **{name: value})
    assert (decision.effect, decision.cause, decision.reason) == ("deny", "error", UNDECIDABLE)


def test_a_number_between_two_whole_ones_is_no_integer() -> None:
    assert decided("rule r when anything admit full", judgments=1_500_000).cause == "error"


def test_attributes_that_the_taxonomy_does_not_declare_are_not_looked_at() -> None:
    assert decided("rule r when anything admit full", annotator=object()).cause == "granted"


def test_a_budget_is_charged_the_largest_share_it_covers() -> None:
    text = """rule r when anything admit weak
              budget a on head, semantic surprisal at most 1 nat per run on exhaust deny
              budget b on all exposures at most 1 per example on exhaust deny
              budget c for authority is crowd on all exposures at most 1 per example on exhaust deny
              budget d on semantic exposures at most 1 per example on exhaust deny"""
    assert decided(text).charged == (250_000, 500_000, 0, 0)


@pytest.mark.parametrize(
    ("op", "expected"), [("=", (0, 1, 0)), ("<", (1, 0, 0)), ("<=", (1, 1, 0)), (">", (0, 0, 1)), (">=", (0, 1, 1))]
)
def test_comparisons(op: str, expected: tuple[int, ...]) -> None:
    span = load_policy(Source("p", SMALL + "rule r when anything admit full")).span
    atom = Atom("x", op, 5, span)  # type: ignore[arg-type]  # the parameter is one of them
    assert tuple(int(holds(atom, {"x": value})) for value in (4, 5, 6)) == expected
    admitted = Admitted("head", op, 5, span)  # type: ignore[arg-type]  # the parameter is one of them
    assert tuple(int(holds(admitted, {}, {"head": value})) for value in (4, 5, 6)) == expected
    charged = Charged("nats", op, 5, span)  # type: ignore[arg-type]  # the parameter is one of them
    assert tuple(int(holds(charged, {}, charged={"nats": value})) for value in (4, 5, 6)) == expected


def test_empty_junctions() -> None:
    assert holds(All(()), {})
    assert not holds(Any(()), {})
    assert holds(Not(Any(())), {})


def test_a_condition_that_cannot_be_answered_is_a_fault_of_ours() -> None:
    span = load_policy(Source("p", SMALL + "rule r when anything admit full")).span
    for unanswerable in (
        Admitted("head", ">", 0, span),
        Charged("b", ">", 0, span),
        Atom("x", "<", "a", span),
        Atom("y", "=", 1, span),
    ):
        with pytest.raises(InternalError, match="cannot say whether"):
            holds(unanswerable, {"x": "b"})


# ---- Shares that are linear, or above 1


@pytest.mark.parametrize(
    ("amount", "consensus", "share"),
    [
        ("consensus", 400_000, 400_000),
        ("1 - consensus", 400_000, 600_000),
        ("0.5 * consensus", 3, 1),
        ("1 - 0.5 * consensus", 3, 999_998),
        ("2 * consensus - 0.5", 900_000, 1_000_000),
        ("0.5 - consensus", 499_999, 1),
    ],
)
def test_a_linear_limit_is_exact_and_rounds_down(amount: str, consensus: int, share: int) -> None:
    decision = decided(f"rule r when anything admit full limit semantic share {amount}", consensus=consensus)
    assert decision.shares == (1_000_000, share, 1_000_000)


def test_a_linear_limit_below_nothing_closes() -> None:
    decision = decided("rule r when anything admit full limit all share 0.5 - consensus")
    assert (decision.cause, decision.reason, decision.shares) == ("denied", "nothing is left", NOTHING)


AMPLIFIED = "profile loud { surface 1; amplify head 4 } rule r when anything admit loud "


def test_an_amplified_share_is_admitted_as_it_is() -> None:
    decision = decided(AMPLIFIED + "budget b on all exposures at most 1 per example on exhaust deny")
    assert (decision.effect, decision.shares, decision.charged) == ("modulate", (1_000_000, 0, 4_000_000), (4_000_000,))


def test_limits_lower_an_amplified_share_too() -> None:
    assert decided(AMPLIFIED + "limit head share 0.5").shares == (1_000_000, 0, 500_000)
    assert decided(AMPLIFIED + "limit head share consensus + 1").shares == (1_000_000, 0, 1_000_000)


# ---- What is asked beyond the step

DEFER = "defer until consensus >= 0.8 for at most 3 epochs then deny "
VERIFY = "verify gold.accuracy falls at most 0.01 within 200 steps else rollback "
PROMOTE = "promote after gold.auc >= 0.9 witnessed by 2 "


def test_a_deferral_holds_the_whole_example_back_until_it_is_released() -> None:
    text = f'rule r when anything admit full {VERIFY} rule w "Wait" when judgments < 5 limit head norm 1 {DEFER}'
    budget = " budget b on all exposures at most 1 per example on exhaust deny"
    waiting = decided(text + budget)
    assert (waiting.effect, waiting.cause, waiting.reason) == ("defer", "denied", "Wait")
    assert (waiting.shares, waiting.charged, waiting.obligations) == (NOTHING, (0,), (1,))
    assert (waiting.norms[2], waiting.rules) == (1_000_000, ("r", "w"))
    released = decided(text + budget, consensus=800_000)
    assert (released.effect, released.shares, released.obligations) == ("modulate", FULL, (0,))
    assert decided(text + budget, judgments=5_000_000).obligations == (0,)


def test_only_what_is_pending_is_waited_for() -> None:
    other = "defer until judgments >= 9 for at most 1 epochs then deny "
    decision = decided(
        f"rule a when anything admit full {DEFER}{other} rule b when anything {other}", consensus=900_000
    )
    assert (decision.effect, decision.reason, decision.obligations) == ("defer", "a", (1, 2))


def test_nothing_is_deferred_of_which_nothing_is_left() -> None:
    assert decided(f"rule w when anything deny all {DEFER}").cause == "denied"
    assert decided(f"rule w when anything deny all {DEFER}").effect == "deny"
    assert decided(f"rule w when anything {DEFER}").cause == "default"
    assert decided(f"rule w when anything {DEFER}").obligations == ()


def test_an_admitted_update_carries_the_obligations_of_every_applicable_rule() -> None:
    text = f"""rule a when anything admit full {VERIFY}
               rule b when anything admit weak overrides a
               rule c when judgments > 10 {PROMOTE}
               rule d when anything {PROMOTE}"""
    decision = decided(text)
    assert (decision.shares, decision.obligations) == (WEAK, (0, 2))
    assert decided(text, judgments=11_000_000).obligations == (0, 1, 2)


def test_obligations_do_not_change_the_effect() -> None:
    assert decided(f"rule r when anything admit full {VERIFY}{PROMOTE}").effect == "admit"


def test_a_frequency_limit_is_asked_of_open_groups_only() -> None:
    text = "rule r when anything admit weak limit semantic frequency 1 per 10 steps limit all frequency 2 per 5 steps"
    assert decided(text).obligations == (1,)


@pytest.mark.parametrize("text", ["deny all", "admit weak", "limit all share 0.5 - consensus"])
def test_what_is_not_granted_owes_nothing(text: str) -> None:
    decision = decided(f"rule r when anything admit full {VERIFY} rule s when anything {text}")
    assert (decision.shares, decision.obligations) == (NOTHING, ())


# ---- Attributes of the run


def test_the_state_of_the_run_is_part_of_the_observation() -> None:
    text = "rule r when surprisal < 3 and epoch >= 1 until 2030-06-30 admit full"
    run = {"surprisal": 2_999_999, "epoch": 1_000_000, "today": 22_095_000_000}
    assert decided(text, **run).effect == "admit"
    assert decided(text, **{**run, "surprisal": 3_000_000}).cause == "default"
    assert decided(text, **{**run, "today": 22_096_000_000}).cause == "default"
    del run["epoch"]
    assert (decided(text, **run).cause, decided(text, **run).reason) == ("error", UNDECIDABLE)
