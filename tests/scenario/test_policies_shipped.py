"""The policies that are shipped do what their comments say."""

from __future__ import annotations

from datetime import date
from functools import cache
from pathlib import Path

import pytest

from aqpolicy.bundle import ERROR_ROW, Row, Tables, decode_bundle
from aqpolicy.cli.check import check_source
from aqpolicy.cli.main import main
from aqpolicy.compiler import unenforceable
from aqpolicy.diagnostics import Diagnostic, Source
from aqpolicy.errors import PolicyError
from aqpolicy.library import LOCK_NAME, Files, find_lock, load_lock, read_source
from aqpolicy.lint import Settings
from aqpolicy.model import Policy
from aqpolicy.pipeline import Pipeline
from aqpolicy.semantics import evaluate
from aqpolicy.shipped import shipped_folder
from aqpolicy.syntax import parse
from aqpolicy.syntax.layout import format_text
from aqpolicy.syntax.tree import PolicyDecl
from aqpolicy.trial import read_fixtures, read_records
from aqpolicy.trust import canonical_json

EXAMPLES = shipped_folder("policies") / "examples"
FOLDERS = sorted(path.name for path in EXAMPLES.iterdir())
FILES = sorted(str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.aqp"))

BROKEN = {"radiology/broken.aqp": {"AQ301", "AQ302"}, "layered/widened.aqp": {"AQ310"}}
"""Policies that are refused on purpose, and the codes of the errors that they show."""

TOLD = {"AQ316", "AQ317", "AQ322"}
"""Notes on a policy that is right: what is left to `otherwise`, worst cases, what the gate does not keep."""

NETWORK = ("surface.weight", "structure.weight", "semantic.weight", "head.weight")
ADAPTED = tuple(f"model.layers.{layer}" for layer in range(24))

ENFORCEABLE = {
    "radiology": NETWORK,
    "open": NETWORK,
    "layered": ("stem.weight", "blocks.0.weight", "blocks.1.weight", "head.weight"),
    "credit": (
        "embeddings.weight",
        "trunk.0.experts.0.weight",
        "trunk.0.mix.weight",
        "scorecard.weight",
        "calibration",
    ),
    "preference": (*(f"{layer}.lora_A.weight" for layer in ADAPTED), "reward_head.weight"),
}
"""Examples that the gate of this version enforces, and the parameters of a small model for each."""

PANEL = {
    "authority": "panel",
    "review": "approved",
    "consensus": 1_000_000,
    "judgments": 4_000_000,
    "label_entropy": 0,
    "ontology": 1_000_000,
}


def source(name: str) -> Source:
    path = EXAMPLES / name
    return Source(path.name, path.read_text(encoding="utf-8"))


@cache
def pipeline(name: str) -> Pipeline:
    """Return the pipeline of a policy as the commands make it: with its lock."""
    lock = find_lock(EXAMPLES / name)
    return Pipeline(read_source(EXAMPLES / name), Files(None if lock is None else load_lock(lock)))


def findings(name: str) -> tuple[Diagnostic, ...]:
    """Return what `aqpolicy check` reports under its default settings."""
    return check_source(read_source(EXAMPLES / name), Settings(), None, date(2026, 12, 1)).findings


def model(parameters: tuple[str, ...]) -> bytes:
    """Return the description of a model with these parameters, in this order, and all modules above them."""
    owners = [name.rpartition(".")[0] for name in parameters]
    above = [".".join(owner.split(".")[: depth + 1]) for owner in owners for depth in range(owner.count(".") + 1)]
    return canonical_json(
        {
            "format": "aqpolicy model 2",
            "modules": [{"name": name, "type": "Linear"} for name in dict.fromkeys(above) if name],
            "parameters": [
                {"also": [], "module": owner, "name": name, "shape": [4, 4]}
                for owner, name in zip(owners, parameters, strict=True)
            ],
        }
    )


def decide(tables: Tables, **changes: object) -> Row:
    return tables.rows[tables.row_of({**PANEL, **changes})]


def is_policy(name: str) -> bool:
    return any(isinstance(statement, PolicyDecl) for statement in parse(source(name)).statements)


POLICIES = [name for name in FILES if is_policy(name)]
MODEL = model(ENFORCEABLE["radiology"])


@pytest.fixture(scope="module")
def radiology() -> Tables:
    return decode_bundle(pipeline("radiology/policy.aqp").payload(MODEL)).tables


# ---- Every policy


def test_there_are_all_that_the_readme_promises() -> None:
    written = {
        "credit",
        "layered",
        "open",
        "preference",
        "programmatic",
        "radiology",
        "radiology_full",
        "self_training",
    }
    assert set(FOLDERS) == written
    assert [name for name in FILES if name not in POLICIES] == ["layered/vocabulary.aqp"]


@pytest.mark.parametrize("name", [name for name in POLICIES if name not in BROKEN])
def test_a_policy_is_proved_and_nothing_is_left_to_be_mended(name: str) -> None:
    assert {finding.code for finding in findings(name)} <= TOLD
    assert pipeline(name).result.proved


@pytest.mark.parametrize("name", BROKEN)
def test_a_policy_that_is_broken_on_purpose_shows_exactly_its_faults(name: str) -> None:
    found = findings(name)
    assert {finding.code for finding in found if finding.severity != "note"} == BROKEN[name]
    assert {finding.code for finding in found if finding.severity == "note"} <= TOLD


@pytest.mark.parametrize("name", POLICIES)
def test_its_cases_and_fixtures_hold(name: str) -> None:
    assert main(["test", str(EXAMPLES / name), "--require-tests", "--format", "concise"]) == 0


@pytest.mark.parametrize("folder", FOLDERS)
def test_cases_and_fixtures_show_every_rule_at_work_and_out_of_the_way(folder: str) -> None:
    assert main(["test", str(EXAMPLES / folder / "policy.aqp"), "--min-coverage", "100", "--format", "concise"]) == 0


@pytest.mark.parametrize("folder", FOLDERS)
def test_fixtures_pin_whole_decisions_of_every_cause_that_there_is(folder: str) -> None:
    (path,) = (EXAMPLES / folder).glob("cases.*")
    policy = pipeline(f"{folder}/policy.aqp").policy
    fixtures = read_fixtures(policy, read_records(read_source(path)))
    causes = {fixture.expected.cause for fixture in fixtures}
    has_leftovers = any(finding.code == "AQ316" for finding in findings(f"{folder}/policy.aqp"))
    assert {"granted", "error"} <= causes
    assert ("default" in causes) is has_leftovers
    assert all(fixture.expected.shares and fixture.expected.charges for fixture in fixtures)
    assert all(fixture.expected.rules is not None and fixture.expected.reason for fixture in fixtures)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_in_the_one_layout(name: str) -> None:
    text = source(name).text
    assert format_text(source(name), Settings().line_width) == text


# ---- Every folder


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_has_one_shape(folder: str) -> None:
    names = {path.name for path in (EXAMPLES / folder).iterdir()}
    fixtures = names & {"cases.yaml", "cases.jsonl"}
    assert names >= {"policy.aqp", "README.md"}
    assert len(fixtures) == 1
    others = names - fixtures - {"README.md"}
    assert all(name == LOCK_NAME or name.endswith(".aqp") for name in others)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_readme_says_for_whom_what_and_what_not(folder: str) -> None:
    text = (EXAMPLES / folder / "README.md").read_text(encoding="utf-8")
    for part in ("**For** ", "## The story", "## What is proved", "## What it does not do"):
        assert part in text, part
    enforced = "The gate of this version enforces" in text
    refused = "**The gate of this version does not enforce it" in text
    assert (enforced, refused) == (folder in ENFORCEABLE, folder not in ENFORCEABLE)


def test_no_text_promises_more_than_evidence() -> None:
    for path in EXAMPLES.parent.rglob("*"):
        assert path.is_dir() or "complian" not in path.read_text(encoding="utf-8").lower(), path


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_first_comment_says_in_one_line_what_a_policy_is_about(folder: str) -> None:
    first, _, _ = source(f"{folder}/policy.aqp").text.partition("\n")
    assert first.startswith("# ")
    assert first.endswith(".")


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_lock_pins_what_a_folder_stands_on_and_nothing_else(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lock", "--check", str(EXAMPLES / folder)]) == 0
    has_lock = (EXAMPLES / folder / LOCK_NAME).exists()
    assert ("up to date" in capsys.readouterr().out) is has_lock


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_new_policy_can_start_from_it(folder: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine.aqp"
    assert main(["new", "acme.mine", "--from", folder, "--out", str(mine)]) == 0
    assert main(["lock", str(mine)]) == 0
    assert main(["check", str(mine), "--fail-level", "warning", "--format", "concise"]) == 0


def test_the_readme_names_every_file_and_says_which_the_gate_enforces() -> None:
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    assert [name for name in FILES if f"(examples/{name})" not in readme] == []
    rows = {line.split("](examples/")[1].split(")")[0]: line for line in readme.splitlines() if line.startswith("| [")}
    assert sorted(rows) == FOLDERS
    assert {folder for folder, line in rows.items() if line.endswith("| yes |")} == set(ENFORCEABLE)


# ---- What the gate enforces


@pytest.mark.parametrize("folder", ENFORCEABLE)
def test_what_the_gate_enforces_compiles(folder: str) -> None:
    bundle = decode_bundle(pipeline(f"{folder}/policy.aqp").payload(model(ENFORCEABLE[folder])))
    assert bundle.policy_name == pipeline(f"{folder}/policy.aqp").policy.name
    named = [name for group in bundle.parameters for name, _ in group]
    assert sorted(named) == sorted(ENFORCEABLE[folder])
    assert all(bundle.parameters)


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if folder not in ENFORCEABLE])
def test_what_the_gate_does_not_enforce_is_refused_by_name(folder: str) -> None:
    with pytest.raises(PolicyError) as caught:
        _ = pipeline(f"{folder}/policy.aqp").compilation
    refused = [finding for finding in caught.value.diagnostics if finding.severity == "error"]
    assert [finding.code for finding in refused] == ["AQ322"]
    assert len(unenforceable(pipeline(f"{folder}/policy.aqp").policy)) == 1


def test_the_same_source_gives_the_same_payload_wherever_it_lies() -> None:
    text = source("radiology/policy.aqp").text
    here, there = (Pipeline(Source(name, text)).payload(MODEL) for name in ("policy.aqp", "far/away/policy.aqp"))
    assert here == there


# ---- Radiology and its twins


def test_the_broken_policy_shows_a_conflict_and_an_unbounded_group_with_witnesses() -> None:
    errors = [finding for finding in findings("radiology/broken.aqp") if finding.severity == "error"]
    assert sorted(finding.code for finding in errors) == ["AQ301", "AQ302"]
    for finding in errors:
        assert finding.witness is not None
        assert finding.witness["authority"] == "panel"
        assert len(finding.labels) >= 3


def test_a_panel_that_agrees_shapes_every_depth(radiology: Tables) -> None:
    row = decide(radiology)
    assert (row.effect, row.shares) == ("admit", (1_000_000,) * 4)
    assert row.rules == ("panel_truth",)


def test_a_single_reader_shapes_the_surface_and_the_head(radiology: Tables) -> None:
    row = decide(radiology, authority="single", judgments=1_000_000, review="submitted")
    assert (row.effect, row.shares) == ("modulate", (500_000, 0, 0, 1_000_000))
    assert row.charged == (1_000_000, 1_000_000, 0)


def test_a_label_that_most_readers_contradict_teaches_nothing(radiology: Tables) -> None:
    row = decide(radiology, consensus=333_333)
    assert (row.effect, row.cause) == ("deny", "denied")
    assert row.reason == "most readers of this nodule say something else"


def test_a_rejected_label_teaches_nothing(radiology: Tables) -> None:
    assert decide(radiology, review="rejected").cause == "denied"


def test_disagreement_makes_the_update_gentle(radiology: Tables) -> None:
    assert decide(radiology, consensus=600_000).norms[0] == 500_000


def test_an_observation_without_consensus_is_an_error(radiology: Tables) -> None:
    assert radiology.row_of({**PANEL, "consensus": None}) == ERROR_ROW


def test_the_open_policy_admits_whatever_is_well_typed() -> None:
    tables = decode_bundle(pipeline("open/policy.aqp").payload(MODEL)).tables
    assert [row.effect for row in tables.rows] == ["deny", "admit"]
    assert set(tables.row_of_vector.values()) == {1}


# ---- Layers


def layers(policy: Policy) -> tuple[Policy, ...]:
    """Return a policy and all that it extends, the lowest first."""
    return (policy, *(() if policy.extends is None else layers(policy.extends)))


def test_each_layer_admits_at_most_what_the_one_above_admits() -> None:
    stack = layers(pipeline("layered/policy.aqp").policy)
    assert [policy.name.rpartition(".")[2] for policy in stack] == ["pedestrians", "perception", "organisation"]
    fixtures = read_fixtures(stack[0], read_records(read_source(EXAMPLES / "layered" / "cases.jsonl")))
    decisions = [[evaluate(policy, fixture.observation).shares for policy in stack] for fixture in fixtures]
    for lowest, middle, highest in decisions:
        assert all(low <= mid <= high for low, mid, high in zip(lowest, middle, highest, strict=True))
    for upper in (0, 1):
        assert any(shares[upper] != shares[upper + 1] for shares in decisions)


def test_the_policy_that_widens_is_refused_with_a_label_that_the_layers_above_deny() -> None:
    first = next(finding for finding in findings("layered/widened.aqp") if finding.code == "AQ310")
    assert first.witness is not None
    assert (first.witness["authority"], first.witness["review"]) == ("vendor", "submitted")
