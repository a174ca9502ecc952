"""Every finding of the checker, beside the nearest policy that has it not."""

from __future__ import annotations

import pytest

from aqpolicy.analysis import CheckResult, check, examine
from aqpolicy.diagnostics import Diagnostic, Source
from aqpolicy.model import load_policy

HEAD = """
policy test version 1.0.0
taxonomy t version 1 {
  authority crowd < expert < board
  review draft < approved; rejected
  attribute consensus : number 0..1
  attribute judgments : integer 0..10
}
depth from input { surface = modules "a"; head = modules "b" }
profile full { all 1 }
profile weak { surface 0.5 }
otherwise deny because "no rule admits it"
"""
ANY = """
budget any for anything on all
  surprisal at most 100 nat per run, at most 6 nat per update
  on exhaust deny
"""


def examined(text: str, budgets: str = ANY) -> CheckResult:
    return examine(load_policy(Source("test.aqp", HEAD + text + budgets)))


def the_finding(text: str, budgets: str = ANY) -> Diagnostic:
    findings = examined(text, budgets).findings
    assert len(findings) == 1, [finding.message for finding in findings]
    return findings[0]


def marked(finding: Diagnostic, text: str, budgets: str = ANY) -> list[str]:
    source = HEAD + text + budgets
    return [source[label.span.start : label.span.end] for label in finding.labels]


EXPERTS = "rule experts when authority >= expert admit full\n"


def test_a_policy_without_faults_proves_all_its_claims() -> None:
    result = examined(EXPERTS + "prove never authority is crowd and admitted(head) > 0")
    assert result.findings == ()
    assert "grant `experts` conflicts with no later grant" in result.proved
    assert "all learning in `head` is budgeted" in result.proved


class TestConflicts:
    def test_overlapping_grants_conflict_at_the_least_observation(self) -> None:
        finding = the_finding(EXPERTS + "rule hints when consensus > 0.25 admit weak")
        assert finding.code == "AQ301"
        assert finding.witness == {
            "authority": "expert",
            "review": "draft",
            "consensus": "0.250001",
            "judgments": "0",
        }
        assert "`surface` and `head`" in finding.message
        assert any("overrides experts" in line for line in finding.help)

    def test_a_conflict_points_at_both_grants_and_both_guards(self) -> None:
        text = EXPERTS + "rule hints when consensus > 0.25 admit weak"
        spots = marked(the_finding(text), text)
        assert len(spots) == 4
        assert "authority >= expert" in spots[2]
        assert "consensus > 0.25" in spots[3]

    @pytest.mark.parametrize(
        "text",
        [
            EXPERTS + "rule hints when consensus > 0.25 admit weak overrides experts",
            EXPERTS + "rule hints when consensus > 0.25 and authority is crowd admit weak",
            EXPERTS + "rule again when consensus > 0.25 admit full",
            EXPERTS + "rule hints when consensus > 0.25 admit weak combine grants by min",
        ],
        ids=["overridden", "disjoint", "equal", "least share wins"],
    )
    def test_grants_that_cannot_clash_are_no_conflict(self, text: str) -> None:
        assert examined(text).findings == ()

    def test_overrides_reach_through_a_rule_in_between(self) -> None:
        text = """
            rule a when consensus >= 0.1 admit full
            rule b when consensus >= 0.2 admit weak overrides a
            profile other { head 0.25 }
            rule c when consensus >= 0.3 admit other overrides b
        """
        assert examined(text).findings == ()

    def test_a_third_grant_that_overrides_both_settles_the_conflict(self) -> None:
        text = """
            rule a when judgments >= 5 admit full
            rule b when judgments >= 5 and consensus >= 0.5 admit weak
            rule c when judgments >= 5 admit weak overrides a, b
        """
        assert examined(text).findings == ()

    def test_integers_step_over_gaps_between_guards(self) -> None:
        text = """
            rule a when judgments > 3 admit full
            rule b when judgments < 4 admit weak
        """
        assert examined(text).findings == ()


class TestBounds:
    def test_a_group_without_a_budget_is_unbounded(self) -> None:
        budget = ANY.replace("on all", "on surface")
        finding = the_finding(EXPERTS, budget)
        assert finding.code == "AQ302"
        assert "`head`" in finding.message
        assert finding.witness is not None
        assert finding.witness["authority"] == "expert"

    def test_a_scope_that_misses_admitted_observations_is_unbounded(self) -> None:
        budget = ANY.replace("for anything", "for authority is board")
        findings = examined(EXPERTS, budget).findings
        assert {finding.code for finding in findings} == {"AQ302"}
        assert len(findings) == 2
        assert marked(findings[0], EXPERTS, budget)[-1] == "any"

    def test_a_scope_that_covers_all_that_is_admitted_suffices(self) -> None:
        assert examined(EXPERTS, ANY.replace("for anything", "for authority >= expert")).findings == ()

    def test_restrictions_count_before_budgets_are_asked_for(self) -> None:
        budget = ANY.replace("on all", "on surface")
        assert examined(EXPERTS + "rule closed when consensus <= 1 deny head", budget).findings == ()

    def test_a_bound_per_update_alone_bounds_nothing(self) -> None:
        budget = "budget any for anything on all surprisal at most 6 nat per update on exhaust deny"
        assert {finding.code for finding in examined(EXPERTS, budget).findings} == {"AQ302"}

    def test_a_window_needs_a_bound_per_update(self) -> None:
        budget = ANY.replace(", at most 6 nat per update", "")
        finding = the_finding(EXPERTS, budget)
        assert finding.code == "AQ302"
        assert "one update may spend all" in finding.message


class TestBudgets:
    def test_two_limits_for_the_same_learning_contradict_each_other(self) -> None:
        other = ANY.replace("any ", "other ", 1).replace("100", "200").replace("anything", "consensus >= 0")
        finding = the_finding(EXPERTS, ANY + other)
        assert finding.code == "AQ303"
        assert "per run" in finding.message

    def test_different_scopes_may_have_different_limits(self) -> None:
        other = ANY.replace("any ", "other ", 1).replace("100", "200").replace("anything", "consensus > 0")
        assert examined(EXPERTS, ANY + other).findings == ()

    @pytest.mark.parametrize(
        ("child", "words"),
        [
            ("for consensus < 0.5 on head within any surprisal at most 101 nat per run", "allows more per run"),
            ("for anything on head within narrow surprisal at most 1 nat per run", "applies where"),
            ("for consensus < 0.5 on all within narrow surprisal at most 1 nat per run", "covers `surface`"),
        ],
    )
    def test_a_child_stays_within_its_parent(self, child: str, words: str) -> None:
        parents = ANY + (
            "budget narrow for consensus < 0.75 on head "
            "surprisal at most 50 nat per run, at most 6 nat per update on exhaust deny\n"
        )
        finding = the_finding(EXPERTS, f"{parents}budget child {child}, at most 6 nat per update on exhaust deny")
        assert finding.code == "AQ303"
        assert words in finding.message

    def test_a_child_inside_its_parent_is_fine(self) -> None:
        child = (
            "budget child for consensus < 0.5 on head within any "
            "surprisal at most 99 nat per run, at most 6 nat per update on exhaust deny"
        )
        assert examined(EXPERTS, ANY + child).findings == ()


class TestGuards:
    def test_a_contradiction_is_named_by_its_smallest_set_of_conditions(self) -> None:
        text = (
            EXPERTS
            + "rule dead when review is approved and consensus > 0.5 and judgments > 1 and consensus <= 0.5 deny head"
        )
        finding = the_finding(text)
        assert finding.code == "AQ305"
        assert marked(finding, text) == ["consensus > 0.5", "consensus <= 0.5", "dead"]

    def test_a_condition_outside_the_domain_is_dead_alone(self) -> None:
        text = EXPERTS + "rule dead when judgments >= 3 and not judgments <= 10 deny head"
        finding = the_finding(text)
        assert [label.text for label in finding.labels] == ["not judgments <= 10", "can never apply"]

    def test_an_order_leaves_out_what_stands_outside_it(self) -> None:
        text = EXPERTS + "rule dead when review is rejected and review >= draft deny head"
        assert the_finding(text).code == "AQ305"

    def test_the_scope_of_a_budget_can_be_dead_too(self) -> None:
        dead = ANY.replace("any ", "dead ", 1).replace("anything", "consensus < 0.1 and consensus > 0.2")
        assert "budget `dead`" in the_finding(EXPERTS, ANY + dead).message


class TestProofs:
    def test_a_refuted_statement_shows_observation_decision_and_rules(self) -> None:
        text = EXPERTS + "prove never consensus < 0.5 and admitted(head) > 0.75"
        finding = the_finding(text)
        assert finding.code == "AQ308"
        assert finding.witness == {"authority": "expert", "review": "draft", "consensus": "0", "judgments": "0"}
        assert "surface 1, head 1" in finding.notes[0]
        assert marked(finding, text)[1] == "experts"

    def test_a_restriction_can_make_a_statement_hold(self) -> None:
        text = EXPERTS + "rule cap when consensus < 0.5 limit head share 0.75\n"
        assert examined(text + "prove never consensus < 0.5 and admitted(head) > 0.75").findings == ()
        assert the_finding(text + "prove never consensus < 0.5 and admitted(head) >= 0.75").code == "AQ308"


def test_an_undecided_question_is_a_finding_and_no_proof() -> None:
    budget = ANY.replace("for anything", "for authority >= expert")
    result = examine(load_policy(Source("test.aqp", HEAD + EXPERTS + budget)), effort=1)
    assert result.undecided
    assert {finding.code for finding in result.findings} == {"AQ300"}
    assert "all learning in `head` is budgeted" not in result.proved


def test_checking_twice_says_the_same() -> None:
    policy = load_policy(Source("test.aqp", HEAD + EXPERTS + "rule hints when consensus > 0.25 admit weak" + ANY))
    assert check(policy) == check(policy)
