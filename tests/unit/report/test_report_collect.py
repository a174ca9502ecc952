"""What a page says of a run is what its log holds, and the command verifies before it writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.gating import tables
from support.tracing import KEYRING, Story, train

from aqpolicy.bundle.tables import BudgetTable
from aqpolicy.cli.main import main
from aqpolicy.errors import InputError
from aqpolicy.report import (
    burn_downs_of,
    footprint_table,
    heat_map_of,
    policy_of_source,
    render_report,
    report_of_run,
    view_of_trace,
)
from aqpolicy.report.indirect import indirect_influence
from aqpolicy.report.why import render_trace
from aqpolicy.trace import audit_run, footprint, open_run
from aqpolicy.trace.behaviour import Named
from aqpolicy.trace.query import trace_behaviour

OWNERS = {f"{1 + number % 2}-{number}": f"reader{number % 3}" for number in range(12)}
BUDGET = BudgetTable("nats", (0, 1), 20_000, 50_000_000, 1_000_000_000, -1, "deny")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("report"), Story(OWNERS, tables([[1.0, 1.0], [0.5, 0.0]])))


def test_admitted_and_denied_mass_add_up_to_all_that_was_measured(trained: Path) -> None:
    run = open_run(trained, KEYRING)
    heat = heat_map_of(run, "t")
    assert heat.classes == ("kind 1", "kind 2")
    for group in range(len(heat.groups)):
        measured = sum(row.norms[group] for _, row in run.rows)
        assert sum(heat.admitted[group]) + sum(heat.denied[group]) == pytest.approx(measured)
    assert heat.admitted[1][1] == 0.0
    assert heat.denied[0][0] == 0.0
    assert heat.admitted[0][1] == pytest.approx(heat.denied[0][1])


def test_a_budget_burns_down_by_what_was_charged(tmp_path: Path) -> None:
    story = Story(OWNERS, tables([[1.0, 1.0], [0.5, 0.0]], budgets=(BUDGET,)))
    run = open_run(train(tmp_path, story), KEYRING)
    by_epoch, by_run = burn_downs_of(run)
    charges = [(block.epoch, row.charges[0] / 1e6) for block, row in run.rows]
    last = max(epoch for epoch, _ in charges)
    assert by_run.left[0] == (0, 1000.0)
    assert by_run.left[-1][0] == len(run.blocks)
    assert by_run.left[-1][1] == pytest.approx(1000.0 - sum(charge for _, charge in charges))
    assert by_epoch.left[-1][1] == pytest.approx(50.0 - sum(charge for epoch, charge in charges if epoch == last))
    assert by_run.refused == by_epoch.refused > 0


def test_a_trace_becomes_a_path_down_to_the_signed_leaf_and_flags_what_is_known(trained: Path) -> None:
    from support.tracing import data_of, small_model

    run = open_run(trained, KEYRING)
    point = data_of(["1-0"])
    trace = trace_behaviour(run, Named("m", small_model, None), Named("b", lambda model: model(point).sum(), None))
    view = view_of_trace(trace, "t", "s", {"reader0": "stolen"})
    ranks, node = [], view.root
    while node.children:
        ranks.append(node.rank)
        node = node.children[0]
    assert [*ranks, node.rank] == [
        "behaviour",
        "depth group",
        "update",
        "example",
        "annotator",
        "signed observation",
    ]
    assert node.title.startswith("leaf ")
    page = render_trace(view, "x")
    assert "reader0 (stolen)" in page
    assert page.count("<details") == page.count("</details>")


def test_the_table_of_a_footprint_has_a_row_per_depth_group(trained: Path) -> None:
    run = open_run(trained, KEYRING)
    found = footprint_table(footprint(run, credential="reader0"))
    assert [row[0] for row in found.rows] == list(run.tables.groups)
    assert {len(row) for row in found.rows} == {len(found.columns)}


def test_a_source_other_than_the_compiled_one_is_refused(trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.aqp"
    other.write_text("policy x version 1.0.0\n")
    with pytest.raises(InputError, match="not the source"):
        policy_of_source(open_run(trained, KEYRING), other)
    with pytest.raises(InputError, match="cannot read"):
        policy_of_source(open_run(trained, KEYRING), tmp_path / "none.aqp")


def test_the_page_shows_the_checkpoint_that_was_verified(trained: Path) -> None:
    page = render_report(report_of_run(open_run(trained, KEYRING), audit_run(trained, KEYRING)))
    assert (trained / "head.note").read_text().splitlines()[2] in page


def test_the_command_writes_a_page_for_an_honest_run_and_nothing_for_a_damaged_one(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    KEYRING.save(tmp_path / "keys.json")
    out = tmp_path / "page.html"
    assert main(["report", str(trained), "--keyring", str(tmp_path / "keys.json"), "--out", str(out)]) == 0
    assert out.read_text().startswith("<!doctype html>")
    damaged = tmp_path / "damaged"
    shutil.copytree(trained, damaged)
    note = (damaged / "head.note").read_bytes()
    (damaged / "head.note").write_bytes(note.replace(b"\n", b"\nx", 1))
    gone = tmp_path / "none.html"
    assert main(["report", str(damaged), "--keyring", str(tmp_path / "keys.json"), "--out", str(gone)]) == 2
    assert not gone.exists()
    assert "aqpolicy: error: " in capsys.readouterr().err


def test_what_closed_groups_feel_indirectly_stands_beside_the_claim(trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    run = open_run(folder, KEYRING)
    assert "was not measured" in indirect_influence(run)
    group = {"group": "g1", "examples": 6, "part": 0.25}
    facts = {"format": "aqpolicy indirect 1", "run": run.run_id, "model": (run.published or {})["model"]}
    path = folder / "indirect.json"
    path.write_text(json.dumps({**facts, "groups": [group, {**group, "part": None}]}), encoding="utf-8")
    said = indirect_influence(run)
    assert "`g1` moved by 25.0% of its displacement (6 examples)" in said
    assert "by nothing that could be compared" in said
    assert said in report_of_run(run, audit_run(folder, KEYRING)).limits
    path.write_text(json.dumps({**facts, "model": "x", "groups": []}), encoding="utf-8")
    assert "another run or model" in indirect_influence(run)
    for wrong in (b"", b"[]", b"{}", b"[" * 100_000, b"\xff", json.dumps({**facts, "groups": [{"part": 1}]}).encode()):
        path.write_bytes(wrong)
        with pytest.raises(InputError, match="no measurement"):
            indirect_influence(run)
