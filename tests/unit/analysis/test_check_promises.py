"""AQ308, AQ309, AQ317: what `prove` statements say, and the worst case of budgets."""

from __future__ import annotations

import pytest
from support.checking import ANY, EXPERTS, a_policy, coded, errors, examined, marked, the_error

from aqpolicy.analysis import CheckSettings, Prover, examine

RISING = """
rule some when authority is crowd and consensus < 0.5 admit weak
rule most when authority is crowd and consensus >= 0.5 admit full
"""


class TestMonotone:
    def test_a_share_that_falls_is_refuted_by_two_observations(self) -> None:
        text = (
            EXPERTS + "rule cap when consensus >= 0.5 limit head share 0.25\nprove admitted(head) rises with consensus"
        )
        finding = the_error(text)
        assert finding.code == "AQ308"
        assert "falls from 1 to 0.25" in finding.message
        assert finding.witness == {"authority": "expert", "review": "draft", "consensus": "0", "judgments": "0"}
        assert "goes from 0 to 0.5" in finding.labels[0].text
        assert marked(finding, text)[1:] == ["cap"]

    @pytest.mark.parametrize(
        "proof",
        ["admitted(surface) rises with consensus", "admitted(head) rises with consensus"],
    )
    def test_a_share_that_never_falls_is_proved(self, proof: str) -> None:
        result = examined(EXPERTS + RISING + f"prove {proof}")
        assert errors(result) == []
        assert proof in result.proved

    def test_rising_with_one_direction_does_not_fall(self) -> None:
        assert the_error(EXPERTS + RISING + "prove admitted(head) falls with consensus").code == "AQ308"

    def test_the_order_of_a_category_counts_and_what_stands_outside_it_does_not(self) -> None:
        text = EXPERTS + "rule rejected when review is rejected deny all\nrule draft when review is draft deny head\n"
        assert errors(examined(text + "prove admitted(head) rises with review")) == []
        assert errors(examined(text + "prove admitted(head) rises with authority")) == []
        assert the_error(text + "prove admitted(head) falls with review").code == "AQ308"

    def test_a_limit_that_is_linear_in_the_attribute_is_left_to_the_solver(self) -> None:
        rising = EXPERTS + "rule linear when authority >= expert limit head share 0.5 * consensus\n"
        assert errors(examined(rising + "prove admitted(head) rises with consensus")) == []
        falling = EXPERTS + "rule linear when authority >= expert limit head share 1 - 0.5 * consensus\n"
        finding = the_error(falling + "prove admitted(head) rises with consensus")
        assert "falls from 1 to 0.999999" in finding.message

    def test_a_group_that_nothing_reaches_makes_it_vacuous(self) -> None:
        text = "rule weakly when authority >= expert admit weak\nprove admitted(head) rises with consensus"
        (finding,) = coded(examined(text), "AQ309")
        assert finding.severity == "warning"


class TestNever:
    @pytest.mark.parametrize(
        ("statement", "parts", "why"),
        [
            (
                "judgments > 5 and consensus < 0.5 and judgments < 2 and admitted(head) > 0",
                ["judgments > 5", "judgments < 2"],
                "speaks of observations that do not exist",
            ),
            (
                "consensus < 0.5 and not (admitted(head) >= 0 or charged(any) > 0.5)",
                ["admitted(head) >= 0", "charged(any) > 0.5"],
                "would hold for all observations",
            ),
        ],
    )
    def test_what_could_never_fail_is_vacuous_and_the_impossible_part_is_marked(
        self, statement: str, parts: list[str], why: str
    ) -> None:
        text = EXPERTS + f"prove never {statement}"
        (finding,) = coded(examined(text), "AQ309")
        assert marked(finding, text) == [*parts, f"prove never {statement}"]
        assert finding.labels[-1].text == why

    def test_charges_can_be_asked_for(self) -> None:
        assert the_error(EXPERTS + "prove never consensus < 0.5 and charged(any) > 0").code == "AQ308"
        assert errors(examined(EXPERTS + "prove never authority is crowd and charged(any) > 0")) == []


class TestSpending:
    SPLIT = ANY.replace("at most 100 nat per run", "at most 100 nat per epoch")

    @pytest.mark.parametrize(
        ("given", "most", "words"),
        [
            ("given epochs <= 3", 300, "100 nat per epoch, 3 epochs"),
            ("given epochs <= 1", 100, "100 nat per epoch, 1 epoch"),
            ("given steps <= 2, examples <= 4", 48, "6 nat per update, 4 examples in each of 2 steps"),
        ],
    )
    def test_the_worst_case_is_exact(self, given: str, most: int, words: str) -> None:
        assert errors(examined(EXPERTS + f"prove spent(any) <= {most} nat {given}", self.SPLIT)) == []
        finding = the_error(EXPERTS + f"prove spent(any) <= {most - 1} nat {given}", self.SPLIT)
        assert finding.code == "AQ308"
        assert f"{most} nat can be spent" in finding.message
        assert words in finding.notes[0]

    def test_without_a_bound_nothing_is_proved(self) -> None:
        finding = the_error(EXPERTS + "prove spent(any) <= 1000 nat", self.SPLIT)
        assert "its spending has no bound" in finding.message
        assert "assume epochs" in finding.notes[0]

    def test_exposures_bound_how_often_an_example_is_charged(self) -> None:
        budget = self.SPLIT.replace("on exhaust", "exposures at most 2 per example on exhaust")
        text = EXPERTS + "prove spent(any) <= 60 nat given examples <= 5"
        assert errors(examined(text, budget)) == []

    def test_a_parent_bounds_its_children(self) -> None:
        child = "budget child for consensus < 0.5 on head within any "
        child += "surprisal at most 50 nat per epoch, at most 6 nat per update"
        text = EXPERTS + "prove spent(child) <= 100 nat given epochs <= 3"
        assert errors(examined(text, ANY + child)) == []
        refuted = the_error(text.replace("100 nat", "99 nat"), ANY + child)
        assert refuted.notes == ("worst case: 100 nat per run, a limit of `any`",)
        texts = [label.text for label in refuted.labels]
        assert texts == ["says 99 nat", "the budget", "gives the least bound", "the budget that it lies within"]

    @pytest.mark.parametrize("most", [1, 47, 48, 99, 100, 300])
    def test_the_solver_adds_up_to_the_same(self, most: int) -> None:
        text = EXPERTS + f"prove spent(any) <= {most} nat given epochs <= 1, steps <= 2, examples <= 4"
        policy = a_policy(text, self.SPLIT)
        proved = errors(examine(policy)) == []
        (spends,) = [o.query for o in examine(policy).obligations if o.name.startswith("spent")]
        assert Prover(policy).possible(spends) is not proved

    def test_the_declared_run_counts_for_every_statement(self) -> None:
        text = EXPERTS + "assume epochs <= 2\nprove spent(any) <= 200 nat"
        assert errors(examined(text, self.SPLIT)) == []

    def test_a_budget_that_is_never_charged_proves_nothing(self) -> None:
        idle = "budget idle for authority is crowd on head surprisal at most 5 nat per run, at most 1 nat per update"
        result = examined(EXPERTS + "prove spent(idle) <= 1 nat", ANY + idle)
        assert len(coded(result, "AQ309")) == 1

    def test_the_worst_case_is_noted_for_every_budget(self) -> None:
        (finding,) = coded(examined(EXPERTS + "assume epochs <= 3", self.SPLIT), "AQ317")
        assert finding.severity == "note"
        assert "at most 300 nat" in finding.message
        (open_end,) = coded(examined(EXPERTS, self.SPLIT), "AQ317")
        assert "has no bound over the run" in open_end.message
        assert "assume epochs" in open_end.help[0]

    def test_phases_are_counted(self) -> None:
        budget = ANY.replace("at most 100 nat per run", "at most 100 nat per phase")
        text = EXPERTS + "phases warm < main\nrule early when phase is warm limit head share 0.5"
        (finding,) = coded(examined(text, budget), "AQ317")
        assert "at most 200 nat" in finding.message


def test_a_limit_beyond_what_parameters_can_hold_is_a_warning() -> None:
    policy = a_policy(EXPERTS)
    small = examine(policy, CheckSettings(parameter_counts={"surface": 10, "head": 29}))
    (finding,) = coded(small, "AQ315")
    assert finding.severity == "warning"
    assert "97.5 nat" in finding.notes[0]
    assert coded(examine(policy, CheckSettings(parameter_counts={"surface": 10, "head": 30})), "AQ315") == []
    assert coded(examine(policy), "AQ315") == []
