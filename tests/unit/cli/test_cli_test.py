"""`aqpolicy test`, as its users call it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from support.trials import CLINIC, write_policy

from aqpolicy.cli.main import main

OBSERVATION = {"authority": "expert", "review": "approved", "consensus": "0.4", "judgments": 1}
HINT = {
    "name": "an expert alone",
    "observation": OBSERVATION,
    "expect": {
        "effect": "modulate",
        "cause": "granted",
        "rules": ["gentle", "hint"],
        "by": "hint",
        "reason": "Only a hint",
        "shares": {"surface": 0.5, "semantic": 0, "head": 0.125},
        "norms": {"surface": 0.1, "head": None},
        "charges": {"everything": 0.5},
        "obligations": [],
    },
}


@pytest.fixture
def policy(tmp_path: Path) -> str:
    return write_policy(tmp_path)


def write_lines(folder: Path, *fixtures: object, name: str = "clinic.cases.jsonl") -> str:
    path = folder / name
    path.write_text("\n".join(json.dumps(fixture) for fixture in fixtures), encoding="utf-8")
    return str(path)


def fixture(**changes: object) -> dict[str, object]:
    return {**HINT, **changes}


def test_cases_of_a_policy_are_decided(policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", policy]) == 0
    out = capsys.readouterr().out
    assert out == f"ok    boards that agree shape everything\n{policy}: 1 passed\n"


def test_a_case_that_fails_shows_its_witness(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = write_policy(tmp_path, CLINIC.replace("consensus >= 0.95 and", ""))
    assert main(["test", policy]) == 1
    out = capsys.readouterr().out
    assert "FAIL  boards that agree" in out
    assert "AQ319" in out
    assert "witness: authority = board, review = approved, consensus = 0, judgments = 5" in out
    assert out.endswith("1 failed\n")


def test_fixtures_beside_a_policy_are_found_and_hold(
    policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lines(tmp_path, HINT)
    assert main(["test", policy]) == 0
    assert "ok    an expert alone" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("expect", "words"),
    [
        ({"effect": "admit"}, "expected effect `admit`, got `modulate`"),
        ({"cause": "default"}, "expected cause `default`, got `granted`"),
        ({"reason": "because"}, "expected reason `because`, got `Only a hint`"),
        ({"shares": {"head": 1}}, "expected share of `head` 1, got 0.125"),
        ({"norms": {"surface": None}}, "expected norm limit of `surface` none, got 0.1"),
        ({"norms": {"head": 2}}, "expected norm limit of `head` 2, got none"),
        ({"charges": {"everything": 1}}, "expected charged share of `everything` 1, got 0.5"),
        ({"rules": ["hint"]}, "expected rules `hint`, got `hint`, `gentle`"),
        ({"rules": []}, "expected rules none, got `hint`, `gentle`"),
        ({"by": ["truth", "hint"]}, "expected `truth` to decide, got `hint`, `gentle`"),
    ],
)
def test_what_is_not_as_expected_is_said_in_words(
    policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], expect: dict[str, object], words: str
) -> None:
    file = write_lines(tmp_path, fixture(expect=expect))
    assert main(["test", policy]) == 1
    out = capsys.readouterr().out
    assert f"fixture `an expert alone`: {words}" in out
    assert f"{file}:1:1" in out
    assert "rule hint" in out
    assert "decides" in out


def test_obligations_are_compared_by_kind_and_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    defer = "rule wait when judgments < 2 defer until judgments >= 2 for at most 3 epochs then deny\n"
    defer += "rule watch when judgments < 3 verify gold.accuracy falls at most 0.1 within 5 steps else halt\n"
    policy = write_policy(tmp_path, CLINIC + defer)
    waiting = {"effect": "defer", "obligations": ["defer by wait"]}
    watched = fixture(
        name="watched",
        observation={**OBSERVATION, "judgments": 2},
        expect={"obligations": "verify by watch", "shares": {"head": 0.125}},
    )
    write_lines(tmp_path, fixture(expect=waiting), watched, fixture(name="wrong", expect={"obligations": []}))
    assert main(["test", policy]) == 1
    out = capsys.readouterr().out
    assert "ok    an expert alone\nok    watched\nFAIL  wrong\n" in out
    assert "expected obligations none, got `defer by wait`" in out


def test_a_missing_attribute_is_named(policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lines(tmp_path, fixture(observation={"authority": "expert"}))
    assert main(["test", policy]) == 1
    assert "the observation lacks `review`, `consensus`, `judgments`" in capsys.readouterr().out


def test_all_faults_of_a_file_are_told_at_once(policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = {**OBSERVATION, "authority": "bord", "consensus": 1.5, "judgments": 0.5, "reveiw": "draft", "today": "x"}
    file = write_lines(
        tmp_path,
        fixture(observation=odd, expect={"efect": "admit", "effect": "allow", "shares": {"hed": 1, "head": "many"}}),
        {"name": "an expert alone", "observation": {"consensus": True}, "expect": {}},
        {"observation": [], "expect": {"by": ["trut"], "norms": 3}, "judgments": []},
        "text",
    )
    assert main(["test", policy]) == 2
    err = capsys.readouterr().err
    for fault in (
        ":1: case 1: observation.authority: `bord` is not a value of `authority`; did you mean `board`?",
        ":1: case 1: observation.consensus: `consensus` is never 1.5; outside 0..1",
        ":1: case 1: observation.judgments: `judgments` takes whole numbers only",
        ":1: case 1: observation: the policy has no attribute `reveiw`; did you mean `review`?",
        ":1: case 1: observation: no condition of the policy asks for `today`; leave it out",
        ":1: case 1: expect: unknown key `efect`; did you mean `effect`?",
        ":1: case 1: expect.effect: `allow` is not one of `deny`, `defer`, `modulate`, `admit`",
        ":1: case 1: expect.shares: the policy has no group `hed`; did you mean `head`?",
        ":1: case 1: expect.shares.head: `many` is no number",
        ":2: case 2: name: another case is called `an expert alone` too",
        ":2: case 2: observation.consensus: it is true or false, where one value is needed",
        ":2: case 2: expect: it is missing or empty",
        ":3: case 3: name: give the case a name",
        ":3: case 3: observation: it is missing, or no table",
        ":3: case 3: expect.by: the policy has no rule `trut`; did you mean `truth`?",
        ":3: case 3: expect.norms: it is no table of `group: number`",
        ":4: case 4: a case is a table with `name`",
    ):
        assert f"{file}{fault}" in err


def test_yaml_says_the_same_and_keeps_every_word_as_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = CLINIC.replace("attribute judgments", "attribute prelabel : one of no, null, yes\n  attribute judgments")
    policy = write_policy(tmp_path, text)
    (tmp_path / "cases.yaml").write_text(
        "policy: clinic.aqp\n"
        "cases:\n"
        "  - name: an expert alone\n"
        "    observation: &alone {authority: expert, review: approved, consensus: 0.40, judgments: 1, prelabel: no}\n"
        "    expect: {shares: {surface: 0.5}, norms: {head: none}}\n"
        "  - name: the same with another prelabel\n"
        "    observation: {<<: *alone, prelabel: null}\n"
        "    expect: {effect: admit}\n",
        encoding="utf-8",
    )
    assert main(["test", policy]) == 1
    out = capsys.readouterr().out
    assert "ok    an expert alone" in out
    assert "cases.yaml:6:5" in out
    assert "prelabel = null" in out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", ":1: not YAML"),
        ("- name: x\n  name: y", ":2: `name` is given twice"),
        ("- {? [a] : b}", ":1: a key is no plain word"),
        ("cases: 3", "it holds no list of cases"),
        ("case: []", "unknown key `case`; did you mean `cases`?"),
        ("policy: [a]", "`policy` is no file name"),
        ("&a [*a]", "nested too deep"),
        ("- &a {a: 1}\n--- b", "not YAML"),
        ("\x01", "not YAML"),
    ],
)
def test_what_is_no_file_of_fixtures_is_said(
    policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    (tmp_path / "clinic.cases.yml").write_text(text, encoding="utf-8")
    assert main(["test", policy]) == 2
    assert words in capsys.readouterr().err


def test_bad_json_lines_are_all_told(policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ['{"a": 1, "a": 2}', "[NaN]", "{", "[" * 100_000, ""]
    (tmp_path / "clinic.cases.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert main(["test", policy]) == 2
    err = capsys.readouterr().err
    assert "jsonl:1: not JSON: `a` is given twice" in err
    assert "jsonl:2: not JSON: NaN is no number" in err
    assert "jsonl:3: not JSON: expecting property name" in err
    assert "jsonl:4: not JSON: it is nested too deep" in err


def test_without_pyyaml_the_extra_is_named(
    policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clinic.cases.yaml").write_text("[]", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert main(["test", policy]) == 2
    assert "pip install 'aqpolicy[yaml]'" in capsys.readouterr().err


def test_numbers_are_read_exactly(policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = json.dumps(fixture(expect={"shares": {"head": "HERE"}})).replace('"HERE"', "0.1250000000000000001")
    (tmp_path / "clinic.cases.jsonl").write_text(line, encoding="utf-8")
    assert main(["test", policy]) == 2
    assert "has more than six decimals" in capsys.readouterr().err


def test_evidence_is_weighed_from_judgments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = CLINIC + "evidence { weigh authority: crowd 0.25; board 4 one per session at least 0.5 at most 8 }\n"
    policy = write_policy(tmp_path, text + 'rule thin when evidence < 4 deny all because "too thin"\n')
    echoes = [{"authority": "crowd", "session": 7}] * 9
    board = [{"authority": "board", "session": "b"}, *echoes]
    strange = [{"authority": "bord", "sesion": 1}]
    write_lines(
        tmp_path,
        fixture(name="weighed: echoes count once", judgments=echoes, expect={"by": "thin"}),
        fixture(name="weighed: a board member", judgments=board, expect={"cause": "granted"}),
    )
    assert main(["test", policy, "--run", "weighed"]) == 0
    capsys.readouterr()
    write_lines(tmp_path, fixture(judgments=strange), fixture(name="x", judgments=3))
    assert main(["test", policy]) == 2
    err = capsys.readouterr().err
    assert "case 1: judgments.1: unknown key `sesion`; did you mean `session`?" in err
    assert "case 1: judgments.1.authority: `bord` is not a value" in err
    assert "case 2: judgments: it is no list" in err


def test_only_chosen_tests_run(policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lines(tmp_path, HINT, fixture(name="another", expect={"effect": "admit"}))
    assert main(["test", policy, "--run", "EXPERT"]) == 0
    assert "1 passed" in capsys.readouterr().out
    assert main(["test", policy, "--run", "an*r"]) == 1
    assert main(["test", policy, "--run", "nothing like it"]) == 2
    assert "no test has a title that fits `nothing like it`" in capsys.readouterr().err


def test_a_policy_without_tests_says_how_to_write_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = write_policy(tmp_path, CLINIC[: CLINIC.index('test "boards')])
    assert main(["test", policy]) == 0
    assert 'no test; write one into the policy: `test "title"' in capsys.readouterr().out
    assert main(["test", policy, "--require-tests"]) == 1


def test_a_policy_with_errors_is_not_tested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = write_policy(tmp_path, CLINIC.replace("admit full", "admit fill"))
    assert main(["test", policy]) == 1
    out = capsys.readouterr().out
    assert "AQ201" in out
    assert "1 not tested, as it has errors" in out


def test_an_open_question_is_no_pass(
    policy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from aqpolicy.analysis import Prover
    from aqpolicy.errors import AnalysisError

    def give_up(*_: object) -> None:
        raise AnalysisError("gave up")

    monkeypatch.setattr(Prover, "possible", give_up)
    assert main(["test", policy]) == 3
    out = capsys.readouterr().out
    assert "OPEN  boards that agree" in out
    assert "1 undecided" in out


def test_a_folder_is_tested_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_policy(tmp_path)
    write_policy(tmp_path, CLINIC.replace("admit by truth", "deny"), "other.aqp")
    assert main(["test", str(tmp_path)]) == 1
    assert capsys.readouterr().out.endswith("2 policies: 1 passed, 1 failed\n")


def test_fixtures_say_which_policy_they_are_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_policy(tmp_path)
    other = write_policy(tmp_path, name="other.aqp")
    named = write_lines(tmp_path, {"policy": "clinic.aqp"}, HINT, name="named.jsonl")
    unnamed = write_lines(tmp_path, HINT, name="unnamed.jsonl")
    assert main(["test", "--fixtures", named]) == 0
    assert "clinic.aqp: 2 passed" in capsys.readouterr().out
    assert main(["test", other, "--fixtures", named, unnamed]) == 0
    assert capsys.readouterr().out.endswith("2 policies: 4 passed\n")
    assert main(["test", "--fixtures", unnamed]) == 2
    assert "does not say which policy it is about; write `policy: FILE.aqp`" in capsys.readouterr().err
    assert main(["test", other, "--fixtures", other]) == 2
    assert "is no file of fixtures; those end in .yaml" in capsys.readouterr().err


def test_shared_cases_belong_to_the_policy_that_they_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = write_policy(tmp_path, name="policy.aqp")
    other = write_policy(tmp_path, name="other.aqp")
    write_lines(tmp_path, HINT, name="cases.jsonl")
    assert main(["test", policy]) == 0
    assert "2 passed" in capsys.readouterr().out
    assert main(["test", other]) == 0
    assert "other.aqp: 1 passed" in capsys.readouterr().out


def test_nothing_to_test_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["test"])
    assert stop.value.code == 2
    assert "aqpolicy test policies" in capsys.readouterr().err


# ---- Coverage


def covered(policy: str, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    status = main(["test", policy, "--coverage", "--format", "json", *words])
    rules = json.loads(capsys.readouterr().out)["policies"][0]["coverage"]["rules"]
    marks = {rule["name"]: "".join("ads"[i] * rule[key] for i, key in enumerate(KEYS)) for rule in rules}
    return status, " ".join(f"{name}:{mark}" for name, mark in marks.items())


KEYS = ("applied", "decided", "stayed_out")


def test_coverage_says_what_tests_show_of_each_rule(
    policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert covered(policy, capsys) == (0, "truth:ad hint:a rejected:s gentle:s")
    write_lines(tmp_path, HINT)
    assert covered(policy, capsys) == (0, "truth:ads hint:ad rejected:s gentle:ads")


def test_a_case_covers_only_what_all_of_it_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide = 'test "wide" { given anything expect that admitted(semantic) <= 1 }\n'
    policy = write_policy(tmp_path, CLINIC[: CLINIC.index('test "boards')] + wide)
    assert covered(policy, capsys) == (0, "truth: hint: rejected: gentle:")


def test_tests_that_fail_cover_nothing(policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lines(tmp_path, fixture(expect={"effect": "admit"}))
    assert covered(policy, capsys) == (1, "truth:ad hint:a rejected:s gentle:s")


def test_too_little_coverage_fails(policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", policy, "--min-coverage", "38"]) == 1
    out = capsys.readouterr().out
    assert "hint      applies, never decides, never stays out" in out
    assert "37 % covered" in out
    assert main(["test", policy, "--min-coverage", "37"]) == 0


# ---- Formats


def test_concise_shows_only_what_does_not_hold(policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_lines(tmp_path, fixture(expect={"effect": "admit"}))
    assert main(["test", policy, "--format", "concise"]) == 1
    assert capsys.readouterr().out == (
        f"{file}:1:1: error[AQ319] fixture `an expert alone`: expected effect `admit`, got `modulate`\n"
        f"{policy}: 1 passed, 1 failed\n"
    )


def test_json_holds_every_test(policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lines(tmp_path, fixture(expect={"effect": "admit"}))
    assert main(["test", policy, "--format", "json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["summary"] == {"passed": 1, "failed": 1, "undecided": 0}
    case, failed = document["policies"][0]["tests"]
    assert (case["kind"], case["outcome"]) == ("case", "passed")
    assert failed["messages"][0].endswith("expected effect `admit`, got `modulate`")
    assert failed["witness"]["consensus"] == "0.4"


def test_junit_holds_every_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = write_policy(tmp_path)
    broken = write_policy(tmp_path, CLINIC.replace("admit full", "admit fill"), "broken.aqp")
    write_lines(tmp_path, fixture(name="odd \x1b", expect={"effect": "admit"}))
    assert main(["test", policy, broken, "--format", "junit"]) == 1
    root = ET.fromstring(capsys.readouterr().out)
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("2", "1", "1")
    names = [case.get("name") for case in root.iter("testcase")]
    assert names == ["boards that agree shape everything", "odd \N{REPLACEMENT CHARACTER}", "AQ201"]
    assert "expected effect" in (root.find(".//failure").text or "")


def test_github_points_into_the_file_of_fixtures(
    policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lines(tmp_path, HINT, fixture(name="another", expect={"effect": "admit"}))
    assert main(["test", policy, "--format", "github"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("::error ")
    assert "clinic.cases.jsonl,line=2" in out
