"""A footprint is exactly what a brute-force scan of the log finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.gating import budget, tables
from support.tracing import KEYRING, Story, train

from aqpolicy.errors import TraceError
from aqpolicy.trace import Run, footprint, open_run
from aqpolicy.trace.footprint import credentials_of, masses_by
from aqpolicy.trace.text import footprint_lines

TABLE = tables(
    [[1.0, 1.0], [0.5, 0.0], [0.0, 0.0]],
    norms=[[None, 0.05], [None, None], [None, None]],
    budgets=[budget("b", (0, 1), per_update=300_000)],
)
OWNERS = {f"{1 + number % 3}-{number}": f"reader{number % 4}" for number in range(22)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("footprint")
    story = Story(OWNERS, TABLE, settings={"lr": 0.1, "momentum": 0.9}, witnesses={"1-0": ["reader1", "panel"]})
    return open_run(train(folder, story), KEYRING)


def test_steps_groups_and_masses_are_those_of_a_brute_force_scan(run: Run) -> None:
    found = footprint(run, credential="reader1")
    mine = {name for name, owner in OWNERS.items() if owner == "reader1"}
    expected: dict[int, float] = {0: 0.0, 1: 0.0}
    pairs = set()
    for block in run.blocks:
        for row in block.rows:
            if run.manifest.example_id(row.manifest_index) not in mine:
                continue
            shares = list(run.tables.rows[row.route].shares)
            for group, _, share in row.exceptions:
                shares[group] = share
            for group, share in enumerate(shares):
                limit = run.tables.rows[row.route].norms[group]
                norm = row.norms[group] if limit < 0 else min(row.norms[group], limit / 1e6)
                expected[group] += share / 1e6 * norm
                pairs |= {(block.step, group)} if share else set()
    assert [part.mass for part in found.groups] == pytest.approx([expected[0], expected[1]])
    assert {(visit.step, group) for visit in found.visits for group in (0, 1) if visit.shares[group]} == pairs
    assert [part.steps for part in found.groups] == [sum(group == at for _, group in pairs) for at in (0, 1)]
    assert set(found.examples) == mine


def test_the_footprints_of_all_credentials_make_the_whole_run(run: Run) -> None:
    parts = [footprint(run, credential=name) for name in sorted(set(OWNERS.values()))]
    for group in (0, 1):
        assert sum(part.groups[group].mass_of_run for part in parts) == pytest.approx(1.0)
    assert sum(len(part.visits) for part in parts) == len(list(run.rows))
    assert sum(part.charged["b"] for part in parts) == sum(row.charges[0] for _, row in run.rows)
    masses = masses_by(run, credentials_of(run))
    assert {name: sum(mass) for name, (_, mass) in masses.items()} == {
        part.source: pytest.approx(sum(group.mass for group in part.groups)) for part in parts
    }


def test_a_denied_example_has_a_footprint_of_nothing(run: Run) -> None:
    found = footprint(run, example="3-2")
    assert len(found.visits) == 2
    assert found.admitted_steps == ()
    assert all(part.mass == 0.0 and part.displacement == 0.0 for part in found.groups)


def test_the_displacement_bound_holds_for_the_run_without_momentum_of_others(run: Run) -> None:
    for part in footprint(run, credential="reader0").groups:
        assert part.displacement is not None
        assert 0 < part.displacement < 1.0


def test_a_consensus_history_names_who_corroborated(run: Run) -> None:
    assert footprint(run, credential="reader1").corroborated == ("1-0",)
    assert footprint(run, credential="panel").visits == ()


def test_the_file_is_plain_json_and_stable(run: Run) -> None:
    first, second = (footprint(run, credential="reader2").to_json() for _ in range(2))
    assert first == second
    assert json.loads(first)["source"] == "reader2"


def test_unknown_sources_are_refused_by_name(run: Run) -> None:
    with pytest.raises(TraceError, match="`nobody`; it has `reader0`"):
        footprint(run, credential="nobody")
    with pytest.raises(TraceError, match="no example `x`"):
        footprint(run, example="x")
    with pytest.raises(TraceError, match="one of the two"):
        footprint(run)


def test_the_text_shows_every_visit_of_an_example(run: Run) -> None:
    text = "\n".join(footprint_lines(footprint(run, example="2-1"), visits=True))
    assert text.count("shares 0.5 0;") == 2
    assert "epoch 1" in text


def test_runs_of_other_optimizers_have_footprints_without_a_bound(tmp_path: Path) -> None:
    import torch

    owners = {"1-0": "a", "1-1": "b"}
    folder = train(tmp_path, Story(owners, optimizer=torch.optim.AdamW, settings={"lr": 0.01}, record="norms"))
    found = footprint(open_run(folder, KEYRING), credential="a")
    assert found.groups[0].mass > 0
    assert found.groups[0].displacement is None
    assert "no exact book" in "\n".join(footprint_lines(found))
