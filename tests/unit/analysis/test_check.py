"""Every finding of the checker, beside the nearest policy that has it not."""

from __future__ import annotations

import pytest
from support.checking import ANY, EXPERTS, HEAD, a_policy, coded, errors, examined, marked, the_error

from aqpolicy.analysis import CheckSettings, check, examine


def test_a_policy_without_faults_proves_all_its_claims() -> None:
    result = examined(EXPERTS + "prove never authority is crowd and admitted(head) > 0")
    assert {finding.severity for finding in result.findings} == {"note"}
    assert "no two grants conflict" in result.proved
    assert "all learning in `head` is budgeted" in result.proved


class TestConflicts:
    def test_overlapping_grants_conflict_at_the_least_observation(self) -> None:
        finding = the_error(EXPERTS + "rule hints when consensus > 0.25 admit weak")
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
        spots = marked(the_error(text), text)
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
        assert errors(examined(text)) == []

    def test_overrides_reach_through_a_rule_in_between(self) -> None:
        text = """
            rule a when consensus >= 0.1 admit full
            rule b when consensus >= 0.2 admit weak overrides a
            profile other { head 0.25 }
            rule c when consensus >= 0.3 admit other overrides b
        """
        assert errors(examined(text)) == []

    def test_a_third_grant_that_overrides_both_settles_the_conflict(self) -> None:
        text = """
            rule a when judgments >= 5 admit full
            rule b when judgments >= 5 and consensus >= 0.5 admit weak
            rule c when judgments >= 5 admit weak overrides a, b
        """
        assert coded(examined(text), "AQ301") == []

    def test_integers_step_over_gaps_between_guards(self) -> None:
        text = """
            rule a when judgments > 3 admit full
            rule b when judgments < 4 admit weak
        """
        assert errors(examined(text)) == []


class TestBounds:
    def test_a_group_without_a_budget_is_unbounded(self) -> None:
        budget = ANY.replace("on all", "on surface")
        finding = the_error(EXPERTS, budget)
        assert finding.code == "AQ302"
        assert "`head`" in finding.message
        assert finding.witness is not None
        assert finding.witness["authority"] == "expert"

    def test_a_scope_that_misses_admitted_observations_is_unbounded(self) -> None:
        budget = ANY.replace("for anything", "for authority is board")
        findings = coded(examined(EXPERTS, budget), "AQ302")
        assert len(findings) == 2
        assert marked(findings[0], EXPERTS, budget)[-1] == "any"

    def test_a_scope_that_covers_all_that_is_admitted_suffices(self) -> None:
        assert errors(examined(EXPERTS, ANY.replace("for anything", "for authority >= expert"))) == []

    def test_restrictions_count_before_budgets_are_asked_for(self) -> None:
        budget = ANY.replace("on all", "on surface")
        assert errors(examined(EXPERTS + "rule closed when consensus <= 1 deny head", budget)) == []

    def test_a_bound_per_update_alone_bounds_nothing(self) -> None:
        budget = "budget any for anything on all surprisal at most 6 nat per update on exhaust deny"
        assert errors(examined(EXPERTS, budget)) == ["AQ302", "AQ302"]

    def test_a_window_needs_a_bound_per_update(self) -> None:
        budget = ANY.replace(", at most 6 nat per update", "")
        finding = the_error(EXPERTS, budget)
        assert finding.code == "AQ302"
        assert "one update may spend all" in finding.message


class TestBudgets:
    def test_two_limits_for_the_same_learning_contradict_each_other(self) -> None:
        other = ANY.replace("any ", "other ", 1).replace("100", "200").replace("anything", "consensus >= 0")
        finding = the_error(EXPERTS, ANY + other)
        assert finding.code == "AQ303"
        assert "per run" in finding.message

    def test_different_scopes_may_have_different_limits(self) -> None:
        other = ANY.replace("any ", "other ", 1).replace("100", "200").replace("anything", "consensus > 0")
        assert errors(examined(EXPERTS, ANY + other)) == []

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
        finding = the_error(EXPERTS, f"{parents}budget child {child}, at most 6 nat per update on exhaust deny")
        assert finding.code == "AQ303"
        assert words in finding.message

    def test_a_child_inside_its_parent_is_fine(self) -> None:
        child = (
            "budget child for consensus < 0.5 on head within any "
            "surprisal at most 99 nat per run, at most 6 nat per update on exhaust deny"
        )
        assert errors(examined(EXPERTS, ANY + child)) == []


class TestGuards:
    def test_a_contradiction_is_named_by_its_smallest_set_of_conditions(self) -> None:
        text = (
            EXPERTS
            + "rule dead when review is approved and consensus > 0.5 and judgments > 1 and consensus <= 0.5 deny head"
        )
        finding = the_error(text)
        assert finding.code == "AQ305"
        assert marked(finding, text) == ["consensus > 0.5", "consensus <= 0.5", "dead"]

    def test_a_condition_outside_the_domain_is_dead_alone(self) -> None:
        text = EXPERTS + "rule dead when judgments >= 3 and not judgments <= 10 deny head"
        finding = the_error(text)
        assert [label.text for label in finding.labels] == ["not judgments <= 10", "can never apply"]

    def test_an_order_leaves_out_what_stands_outside_it(self) -> None:
        text = EXPERTS + "rule dead when review is rejected and review >= draft deny head"
        assert the_error(text).code == "AQ305"

    def test_the_scope_of_a_budget_can_be_dead_too(self) -> None:
        dead = ANY.replace("any ", "dead ", 1).replace("anything", "consensus < 0.1 and consensus > 0.2")
        assert "budget `dead`" in the_error(EXPERTS, ANY + dead).message


class TestProofs:
    def test_a_refuted_statement_shows_observation_decision_and_rules(self) -> None:
        text = EXPERTS + "prove never consensus < 0.5 and admitted(head) > 0.75"
        finding = the_error(text)
        assert finding.code == "AQ308"
        assert finding.witness == {"authority": "expert", "review": "draft", "consensus": "0", "judgments": "0"}
        assert "surface 1, head 1" in finding.notes[0]
        assert marked(finding, text)[1] == "experts"

    def test_a_restriction_can_make_a_statement_hold(self) -> None:
        text = EXPERTS + "rule cap when consensus < 0.5 limit head share 0.75\n"
        assert errors(examined(text + "prove never consensus < 0.5 and admitted(head) > 0.75")) == []
        assert the_error(text + "prove never consensus < 0.5 and admitted(head) >= 0.75").code == "AQ308"


def test_an_undecided_question_is_a_finding_and_no_proof() -> None:
    policy = a_policy(EXPERTS, ANY.replace("for anything", "for authority >= expert"))
    result = examine(policy, CheckSettings(effort=1, solver="z3"))
    assert result.undecided
    assert {finding.code for finding in result.findings if finding.severity == "error"} == {"AQ300"}
    assert "rule `experts` can apply" not in result.proved


def test_checking_twice_says_the_same() -> None:
    policy = a_policy(EXPERTS + "rule hints when consensus > 0.25 admit weak")
    assert check(policy) == check(policy)


def test_both_back_ends_say_the_same() -> None:
    text = (
        EXPERTS
        + """
        rule hints when consensus > 0.25 admit weak
        rule never_met when judgments > 3 and judgments < 4 deny head
        prove never consensus < 0.5 and admitted(head) > 0.75
    """
    )
    policy = a_policy(text, ANY.replace("on all", "on surface"))
    bits = examine(policy, CheckSettings(solver="bits"))
    solved = examine(policy, CheckSettings(solver="z3"))
    assert [(f.code, f.message, f.witness) for f in bits.findings] == [
        (f.code, f.message, f.witness) for f in solved.findings
    ]
    assert bits.proved == solved.proved


def test_guards_that_unfold_too_far_are_left_to_the_solver() -> None:
    flags = "".join(f"  attribute flag_{n} : one of no, yes\n" for n in range(26))
    pairs = " and ".join(f"(flag_{n} is yes or flag_{n + 1} is yes)" for n in range(0, 26, 2))
    text = (
        f"rule wide when {pairs} admit full\n"
        "rule hints when authority is crowd and flag_0 is no and flag_1 is no admit weak\n"
        "rule cap when consensus < 0.5 limit head share 0.25\n"
    )
    head = HEAD.replace("attribute judgments", flags + "  attribute judgments")
    result = examine(a_policy(text, head=head))
    assert not result.undecided
    assert errors(result) == []
    assert errors(examine(a_policy(text.replace("flag_0 is no", "flag_0 is yes"), head=head))) == ["AQ301"]
