"""`aqpolicy why`, as its users call it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from support.trials import BOARD, CLINIC, write_policy

from aqpolicy.cli.main import main

RUN = """\
phases warm < main
bands of label_entropy { settled < 0.3; contested }
rule late when phase is main and band is settled until 2027-01-01 limit all share 1 - 0.25 * consensus
rule wait when not (authority is board or consensus > 0.5) defer until judgments >= 3 for at most 2 epochs then deny
rule watch when authority is board verify gold.accuracy falls at most 0.01 within 200 steps else rollback
"""
WHOLE = CLINIC.replace("attribute judgments", "attribute label_entropy : number 0..2 nat\n  attribute judgments") + RUN
STATE = ", label_entropy=0.25 nat, phase=main, today=2026-10-10"


@pytest.fixture
def policy(tmp_path: Path) -> str:
    return write_policy(tmp_path)


def why(policy: str, observation: str, *words: str) -> int:
    return main(["why", policy, "--observation", observation, *words])


def test_every_rule_says_whether_it_applies_and_why(policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert why(policy, BOARD) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "admit, granted: Agreed by qualified readers\n"
        "  surface   1\n"
        "  semantic  1\n"
        "  head      1\n"
        f"  charges 1 of its surprisal to everything  [{policy}:17]\n"
    )
    assert (
        f'rule truth "Agreed by qualified readers"  [{policy}:13]\n'
        "  applies\n"
        "  true  all of\n"
        "    true  authority >= expert  (authority = board)\n"
        f"    true  agreed(0.9)  [{policy}:12]\n"
        "      true  all of\n"
        "        true  consensus >= level  (consensus = 0.95, level = 0.9)\n"
        "        true  judgments >= 3  (judgments = 5)\n"
        "  admit full: surface 1, semantic 1, head 1\n"
    ) in out
    assert "applies, but its grant yields to `truth`" in out
    assert "does not apply\n  false review is rejected  (review = approved)" in out
    assert "nearest" not in out


def test_what_restrictions_took_is_said(policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert why(policy, "authority=expert, review=approved, consensus=0.4, judgments=1") == 0
    out = capsys.readouterr().out
    assert "  surface   0.5  norm at most 0.1\n" in out
    assert "  limit surface norm 0.1\n  limit head share 0.125: head 0.25 -> 0.125\n" in out


def test_the_nearest_admitted_observation_says_what_differs(policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert why(policy, "authority=crowd, review=rejected, consensus=0.95, judgments=5") == 0
    out = capsys.readouterr().out
    assert "deny all" in out
    assert "takes nothing, as no grant offers more" in out
    assert out.endswith(
        "the nearest observation that would be admitted:\n"
        "  authority  crowd -> expert\n"
        "  review     rejected -> approved\n"
    )


def test_what_no_rule_decides_is_left_to_otherwise(policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert why(policy, "authority=crowd, review=draft, consensus=0.95, judgments=5") == 0
    assert f'no rule decides: otherwise deny because "no rule admits it"  [{policy}:11]' in capsys.readouterr().out


def test_a_policy_that_admits_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = write_policy(tmp_path, CLINIC + "rule nothing when anything deny all\n")
    assert why(policy, BOARD) == 0
    assert "no observation at all is admitted" in capsys.readouterr().out


def test_attributes_that_are_missing_are_listed_with_their_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = write_policy(tmp_path, WHOLE)
    assert why(policy, "authority=board, review=draft, judgments=1") == 0
    out = capsys.readouterr().out
    assert out.startswith("deny, error: ")
    assert "  consensus      0..1\n" in out
    assert "  label_entropy  0..2 nat\n" in out
    assert "  phase          warm | main  (from the run)\n" in out
    assert "  today          1970-01-01..9999-12-31  (from the run)\n" in out
    assert "rule truth" not in out


def test_the_whole_language_is_accounted_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = write_policy(tmp_path, WHOLE)
    assert why(policy, BOARD + STATE) == 0
    out = capsys.readouterr().out
    assert (
        "  true  all of\n"
        "    true  phase is main  (phase = main)\n"
        "    true  band is settled  (label_entropy = 0.25)\n"
        "    true  until 2027-01-01  (today = 2026-10-10)\n"
        "  limit all share 1 - 0.25 * consensus: at most 0.7625; surface 1 -> 0.7625, semantic 1 -> 0.7625"
    ) in out
    assert "  asks: verify gold.accuracy falls at most 0.01 within 200 steps else rollback" in out
    assert why(policy, "authority=expert, review=draft, consensus=0.4, judgments=1" + STATE) == 0
    out = capsys.readouterr().out
    assert out.startswith("defer, denied: wait\n")
    assert "  asks: defer until judgments >= 3 for at most 2 epochs then deny" in out
    assert "  true  not\n    false any of\n      false authority is board  (authority = expert)" in out
    assert "then deny: not released yet" in out


def test_the_same_can_be_asked_as_json(
    policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = '{"authority": "board", "review": "approved", "consensus": 0.95, "judgments": 5}'
    (tmp_path / "o.json").write_text(written, encoding="utf-8")
    assert main(["why", policy, "--json", f"{tmp_path}/o.json"]) == 0
    from_file = capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(written.encode())))
    assert main(["why", policy, "--json", "-"]) == 0
    assert capsys.readouterr().out == from_file
    assert why(policy, BOARD) == 0
    assert capsys.readouterr().out == from_file


def test_judgments_are_weighed_into_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = CLINIC.replace("judgments", "readings") + "evidence { weigh authority: crowd 0.25; board 4 at most 8 }\n"
    policy = write_policy(tmp_path, text + 'rule thin when evidence < 4 deny all because "too thin"\n')
    written = {"authority": "board", "review": "approved", "consensus": 1, "readings": 5}
    for judgments in ([{"authority": "crowd"}] * 3, [{"authority": "bord"}], 3):
        (tmp_path / "o.json").write_text(json.dumps({**written, "judgments": judgments}), encoding="utf-8")
        main(["why", policy, "--json", f"{tmp_path}/o.json"])
    captured = capsys.readouterr()
    assert "true  evidence < 4  (evidence = 0.75)" in captured.out
    assert "judgments.1.authority: `bord` is not a value" in captured.err
    assert "the policy has no attribute `judgments`" in captured.err


def test_json_holds_everything(policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert why(policy, "authority=crowd, review=draft, consensus=0.4, judgments=1", "--format", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["effect"], document["cause"], document["by"]) == ("deny", "default", ["gentle"])
    assert document["shares"] == {"surface": "0", "semantic": "0", "head": "0"}
    assert document["norms"] == {"surface": "0.1", "semantic": None, "head": None}
    assert document["charges"] == {"everything": "0"}
    assert document["nearest"] == {"authority": {"from": "crowd", "to": "expert"}}
    truth = document["rules"][0]
    assert (truth["name"], truth["line"], truth["applies"]) == ("truth", 13, False)
    assert truth["condition"]["parts"][1]["parts"][0]["text"] == "all of"


@pytest.mark.parametrize(
    ("observation", "words"),
    [
        ("authority", "`authority` does not say `attribute=value`"),
        ("authority=", "`authority=` does not say"),
        ("authority=board, authority=crowd", "`authority` is given twice"),
        ("authority=bord", "did you mean `board`?"),
        ("consensus=0.5 nat", "`consensus` has no unit, not in nat"),
        ("consensus=high", "`high` is no number"),
        ("band=settled", "no condition of the policy asks for `band`"),
    ],
)
def test_what_cannot_be_read_is_said(
    policy: str, capsys: pytest.CaptureFixture[str], observation: str, words: str
) -> None:
    assert why(policy, observation) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("written", ["[]", "{", '{"a": 1, "a": 2}', "NaN", "\xff", "[" * 100_000])
def test_what_is_no_observation_in_json_is_said(
    policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], written: str
) -> None:
    (tmp_path / "o.json").write_bytes(written.encode("latin-1"))
    assert main(["why", policy, "--json", f"{tmp_path}/o.json"]) == 2
    assert "o.json` " in capsys.readouterr().err


def test_it_asks_for_one_observation(policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--observation", BOARD, "--json", "x"]):
        with pytest.raises(SystemExit) as stop:
            main(["why", policy, *words])
        assert stop.value.code == 2
        assert "give the observation" in capsys.readouterr().err


def test_a_policy_with_errors_shows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = write_policy(tmp_path, CLINIC.replace("admit full", "admit fill"))
    assert why(policy, BOARD) == 1
    assert "AQ201" in capsys.readouterr().out
