"""Examples are forgotten exactly: what is left is, bit for bit, the training that never had them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support.rerunning import OWNERS, PLAIN, RECIPE, SPENDING, recipe_in, trained, verifying, waiting
from support.tracing import KEYRING, LOG

from aqpolicy.cli.main import main
from aqpolicy.errors import IllegalTrainingSetupError, InputError, TraceError
from aqpolicy.lineage import LineageReader, verify_log
from aqpolicy.rerun.forgetting import forget
from aqpolicy.rerun.origin import Origin
from aqpolicy.rerun.plan import plan_forgetting
from aqpolicy.trace import audit_run, open_run
from aqpolicy.trace.behaviour import find_function

TABLES = {
    "plain": PLAIN,
    "spending": SPENDING,
    "waiting": waiting(),
    "held": verifying("hold"),
    "rolled back": verifying("rollback"),
}
LATE = "2-16"
"""An example that no step before the tenth has."""


def origin_of(folder: Path) -> Origin:
    return Origin(open_run(folder / "run", KEYRING), KEYRING)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", ["sgd", "nesterov", "adamw"])
def test_what_is_forgotten_was_never_there(tmp_path: Path, kind: str, table: str) -> None:
    once = trained(tmp_path / "once", kind, TABLES[table])
    recipe, origin = recipe_in(tmp_path / "once", kind), origin_of(tmp_path / "once")
    plan = plan_forgetting(origin, ["reader1"], ["1-0"])
    found = forget(origin, plan, recipe, LOG, reason="consent was withdrawn", check=True)
    gone = {name for name, owner in OWNERS.items() if owner == "reader1"} | {"1-0"}
    never = trained(tmp_path / "never", kind, TABLES[table], refused=gone)
    assert found.digest == never.digest == found.never_trained != once.digest
    assert found.is_exact
    one, other = (open_run(tmp_path / name / "run", KEYRING) for name in ("once", "never"))
    assert one.published["model"] == other.published["model"] == found.model
    assert one.published["travelled"] == other.published["travelled"]
    assert [block.rows for block in one.blocks[plan.step :]] == [block.rows for block in other.blocks[plan.step :]]
    assert verify_log(tmp_path / "once" / "run", KEYRING).ended
    assert audit_run(tmp_path / "once" / "run", KEYRING).steps == found.audited == 24


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("table", ["spending", "waiting"])
def test_only_what_came_after_the_last_checkpoint_before_is_trained_again(
    tmp_path: Path, kind: str, table: str
) -> None:
    trained(tmp_path / "once", kind, TABLES[table])
    origin = origin_of(tmp_path / "once")
    plan = plan_forgetting(origin, [], [LATE])
    assert (plan.first, plan.checkpoint, plan.step) == (10, "at-10", 10)  # and not `at-11`, which had it
    found = forget(origin, plan, recipe_in(tmp_path / "once", kind), LOG, reason="it was a duplicate")
    assert found.digest == trained(tmp_path / "never", kind, TABLES[table], refused=[LATE]).digest
    report = verify_log(tmp_path / "once" / "run", KEYRING)
    assert (report.steps, report.attempts, report.superseded) == (24, 2, 14)
    assert found.rehearsed == 3


def test_what_the_policies_here_promise_really_happens(tmp_path: Path) -> None:
    """The tests above would say nothing of deferrals and verifications that never take place."""
    for name, event in (("held", "hold"), ("rolled back", "rollback")):
        trained(tmp_path / name, table=TABLES[name])
        remedies = {one.get("remedy") for one in open_run(tmp_path / name / "run", KEYRING).statuses}
        assert event in remedies
    trained(tmp_path / "waiting", table=TABLES["waiting"])
    effects = [row.effect for _, row in open_run(tmp_path / "waiting" / "run", KEYRING).rows]
    assert effects.count("defer") > 10
    assert {"defer", "admit", "deny"} <= set(effects)


def test_the_log_says_what_was_forgotten_and_why_and_later_trainings_keep_to_it(tmp_path: Path) -> None:
    trained(tmp_path)
    recipe, run = recipe_in(tmp_path, "sgd"), tmp_path / "run"
    origin = origin_of(tmp_path)
    forget(origin, plan_forgetting(origin, [], [LATE]), recipe, LOG, reason="it was a duplicate")
    origin = origin_of(tmp_path)
    assert origin.refused == {LATE}
    (event,) = [one for one in origin.run.statuses if one.get("event") == "forgotten"]
    assert (event["credential"], event["example"], event["reason"]) == (OWNERS[LATE], LATE, "it was a duplicate")
    (path,) = run.glob("forgotten-*.json")
    assert json.loads(path.read_text())["sources"][0]["examples"] == [LATE]
    plan = plan_forgetting(origin, ["reader3"], [])
    assert plan.checkpoint == "beginning"  # who signed it was in the first steps, too
    found = forget(origin, plan, recipe, LOG, reason="the reader left", check=True)
    gone = {name for name, owner in OWNERS.items() if owner == "reader3"} | {LATE}
    assert found.is_exact
    assert origin_of(tmp_path).refused == gone
    assert found.digest == trained(tmp_path / "never", refused=gone).digest


def test_what_was_broken_off_is_finished_by_forgetting_again(tmp_path: Path) -> None:
    trained(tmp_path)
    code = (tmp_path / "recipe.py").read_text()
    broken = code.replace(
        "        names = [*dict",
        "        if step == 17 and rerun.content('x') == 'x':\n            stop()\n        names = [*dict",
    )
    (tmp_path / "broken.py").write_text(broken)
    origin = origin_of(tmp_path)
    plan = plan_forgetting(origin, [], [LATE])
    with pytest.raises(InputError, match="failed: NameError"):
        forget(origin, plan, find_function(f"{tmp_path / 'broken.py'}:train"), LOG, reason="it was a duplicate")
    origin = origin_of(tmp_path)
    assert not origin.run.verified.ended
    plan = plan_forgetting(origin, [], [LATE])
    assert plan.first is None
    assert plan.is_needed
    assert (plan.checkpoint, plan.step) == ("at-14", 14)
    found = forget(origin, plan, recipe_in(tmp_path), LOG, reason="it was a duplicate", check=True)
    assert found.is_exact
    assert verify_log(tmp_path / "run", KEYRING).ended


def test_what_is_being_forgotten_stays_refused_where_the_training_broke_off_at_once(tmp_path: Path) -> None:
    trained(tmp_path)
    broken = RECIPE.replace(
        "        names = [*dict",
        "        if step == 10 and type(gate).__name__ == 'Gate':\n            stop()\n        names = [*dict",
    )
    (tmp_path / "broken.py").write_text(broken)
    plan = plan_forgetting(origin_of(tmp_path), [], [LATE])
    with pytest.raises(InputError, match="failed: NameError"):
        forget(origin_of(tmp_path), plan, find_function(f"{tmp_path / 'broken.py'}:train"), LOG, reason="a duplicate")
    other = plan_forgetting(origin_of(tmp_path), [], ["1-3"])
    found = forget(origin_of(tmp_path), other, recipe_in(tmp_path), LOG, reason="another one")
    assert found.digest == trained(tmp_path / "never", refused=[LATE, "1-3"]).digest


def test_who_was_never_let_in_needs_no_training(tmp_path: Path) -> None:
    trained(tmp_path)
    origin = origin_of(tmp_path)
    plan = plan_forgetting(origin, [], ["3-2", "3-5"])
    assert not plan.is_needed
    with pytest.raises(InputError, match="nothing to forget"):
        forget(origin, plan, recipe_in(tmp_path), LOG, reason="why not")


@pytest.mark.parametrize(
    ("before", "after", "differs"),
    [
        ("number * number % 2", "number % 3 % 2", "the surprisal of an example"),
        ("lr=0.2", "lr=0.2000001", "what the optimizer did"),
        ("torch.manual_seed(5)", "torch.manual_seed(6)", "the order of the examples"),
        ("Dropout(0.2)", "Dropout(0.3)", "of an example"),
        ("EPOCH, LATE = 24, 8", "EPOCH, LATE = 1, 8", "ended after 1 of 3 steps"),
    ],
)
def test_a_recipe_that_does_not_make_the_run_again_is_found_out_before_anything_is_written(
    tmp_path: Path, before: str, after: str, differs: str
) -> None:
    trained(tmp_path)
    assert before in RECIPE
    (tmp_path / "other.py").write_text(RECIPE.replace(before, after))
    origin, size = origin_of(tmp_path), verify_log(tmp_path / "run", KEYRING).entries
    model = (tmp_path / "run" / "model.pt").read_bytes()
    plan = plan_forgetting(origin, [], ["1-0"])
    with pytest.raises(IllegalTrainingSetupError, match=differs):
        forget(origin, plan, find_function(f"{tmp_path / 'other.py'}:train"), LOG, reason="no")
    assert verify_log(tmp_path / "run", KEYRING).entries == size
    assert (tmp_path / "run" / "model.pt").read_bytes() == model


def test_another_stack_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(tmp_path)
    origin = origin_of(tmp_path)
    plan = plan_forgetting(origin, [], ["1-0"])
    monkeypatch.setattr(torch, "__version__", "2.12.9")
    with pytest.raises(IllegalTrainingSetupError, match=r"here 2\.12\.9: bits are the same on the same stack only"):
        forget(origin, plan, recipe_in(tmp_path), LOG, reason="no")


def test_what_is_not_in_the_manifest_is_not_forgotten(tmp_path: Path) -> None:
    trained(tmp_path)
    origin = origin_of(tmp_path)
    with pytest.raises(TraceError, match="was signed with `nobody`"):
        plan_forgetting(origin, ["nobody"], [])
    with pytest.raises(TraceError, match="has no example `9-9`"):
        plan_forgetting(origin, [], ["9-9"])
    with pytest.raises(InputError, match="say what is to be forgotten"):
        plan_forgetting(origin, [], [])


def test_files_that_still_hold_what_was_learned_are_named(tmp_path: Path) -> None:
    trained(tmp_path)
    code = (tmp_path / "recipe.py").read_text().replace('(f"at-{gate.state.step}")', '(f"second-{gate.state.step}")')
    (tmp_path / "second.py").write_text(code)
    origin = origin_of(tmp_path)
    plan = plan_forgetting(origin, [], [LATE])
    found = forget(origin, plan, find_function(f"{tmp_path / 'second.py'}:train"), LOG, reason="it was a duplicate")
    assert found.left == ("at-11.ckpt", "at-14.ckpt")


def test_one_command_forgets_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path)
    run, recipe = str(tmp_path / "run"), f"{tmp_path / 'recipe.py'}:train"
    assert main(["forget", run, "--example", LATE, "--dry-run"]) == 0
    assert "checkpoint `at-10`, step 10: 14 steps of 24 again" in capsys.readouterr().out
    assert main(["forget", run, "--example", LATE]) == 2
    assert "give --train, --reason, --key" in capsys.readouterr().err
    words = ["--train", recipe, "--reason", "it was a duplicate", "--key", str(tmp_path / "log.key"), "--check"]
    assert main(["forget", run, "--example", LATE, *words]) == 0
    assert "trained from the beginning without them: the same, bit for bit" in capsys.readouterr().out
    assert main(["forget", run, "--example", LATE, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["is_needed"] is False
    with LineageReader(tmp_path / "run", KEYRING) as log:
        assert [one["reason"] for one in log.statuses if one.get("event") == "forgotten"] == ["it was a duplicate"]
