"""A run's traces are held to trainings without the examples; the card says how far to believe them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.gating import tables
from support.rerunning import PLAIN, inputs, recipe_in, trained
from support.tracing import KEYRING, LOG, Story, write_bundle, write_manifest

from aqpolicy.cli.main import main
from aqpolicy.errors import IllegalTrainingSetupError, InputError
from aqpolicy.rerun import first
from aqpolicy.rerun.applying import FILE, Calibrated, calibrated
from aqpolicy.rerun.calibration import calibrate, value_of, without
from aqpolicy.rerun.origin import Origin
from aqpolicy.trace import audit_run, open_run
from aqpolicy.trace.behaviour import find_function

PLANTED = """
import torch
from torch.nn import functional

READERS, PER_READER = 8, 20
NAMES = [f"1-{number}" for number in range(READERS * PER_READER)]
CENTRES = torch.randn(3, 6, generator=torch.Generator().manual_seed(5)) * 1.5


def example(name):
    number = int(name.partition("-")[2])
    generator = torch.Generator().manual_seed(1000 + number)
    label = int(torch.randint(3, (), generator=generator))
    seen = CENTRES[label] + torch.randn(6, generator=generator)
    return seen, (label + 1) % 3 if number < len(NAMES) and number % READERS == 5 else label


def build():
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(6, 12), torch.nn.Tanh(), torch.nn.Linear(12, 3))


def losses(model, names):
    inputs, labels = zip(*map(example, names))
    return functional.cross_entropy(model(torch.stack(inputs)), torch.tensor(labels), reduction="none")


def train(rerun):
    model = build()
    gate = rerun.attach(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    while gate.state.step < 60:
        step = gate.state.step
        if step and step % 10 == 0 and gate.state.epoch < step // 10:
            gate.start_epoch()
        batch = NAMES[16 * (step % 10) :][:16]
        with gate.step(batch):
            gate.backward(losses(model, batch))
    gate.close()
    return model


def loss(model, which="all"):
    chosen = range(5000, 5200) if which == "all" else [int(which)]
    return losses(model, [f"1-{number}" for number in chosen]).mean()
"""


def origin_of(folder: Path) -> Origin:
    return Origin(open_run(folder / "run", KEYRING), KEYRING)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train 160 examples of 8 readers, one of whom is wrong in all labels."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "recipe.py").write_text(PLANTED)
    story = Story({f"1-{n}": f"reader{n % 8}" for n in range(160)}, tables([[1.0, 1.0]]), groups=(("0.",), ("2.",)))
    write_manifest(folder / "in.aqm", story)
    write_bundle(folder / "in.aqb", story, find_function(f"{folder / 'recipe.py'}:build").call())
    first(
        find_function(f"{folder / 'recipe.py'}:train"),
        bundle=folder / "in.aqb",
        manifest=folder / "in.aqm",
        keyring=KEYRING,
        lineage=folder / "run",
        log_key=LOG,
        record="sketch",
    )
    return folder


def test_a_trace_is_shown_by_training_without_a_reader_and_without_an_example(
    planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = planted / "recipe.py", tmp_path / "answer.json"
    asked = ["trace", str(planted / "run"), "--behaviour", f"{code}:loss", "--train", f"{code}:train"]
    assert main([*asked, "--replay", "reader5", "--replay", "1-0", "--json", str(answer)]) == 0
    out = capsys.readouterr().out
    assert "without   reader5 (20 examples)" in out
    assert "the trace's estimate was" in out
    found = json.loads(answer.read_text())
    reader, single = found["without"]
    # The reader whose labels are wrong raised the loss: without him it falls, as the estimate says.
    assert reader["value"] < found["value"]
    assert reader["estimate"] > 0
    assert (reader["examples"], single["examples"]) == (20, 1)
    named = [f"1-{number}" for number in range(5, 160, 8)]
    trained = without(origin_of(planted), find_function(f"{code}:train"), named)
    assert trained is not None
    assert reader["value"] == value_of(trained.model, find_function(f"{code}:loss"))
    assert main([*asked, "--replay", "nobody"]) == 2
    assert "neither a credential" in capsys.readouterr().err
    assert main([*asked[:4], "--replay", "reader5"]) == 2


def test_the_card_of_a_run_with_a_planted_reader_says_that_the_trace_can_be_believed(planted: Path) -> None:
    code = planted / "recipe.py"
    behaviours = [find_function(f"{code}:loss{which}") for which in ("", *(f":{at}" for at in range(5000, 5006)))]
    told: list[tuple[int, int]] = []
    found = calibrate(
        origin_of(planted), find_function(f"{code}:train"), behaviours, 10, progress=lambda *done: told.append(done)
    )
    annotators, groups = found.cards["annotator"], found.cards["random"]
    assert (annotators.groups, groups.groups, annotators.behaviours) == (8, 10, 7)
    assert 0.4 < annotators.slope < 1.3
    assert annotators.spearman is not None
    assert annotators.spearman > 0.6
    assert groups.spearman is not None
    assert groups.spearman > 0.3
    assert 0.7 <= groups.coverage <= 1.0
    worst = max((one for one in found.groups if one.kind == "annotator"), key=lambda one: one.truths[0])
    assert worst.name == "reader5"
    assert told == [(number + 1, 18) for number in range(18)]
    facts = json.loads((planted / "run" / "calibration.json").read_text())
    assert facts == json.loads(json.dumps(found.to_json()))
    assert facts["model"] == origin_of(planted).run.published["model"]
    audit_run(planted / "run", KEYRING)


def test_leaving_out_is_what_training_without_them_from_the_beginning_is(tmp_path: Path) -> None:
    trained(tmp_path, table=PLAIN)
    origin, recipe = origin_of(tmp_path), recipe_in(tmp_path)
    for names in (["2-16"], ["1-0", "2-1"]):
        found = without(origin, recipe, names)
        assert found is not None
        assert found.digest == trained(tmp_path / names[0], table=PLAIN, refused=names).digest
    assert without(origin, recipe, ["3-2"]) is None  # it was never let in


def test_a_behaviour_of_nothing_and_too_few_groups_are_refused(tmp_path: Path) -> None:
    model = trained(tmp_path, table=PLAIN).model
    code = tmp_path / "recipe.py"
    margin, train = find_function(f"{code}:margin"), find_function(f"{code}:train")
    with pytest.raises(InputError, match="failed: ValueError"):
        value_of(model, find_function(f"{code}:margin:none"))
    for count, part in ((2, 0.2), (5, 0.0), (5, 1.0)):
        with pytest.raises(InputError, match="a calibration needs"):
            calibrate(origin_of(tmp_path), train, [margin], count, part=part)
    with pytest.raises(InputError, match="is no group"):
        calibrate(origin_of(tmp_path), train, [margin], 5, part=0.01)


def test_a_recipe_of_another_run_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, table=PLAIN)
    margin = find_function(f"{tmp_path / 'recipe.py'}:margin")
    with pytest.raises(IllegalTrainingSetupError, match="does not make the run's model again"):
        calibrate(origin_of(tmp_path), recipe_in(tmp_path, "nesterov"), [margin], 5)


def test_one_command_calibrates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first(recipe_in(tmp_path), **inputs(tmp_path, PLAIN))
    code = tmp_path / "recipe.py"
    words = ["calibrate", str(tmp_path / "run"), "--train", f"{code}:train", "-k", "4", "--part", "0.2"]
    words += ["--behaviour", f"{code}:margin:0", "--behaviour", f"{code}:margin:1"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "random groups of 2" in said
    assert "one annotator left out" in said
    asked = ["trace", str(tmp_path / "run"), "--model", f"{code}:build", "--behaviour", f"{code}:margin:0"]
    assert main(asked) == 0
    assert "calibrated by 4 trainings without one annotator" in capsys.readouterr().out
    assert main([*asked, "--damp", "1"]) == 0
    assert "estimates with --damp 2.0, and not used" in capsys.readouterr().out
    assert main([*words, "--json", "--no-annotators"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert set(facts["cards"]) == {"random"}
    assert len(facts["groups"]) == 4


def test_an_interval_is_slope_and_band_of_the_card(tmp_path: Path) -> None:
    card = {"groups": 5, "slope": 0.5, "band": 2.0, "coverage": 0.8, "level": 0.9}
    write_card(tmp_path, {"annotator": card})
    found = calibrated(traced({"a": 4.0, "b": -2.0}), tmp_path)
    assert isinstance(found, Calibrated)
    scale = ((2.0**2 + 1.0**2) / 2) ** 0.5
    assert [one.name for one in found.annotators] == ["a", "b"]
    assert found.annotators[0].low == pytest.approx(2.0 - 2 * scale)
    assert found.annotators[1].high == pytest.approx(-1.0 + 2 * scale)
    assert "is of another run or model, and not used" in str(calibrated(traced({}, model="another"), tmp_path))
    write_card(tmp_path, {})
    assert "no card of annotators" in str(calibrated(traced({}), tmp_path))
    (tmp_path / FILE).unlink()
    assert calibrated(traced({}), tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"format": "aqpolicy calibration 2"}', "\xff"])
def test_what_is_no_card_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="no calibration card"):
        calibrated(traced({}), tmp_path)


@pytest.mark.parametrize("wrong", [[], {}, {"slope": "1"}, {"slope": float("nan")}, {"groups": 10**400}])
def test_a_card_of_no_numbers_is_refused(tmp_path: Path, wrong: object) -> None:
    whole = {"groups": 5, "slope": 0.5, "band": 2.0, "coverage": 0.8, "level": 0.9}
    write_card(tmp_path, {"annotator": {**whole, **wrong} if isinstance(wrong, dict) and wrong else wrong})
    with pytest.raises(InputError, match="no calibration card"):
        calibrated(traced({}), tmp_path)


def write_card(folder: Path, cards: object) -> None:
    facts = {"format": "aqpolicy calibration 1", "run": "r", "model": "m", "damp": 2.0, "cards": cards}
    (folder / FILE).write_text(json.dumps(facts), encoding="utf-8")


def traced(annotators: dict[str, float], model: str = "m") -> Any:
    entries = [SimpleNamespace(name=name, score=score) for name, score in annotators.items()]
    return SimpleNamespace(run="r", model=model, level=3, damp=2.0, annotators=entries)
