"""A run is asked again under another policy: what it would have decided, and what it would have made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.gating import budget, tables
from support.rerunning import OWNERS, PLAIN, SPENDING, by_run, inputs, rarely, recipe_in, trained, verifying, waiting
from support.tracing import KEYRING, LOG

from aqpolicy.bundle import Tables, load_bundle
from aqpolicy.cli.main import main
from aqpolicy.errors import BudgetExhaustedError, InputError, TraceError
from aqpolicy.rerun.deciding import decisions, recorded
from aqpolicy.rerun.origin import Origin
from aqpolicy.rerun.replaying import replay
from aqpolicy.rerun.retraining import retrain
from aqpolicy.trace import audit_run, open_run

HALTING = tables([[1, 1], [0.5, 1], [0, 0]], budgets=[budget("stop", (0, 1), per_run=30_000_000, on_exhaust="halt")])
KINDS = {
    "plain": PLAIN,
    "spending": SPENDING,
    "waiting": waiting(),
    "held": verifying("hold"),
    "rolled back": verifying("rollback"),
    "frequency": rarely(),
    "phases": by_run("phase"),
    "stages": by_run("stage"),
    "epochs": by_run("epoch"),
    "surprisal": by_run("surprisal", linear=True),
}


def other(folder: Path, table: Tables):
    """Return another signed bundle for the same model."""
    return load_bundle(inputs(folder, table, name="other.aqb")["bundle"], KEYRING)


@pytest.mark.parametrize("table", KINDS)
def test_under_its_own_policy_nothing_changes(tmp_path: Path, table: str) -> None:
    trained(tmp_path, table=KINDS[table], refused=["1-0", "2-4"])
    audit_run(tmp_path / "run", KEYRING)
    run = open_run(tmp_path / "run", KEYRING)
    found = replay(run, run.bundle)
    assert (found.changes, found.halted, found.unreached, found.visits) == ((), "", 0, 144)
    assert all(then == now for then, now in found.spent.values())
    steps, _ = decisions(run, run.bundle)
    assert [[recorded(run, row) for row in block.rows] for block in run.blocks] == list(steps)


@pytest.mark.parametrize("kind", ["adamw", "odd", "parts"])
@pytest.mark.parametrize("record", ["decisions", "norms", "sketch", "factors"])
def test_nothing_changes_however_it_was_trained_and_recorded(tmp_path: Path, kind: str, record: str) -> None:
    trained(tmp_path, kind, waiting(), record)
    run = open_run(tmp_path / "run", KEYRING)
    assert {row.cause for _, row in run.rows} >= ({"error"} if kind == "odd" else {"granted"})
    assert replay(run, run.bundle).changes == ()


def test_what_the_policies_here_ask_for_really_happens(tmp_path: Path) -> None:
    """The tests above would say nothing of reasons that never occur."""
    wanted = {"frequency": 11, "surprisal": 10, "waiting": 6, "spending": 4}
    for name, reason in wanted.items():
        trained(tmp_path / name, table=KINDS[name])
        run = open_run(tmp_path / name / "run", KEYRING)
        assert reason in {code for _, row in run.rows for _, code, _ in row.exceptions} | {
            row.reason_code for _, row in run.rows
        }, name
    for name in ("phases", "stages", "epochs", "surprisal"):
        folder = tmp_path / f"rows by {name}"
        trained(folder, table=KINDS[name])
        routes = {row.route for _, row in open_run(folder / "run", KEYRING).rows}
        assert len(routes & set(range(1, 7))) >= 5, name


def test_a_run_that_its_own_policy_stopped_is_stopped_at_the_same_step(tmp_path: Path) -> None:
    with pytest.raises(BudgetExhaustedError):
        trained(tmp_path, table=HALTING)
    run = open_run(tmp_path / "run", KEYRING)
    found = replay(run, run.bundle)
    assert (found.changes, found.halted, found.unreached) == ((), "stop", 0)
    assert found.halted_step == run.blocks[-1].step


def test_what_changes_is_counted_by_effect_group_credential_and_rule(tmp_path: Path) -> None:
    trained(tmp_path, table=PLAIN)
    run = open_run(tmp_path / "run", KEYRING)
    found = replay(run, other(tmp_path, tables([[1, 0.5], [0.25, 1], [0, 0]])))
    rows = [(run.name_of(row), row) for _, row in run.rows]
    ones, twos = ([name for name, _ in rows if name.startswith(kind)] for kind in ("1", "2"))
    assert len(found.changes) == len(ones) + len(twos)
    assert found.by_effect == {"admit -> modulate": len(ones), "modulate -> modulate": len(twos)}
    assert found.by_group == {"g0": {"opened": len(twos)}, "g1": {"lowered": len(ones)}}
    assert found.by_rule == {"r0 -> r0": len(ones), "r1 -> r1": len(twos)}
    for credential, count in found.by_credential.items():
        assert count == sum(OWNERS[name] == credential for name in ones + twos)
    assert sum(found.seen.values()) == found.visits == len(rows)
    for changes in found.examples().values():
        assert len({change.example for change in changes}) == len(changes) == 3
    limited = replay(
        run, other(tmp_path, tables([[1, 1], [0, 1], [0, 0]], norms=[[0.5, None], [None, 9], [None, None]]))
    )
    assert limited.by_group == {"g0": {"other limit": len(ones)}, "g1": {"other limit": len(twos)}}


def test_only_what_concerns_some_groups_and_credentials_can_be_asked_for(tmp_path: Path) -> None:
    trained(tmp_path, table=PLAIN)
    run = open_run(tmp_path / "run", KEYRING)
    bundle = other(tmp_path, tables([[1, 0.5], [0.25, 1], [0, 0]]))
    every = replay(run, bundle).changes
    assert replay(run, bundle, ["g0"]).changes == tuple(one for one in every if "g0" in one.groups)
    assert replay(run, bundle, ["g0", "reader1"]).changes == tuple(
        one for one in every if "g0" in one.groups and one.credential == "reader1"
    )
    with pytest.raises(InputError, match="`g7` is neither a depth group nor a credential"):
        replay(run, bundle, ["g7"])


def test_budgets_are_spent_anew(tmp_path: Path) -> None:
    """Who is denied by the new table spends nothing, so others are let in that had found the budget empty."""
    trained(tmp_path, table=tables([[1, 1], [1, 1], [0, 0]], budgets=[budget("b", (0, 1), per_epoch=6_000_000)]))
    run = open_run(tmp_path / "run", KEYRING)
    bundle = other(tmp_path, tables([[1, 1], [0, 0], [0, 0]], budgets=[budget("b", (0, 1), per_epoch=6_000_000)]))
    found = replay(run, bundle)
    let_in = [one for one in found.changes if one.after.effect == "admit"]
    assert let_in
    assert all(one.example.startswith("1-") and one.before.reason == 5 for one in let_in)
    assert {one.after.effect for one in found.changes if one.example.startswith("2-")} == {"deny"}
    then, now = found.spent["b"]
    assert then is not None
    assert now is not None
    epochs = {block.epoch: 0 for block in run.blocks}
    assert max(then, now) <= 6_000_000 * len(epochs)


def test_a_budget_that_halts_ends_the_run_that_would_have_been(tmp_path: Path) -> None:
    trained(tmp_path, table=tables([[1, 1], [0.5, 1], [0, 0]]))
    run = open_run(tmp_path / "run", KEYRING)
    found = replay(run, other(tmp_path, HALTING))
    assert found.halted == "stop"
    assert found.halted_step is not None
    assert found.unreached == 6 * (24 - found.halted_step - 1) > 0
    assert sum(found.seen.values()) == found.visits - found.unreached


def test_a_policy_that_the_run_cannot_be_asked_about_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, table=PLAIN)
    run = open_run(tmp_path / "run", KEYRING)
    with pytest.raises(TraceError, match="other phases than the run"):
        replay(run, replace(run.bundle, tables=replace(run.tables, phases=("a", "b"))))
    with pytest.raises(TraceError, match=r"speaks of `words@2`"):
        replay(run, replace(run.bundle, taxonomy="words@2"))


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_training_again_under_the_same_policy_makes_the_same_model(tmp_path: Path, kind: str) -> None:
    once = trained(tmp_path, kind, refused=["1-0"])
    origin = Origin(open_run(tmp_path / "run", KEYRING), KEYRING)
    bundle = inputs(tmp_path, SPENDING)["bundle"]
    again = retrain(origin, recipe_in(tmp_path, kind), bundle, LOG, tmp_path / "new")
    assert again.digest == once.digest
    assert again.apart == {"g0": 0.0, "g1": 0.0}
    assert again.differences == ()
    one, two = (open_run(tmp_path / name, KEYRING) for name in ("run", "new"))
    assert [block.rows for block in one.blocks] == [block.rows for block in two.blocks]
    (event,) = [one for one in two.statuses if one.get("event") == "repeats"]
    assert event["run"] == one.run_id


def test_what_another_policy_decides_is_what_training_under_it_decides(tmp_path: Path) -> None:
    """Where only the table differs, the forecast is exact for the first step and for all that is not spent by loss."""
    trained(tmp_path, table=PLAIN)
    changed = tables([[1, 0.5], [0, 0], [0.25, 1]])
    origin = Origin(open_run(tmp_path / "run", KEYRING), KEYRING)
    bundle = inputs(tmp_path, changed, name="other.aqb")["bundle"]
    found = retrain(origin, recipe_in(tmp_path), bundle, LOG, tmp_path / "new")
    assert all(away > 0 for away in found.apart.values())
    made = open_run(tmp_path / "new", KEYRING)
    steps, _ = decisions(origin.run, load_bundle(bundle, KEYRING))
    assert [[recorded(made, row) for row in block.rows] for block in made.blocks] == list(steps)
    with pytest.raises(InputError, match="is not empty"):
        retrain(origin, recipe_in(tmp_path), bundle, LOG, tmp_path / "new")


def test_the_first_run_is_left_alone(tmp_path: Path) -> None:
    trained(tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.*")}
    origin = Origin(open_run(tmp_path / "run", KEYRING), KEYRING)
    retrain(origin, recipe_in(tmp_path), inputs(tmp_path, PLAIN, name="o.aqb")["bundle"], LOG, tmp_path / "new")
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.*")} == before
    audit_run(tmp_path / "run", KEYRING)


def test_one_command_asks_and_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path)
    bundle = inputs(tmp_path, PLAIN, name="other.aqb")["bundle"]
    words = ["replay", str(tmp_path / "run"), "--policy", str(bundle)]
    assert main([*words, "--by", "g0"]) == 0
    said = capsys.readouterr().out
    for part in ("changed", "by effect", "by depth group", "by credential", "by rule", "such as", "only training"):
        assert part in said
    assert main([*words, "--output", str(tmp_path / "new")]) == 2
    assert "give --train, --output and --key" in capsys.readouterr().err
    code = f"{tmp_path / 'recipe.py'}:train"
    key = str(tmp_path / "log.key")
    assert main([*words, "--json", "--train", code, "--output", str(tmp_path / "new"), "--key", key]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["format"] == "aqpolicy replay 1"
    assert facts["changed"] == sum(facts["by_effect"].values()) == sum(facts["by_credential"].values())
    assert facts["trained"]["steps"] == 24
