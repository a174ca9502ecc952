"""The policies that are shipped do what their comments say."""

from __future__ import annotations

import pytest

from aqpolicy.analysis import examine
from aqpolicy.bundle import ERROR_ROW, Row, Tables, decode_bundle
from aqpolicy.diagnostics import Source
from aqpolicy.model import load_policy
from aqpolicy.pipeline import Pipeline
from aqpolicy.shipped import shipped_folder
from aqpolicy.trust import canonical_json

EXAMPLES = shipped_folder("policies") / "examples"
GROUPS = ("surface", "structure", "semantic", "head")
MODEL = canonical_json(
    {
        "format": "aqpolicy model 1",
        "modules": [{"name": "", "type": "Net"}]
        + [{"name": name, "type": "Linear" if name == "head" else "Conv2d"} for name in GROUPS],
        "parameters": [{"module": name, "name": f"{name}.weight", "shape": [4, 4]} for name in GROUPS],
    }
)
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


def decide(tables: Tables, **changes: object) -> Row:
    return tables.rows[tables.row_of({**PANEL, **changes})]


@pytest.fixture(scope="module")
def radiology() -> Tables:
    return decode_bundle(Pipeline(source("radiology/policy.aqp")).payload(MODEL)).tables


def test_every_policy_but_the_broken_one_is_proved() -> None:
    for path in sorted(EXAMPLES.rglob("*.aqp")):
        findings = examine(load_policy(source(str(path.relative_to(EXAMPLES))))).findings
        assert bool(findings) is (path.name == "broken.aqp"), path


def test_the_broken_policy_shows_a_conflict_and_an_unbounded_group_with_witnesses() -> None:
    findings = examine(load_policy(source("radiology/broken.aqp"))).findings
    assert [finding.code for finding in findings] == ["AQ301", "AQ302"]
    for finding in findings:
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
    tables = decode_bundle(Pipeline(source("open/policy.aqp")).payload(MODEL)).tables
    assert [row.effect for row in tables.rows] == ["deny", "admit"]
    assert set(tables.row_of_vector.values()) == {1}


def test_the_same_source_gives_the_same_payload_wherever_it_lies() -> None:
    text = source("radiology/policy.aqp").text
    here, there = (Pipeline(Source(name, text)).payload(MODEL) for name in ("policy.aqp", "far/away/policy.aqp"))
    assert here == there


def test_the_readme_names_every_policy() -> None:
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    names = [str(path.relative_to(EXAMPLES.parent)) for path in EXAMPLES.rglob("*.aqp")]
    assert [name for name in names if f"({name})" not in readme] == []
