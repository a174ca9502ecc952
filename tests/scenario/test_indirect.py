"""Contents are exchanged: closed groups move through other examples, and not at all where everybody is denied."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.gating import tables
from support.rerunning import PLAIN, RECIPE, inputs, recipe_in, trained
from support.tracing import KEYRING

from aqpolicy.cli.main import main
from aqpolicy.errors import IllegalTrainingSetupError, TraceError
from aqpolicy.rerun import first
from aqpolicy.rerun.closure import closed_to
from aqpolicy.rerun.indirect import exchanged, measure_indirect
from aqpolicy.rerun.origin import Origin
from aqpolicy.trace import audit_run, open_run
from aqpolicy.trace.behaviour import find_function


def origin_of(folder: Path) -> Origin:
    return Origin(open_run(folder / "run", KEYRING), KEYRING)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_a_group_that_is_closed_to_examples_moves_because_of_them_and_by_nothing_where_they_are_denied(
    tmp_path: Path, kind: str
) -> None:
    trained(tmp_path, kind, PLAIN)
    found = measure_indirect(origin_of(tmp_path), recipe_in(tmp_path, kind))
    (group,) = found.groups
    assert (group.group, group.examples, group.opened) == ("g0", 6, 0)
    assert found.everywhere == ("g1",)
    assert 0 < group.part < 1
    assert group.part == pytest.approx(group.moved / group.displacement)
    assert group.control == 0.0
    assert found.control_holds
    assert json.loads((tmp_path / "run" / "indirect.json").read_text()) == json.loads(json.dumps(found.to_json()))
    audit_run(tmp_path / "run", KEYRING)


def test_where_nobody_else_learns_a_closed_group_does_not_move(tmp_path: Path) -> None:
    """The measured part comes through other examples: without any in the closed group, there is none."""
    trained(tmp_path, table=tables([[0, 1], [0, 1], [0, 0.5]]))
    found = measure_indirect(origin_of(tmp_path), recipe_in(tmp_path))
    assert [(one.group, one.moved, one.part, one.displacement) for one in found.groups] == [("g0", 0.0, 0.0, 0.0)]


def test_every_closed_group_is_measured_with_the_examples_that_it_is_closed_to(tmp_path: Path) -> None:
    trained(tmp_path, table=tables([[1, 0], [0, 1], [1, 1]]))
    origin = origin_of(tmp_path)
    closed = closed_to(origin.run)
    assert {name[0] for name in closed["g0"]} == {"2"}
    assert {name[0] for name in closed["g1"]} == {"1"}
    found = measure_indirect(origin, recipe_in(tmp_path), seed=3)
    assert [(one.group, one.examples) for one in found.groups] == [("g0", 6), ("g1", 6)]
    assert all(one.part > 0 == one.control for one in found.groups)
    assert found.trainings == 7


def test_an_exchange_gives_everybody_the_content_of_another() -> None:
    names = [str(number) for number in range(9)]
    contents = exchanged(names, 4)
    assert set(contents) == set(contents.values()) == set(names)
    assert all(name != other for name, other in contents.items())
    assert contents == exchanged(names, 4) != exchanged(names, 5)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("rerun.content(name)", "name", "let the recipe read rerun.content"),
        ("lr=0.2", "lr=0.2001", "does not make the run's model again"),
    ],
)
def test_a_recipe_that_measures_nothing_is_refused(tmp_path: Path, before: str, after: str, message: str) -> None:
    trained(tmp_path, table=PLAIN)
    (tmp_path / "other.py").write_text(RECIPE.replace(before, after))
    with pytest.raises(IllegalTrainingSetupError, match=message):
        measure_indirect(origin_of(tmp_path), find_function(f"{tmp_path / 'other.py'}:train"))


def test_a_recipe_that_learns_past_the_gate_breaks_the_control(tmp_path: Path) -> None:
    """What it makes of contents before the gate, no gate can close; the control shows it."""
    learned = "    with torch.no_grad():\n        model[0].bias += 0.01 * content_of(rerun.content('2-1'))[0][0]\n"
    past = RECIPE.replace("    gate = rerun.attach", f"{learned}    gate = rerun.attach")
    assert past != RECIPE
    (tmp_path / "past.py").write_text(past)
    recipe = find_function(f"{tmp_path / 'past.py'}:train")
    first(recipe, **inputs(tmp_path, PLAIN))
    found = measure_indirect(origin_of(tmp_path), recipe)
    assert not found.control_holds
    assert found.groups[0].control > 0


def test_where_nothing_is_closed_there_is_nothing_to_measure(tmp_path: Path) -> None:
    trained(tmp_path, table=tables([[1, 1], [1, 1], [0, 0]]))
    with pytest.raises(TraceError, match="there is nothing to exchange"):
        measure_indirect(origin_of(tmp_path), recipe_in(tmp_path))


def test_one_command_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path, table=PLAIN)
    words = ["indirect", str(tmp_path / "run"), "--train", f"{tmp_path / 'recipe.py'}:train"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "the direct path is closed, exactly" in said
    assert "closed to nobody who wrote elsewhere: g1" in said
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["control_holds"] is True
