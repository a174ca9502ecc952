"""Findings about groups, bands, deferrals and what is left over: AQ304, AQ307, AQ311 to AQ314, AQ316, AQ318."""

from __future__ import annotations

import pytest
from support.checking import ANY, EXPERTS, HEAD, PLAIN, a_policy, coded, errors, examined, marked, the_error

from aqpolicy.analysis import CheckResult, CheckSettings, examine
from aqpolicy.model import Policy

PROTECTED = HEAD.replace("head = modules", "protected head = modules")
ADAPTIVE = CheckSettings()


def protected(text: str) -> CheckResult:
    return examine(a_policy(text, head=PROTECTED), PLAIN)


class TestDeadBudgets:
    def test_a_budget_that_covers_nothing_admitted_is_dead(self) -> None:
        idle = "budget idle for authority is crowd on head surprisal at most 5 nat per run, at most 1 nat per update"
        finding = the_error(EXPERTS, ANY + idle)
        assert finding.code == "AQ304"
        assert "never charged" in finding.message

    @pytest.mark.parametrize(("limit", "dead"), [("1.999999", True), ("2", False)])
    def test_a_limit_below_the_least_charge_is_dead(self, limit: str, dead: bool) -> None:
        budget = (
            f"budget loud for surprisal >= 4 on all surprisal at most {limit} nat per run, at most 9 nat per update"
        )
        text = EXPERTS + "rule cap when authority >= expert limit all share 0.5"
        found = errors(examined(text, ANY + budget))
        assert found == (["AQ304"] if dead else [])

    @pytest.mark.parametrize(
        ("limits", "what"),
        [
            ("surprisal at most 5 nat per run, at most 0 nat per update", "surprisal is at most 0 nat per update"),
            ("surprisal at most 0 nat per run, at most 6 nat per update", "surprisal is at most 0 nat per run"),
            ("movement at most 0 l2 per step", "movement is at most 0 l2 per step"),
            ("drift at most 0 nat per run", "drift is at most 0 nat per run"),
        ],
    )
    @pytest.mark.parametrize("exhaust", ["deny", "attenuate"])
    def test_a_limit_of_nothing_admits_nothing(self, limits: str, what: str, exhaust: str) -> None:
        finding = the_error(EXPERTS, ANY + f"budget none_of_it on head {limits} on exhaust {exhaust}")
        assert finding.code == "AQ304"
        assert what in finding.message

    def test_attenuating_budgets_always_find_room(self) -> None:
        budget = "budget loud for surprisal >= 4 on all surprisal at most 1 nat per run, at most 9 nat per update"
        budget += " on exhaust attenuate"
        assert errors(examined(EXPERTS, ANY + budget)) == []

    def test_the_limit_per_update_brings_charges_down(self) -> None:
        budget = "budget loud for surprisal >= 4 on all surprisal at most 1 nat per run, at most 1 nat per update"
        assert errors(examined(EXPERTS, ANY + budget)) == []


class TestBands:
    @pytest.mark.parametrize(
        ("bands", "words"),
        [
            ("low < 0.25; high < 0.5", "no band of `consensus` holds the values from 0.5 to 1"),
            ("low < 0.5; middle < 0.25; high", "band `middle` of `consensus` holds nothing: it overlaps `low`"),
            ("low < 0; high", "band `low` of `consensus` holds nothing"),
            ("low; high", "band `high` of `consensus` holds nothing: it overlaps `low`"),
        ],
    )
    def test_bands_that_do_not_partition_are_shown(self, bands: str, words: str) -> None:
        finding = the_error(EXPERTS + f"bands of consensus {{ {bands} }}")
        assert finding.code == "AQ307"
        assert words in finding.message

    def test_a_gap_has_a_value_as_its_witness(self) -> None:
        assert the_error(EXPERTS + "bands of judgments { low < 3; high < 5 }").witness == {"judgments": "5"}

    @pytest.mark.parametrize("bands", ["low < 0.25; middle < 0.5; high", "low < 0.5; high"])
    def test_bands_that_partition_are_proved(self, bands: str) -> None:
        result = examined(EXPERTS + f"bands of consensus {{ {bands} }}")
        assert errors(result) == []
        assert "the bands of `consensus` partition its range" in result.proved


class TestDeferrals:
    WAIT = "rule wait when consensus < 0.5 defer until {} for at most 2 epochs then deny\n"

    @pytest.mark.parametrize("until", ["consensus >= 0.5", "review is approved", "judgments >= 3 or consensus > 0.9"])
    def test_a_release_that_leads_to_a_grant_is_proved(self, until: str) -> None:
        assert errors(examined(EXPERTS + self.WAIT.format(until))) == []

    def test_a_condition_that_never_holds_releases_nothing(self) -> None:
        finding = the_error(EXPERTS + self.WAIT.format("judgments > 3 and judgments < 4"))
        assert finding.code == "AQ311"
        assert finding.labels[0].text == "this never holds"

    def test_what_is_released_must_be_admitted(self) -> None:
        text = "rule low when authority >= expert and consensus < 0.5 admit full\n" + self.WAIT.format(
            "consensus >= 0.5"
        )
        (finding,) = coded(examined(text), "AQ311")
        assert finding.witness is not None
        assert finding.witness["authority"] == "expert"

    def test_attributes_that_the_release_does_not_ask_for_stay_as_they_were(self) -> None:
        text = (
            "rule low when authority is expert and consensus < 0.5 admit full\n"
            "rule high when authority is board and consensus >= 0.5 admit full\n" + self.WAIT.format("consensus >= 0.5")
        )
        assert coded(examined(text), "AQ311") != []
        assert coded(examined(text.replace("until consensus", "until authority is board and consensus")), "AQ311") == []

    def test_the_run_goes_on_while_an_observation_waits(self) -> None:
        text = (
            "rule low when authority >= expert and epoch < 1 admit full\n"
            "rule high when authority >= expert and epoch >= 1 and consensus >= 0.5 admit full\n"
            "rule wait when consensus < 0.5 and epoch < 1 defer until consensus >= 0.5 and epoch > 0 "
            "for at most 2 epochs then deny\n"
        )
        assert coded(examined(text), "AQ311") == []


class TestProtectedGroups:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (EXPERTS, "`authority` is expert"),
            ("rule every when anything admit full", "nothing at all is asked"),
            ("rule one when consensus >= 0.5 or authority is board admit full", "`authority` is board"),
        ],
    )
    def test_one_attribute_that_opens_a_protected_group_is_named(self, text: str, words: str) -> None:
        (finding,) = coded(protected(text), "AQ312")
        assert finding.severity == "warning"
        assert words in finding.message

    def test_all_attributes_that_open_it_alone_are_named(self) -> None:
        text = (
            "rule one when consensus >= 0.5 or authority is board admit full\nrule two when review is draft admit full"
        )
        (finding,) = coded(protected(text), "AQ312")
        assert finding.message.endswith("`authority` is board, or `review` is draft, or `consensus` is 0.5")
        assert len(finding.labels) == 3

    def test_two_rules_together_can_leave_no_way_round(self) -> None:
        text = (
            "rule low when authority is board and consensus < 0.5 admit full\n"
            "rule high when authority is board and consensus >= 0.5 admit full\n"
        )
        (finding,) = coded(protected(text), "AQ312")
        assert len(finding.labels) == 3

    @pytest.mark.parametrize(
        "text",
        [
            "rule two when authority >= expert and review is approved admit full",
            "rule other when authority >= expert admit weak",
        ],
    )
    def test_a_second_attribute_or_another_group_is_fine(self, text: str) -> None:
        result = protected(text)
        assert coded(result, "AQ312") == []
        assert "no single attribute opens `head`" in result.proved

    def test_groups_without_the_word_are_not_asked_about(self) -> None:
        assert coded(examined(EXPERTS), "AQ312") == []


class TestReach:
    def test_a_group_that_nothing_reaches_is_starved(self) -> None:
        (finding,) = coded(examined("rule some when authority >= expert admit weak"), "AQ313")
        assert "group `head` is starved" in finding.message

    def test_restrictions_can_starve_a_group(self) -> None:
        text = EXPERTS + "rule low when consensus < 0.5 deny head\nrule high when consensus >= 0.5 deny head"
        (finding,) = coded(examined(text), "AQ313")
        assert marked(finding, text) == ["head", "admit full"]

    def test_the_least_share_is_a_setting(self) -> None:
        policy = a_policy(
            "rule some when authority >= expert admit weak\nrule head when authority >= expert limit head share 1"
        )
        result = examine(policy, CheckSettings(starved_below=500_000))
        found = coded(result, "AQ313")
        assert [finding.labels[0].text for finding in found] == ["never written above 0.5"] * 2

    @pytest.mark.parametrize(
        ("extra", "budgets", "found"),
        [
            ("", ANY, 1),
            ("rule gentle when authority >= expert limit surface norm 1", ANY, 0),
            ("rule gentle when consensus < 0.5 limit surface norm 1", ANY, 1),
            ("", ANY.replace("on exhaust", "movement at most 0.5 l2 per step on exhaust"), 0),
        ],
        ids=["alone", "with a norm", "with a norm in part", "with a movement limit"],
    )
    def test_a_share_alone_bounds_little_under_an_adaptive_optimizer(
        self, extra: str, budgets: str, found: int
    ) -> None:
        text = "rule some when authority >= expert admit weak\n" + extra
        assert len(coded(examined(text, budgets, ADAPTIVE), "AQ314")) == found
        assert coded(examined(text, budgets, PLAIN), "AQ314") == []

    def test_only_rules_with_a_part_in_the_share_are_marked(self) -> None:
        text = (
            "rule some when authority >= expert admit weak\n"
            "rule less when anything limit surface share 0.25\n"
            "rule other when anything limit head norm 1\n"
        )
        (finding,) = coded(examined(text, ANY, ADAPTIVE), "AQ314")
        assert marked(finding, text) == ["surface", "admit weak", "less"]


class TestLeftOver:
    def test_what_is_left_to_otherwise_is_a_note_with_its_region(self) -> None:
        (finding,) = coded(examined(EXPERTS), "AQ316")
        assert finding.severity == "note"
        assert "authority is crowd" in finding.notes[0]
        assert finding.witness is not None
        assert finding.witness["authority"] == "crowd"

    def test_it_is_an_error_where_the_policy_says_that_it_is_complete(self) -> None:
        finding = the_error(EXPERTS + "complete")
        assert finding.code == "AQ316"
        assert marked(finding, EXPERTS + "complete")[0] == "complete"

    @pytest.mark.parametrize("rule", ["deny all", "admit weak"])
    def test_a_rule_for_the_rest_makes_it_complete(self, rule: str) -> None:
        result = examined(EXPERTS + f"complete\nrule rest when authority is crowd {rule}")
        assert errors(result) == []
        assert "every observation is admitted or refused by a rule" in result.proved


ENTROPY = HEAD.replace("attribute judgments", "attribute label_entropy : number 0..2 nat\n  attribute judgments")


class TestDoubt:
    def with_entropy(self, text: str) -> Policy:
        return a_policy(text, head=ENTROPY)

    @pytest.mark.parametrize(
        "guard",
        ["label_entropy < 0.5", "authority is board or label_entropy < 0.5", "surprisal > 3 and label_entropy < 0.5"],
    )
    def test_doubt_alone_may_not_admit(self, guard: str) -> None:
        found = coded(examine(self.with_entropy(f"rule r when {guard} admit full"), PLAIN), "AQ318")
        assert [finding.severity for finding in found] == ["error"]

    @pytest.mark.parametrize(
        "guard",
        ["label_entropy < 0.5 and authority >= expert", "authority >= expert and not surprisal > 3", "anything"],
    )
    def test_doubt_beside_authority_may(self, guard: str) -> None:
        assert coded(examine(self.with_entropy(f"rule r when {guard} admit full"), PLAIN), "AQ318") == []

    def test_doubt_may_restrict(self) -> None:
        text = EXPERTS + "rule doubt when label_entropy > 1 limit head share 0.5"
        assert errors(examine(self.with_entropy(text), PLAIN)) == []


def test_floor_and_ceiling_of_evidence_may_not_cross() -> None:
    from dataclasses import replace

    text = (
        EXPERTS
        + "evidence { weigh authority: expert 1; board 4 at least 0; at most 8 }\nrule r when evidence < 2 deny head"
    )
    policy = a_policy(text)
    assert policy.evidence is not None
    assert errors(examine(policy, PLAIN)) == []
    crossed = replace(policy, evidence=replace(policy.evidence, floor=9_000_000))
    assert errors(examine(crossed, PLAIN)) == ["AQ303"]
