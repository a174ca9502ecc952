"""What a recipe is called with, what it must do, and what is left where it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.rerunning import PLAIN, inputs, recipe_in, trained
from support.tracing import KEYRING
from torch import nn

from aqpolicy.errors import AqpolicyError, IllegalTrainingSetupError, InputError
from aqpolicy.gate import Gate
from aqpolicy.rerun import Rerun, first, train_again
from aqpolicy.rerun.digest import training_digest
from aqpolicy.rerun.indirect import baseline
from aqpolicy.rerun.origin import Origin
from aqpolicy.rerun.rehearsal import rehearse
from aqpolicy.trace import open_run
from aqpolicy.trace.behaviour import Named


def model_of() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 2))


def attached(rerun: Rerun, **own: Any) -> tuple[nn.Module, Gate]:
    model = model_of()
    return model, rerun.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), **own)


def forgetful(rerun: Rerun) -> nn.Module:
    return attached(rerun)[0]


def empty(rerun: Rerun) -> int:
    attached(rerun)[1].close()
    return 3


def twice(rerun: Rerun) -> nn.Module:
    attached(rerun)
    return attached(rerun)[0]


def meddling(rerun: Rerun) -> nn.Module:
    return attached(rerun, record="norms", lineage="elsewhere")[0]


def failing(rerun: Rerun) -> nn.Module:
    attached(rerun)
    raise KeyError("data")


def refusing(rerun: Rerun) -> nn.Module:
    attached(rerun, clip=-1.0)
    raise AssertionError


@pytest.mark.parametrize(
    ("recipe", "error", "message"),
    [
        (lambda rerun: model_of(), InputError, "attached no gate"),
        (forgetful, InputError, "left its gate open"),
        (empty, InputError, "returned a int, not the trained module"),
        (twice, IllegalTrainingSetupError, "attaches one gate, once"),
        (meddling, InputError, "leave lineage, record out of rerun.attach"),
        (failing, InputError, "failed: KeyError: 'data'"),
        (refusing, InputError, "clip is -1.0"),
    ],
)
def test_what_is_no_recipe_is_refused_and_leaves_no_writer_behind(
    tmp_path: Path, recipe: Any, error: type[AqpolicyError], message: str
) -> None:
    given = inputs(tmp_path, PLAIN)
    named = Named("recipe", recipe, None)
    with pytest.raises(error, match=message):
        first(named, **given)
    # Had the writer been left, the log would still be in use.
    if (tmp_path / "run" / "head.note").exists():
        first(recipe_in(tmp_path), **given, resume="beginning")
    else:
        first(recipe_in(tmp_path), **given)


def test_contents_are_those_of_the_example_unless_they_are_exchanged() -> None:
    plain, other = Rerun(lambda *_: None), Rerun(lambda *_: None, {"a": "b"})  # type: ignore[arg-type, return-value]
    assert (plain.content("a"), other.content("a"), other.content("b")) == ("a", "b", "b")


@pytest.mark.parametrize("kind", ["sgd", "nesterov", "adamw", "parts", "odd"])
@pytest.mark.parametrize("record", ["decisions", "norms", "sketch", "factors"])
def test_a_run_is_trained_again_bit_for_bit_without_its_log(tmp_path: Path, kind: str, record: str) -> None:
    once = trained(tmp_path, kind, record=record, refused=["1-3"])
    origin = Origin(open_run(tmp_path / "run", KEYRING), KEYRING)
    assert origin.refused == {"1-3"}
    assert baseline(origin, recipe_in(tmp_path, kind)).digest == once.digest
    for name, steps in (("beginning", 24), ("at-10", 14), ("at-14", 4)):
        assert rehearse(origin, recipe_in(tmp_path, kind), name, steps) == steps


def test_a_run_of_several_processes_and_another_stack_are_refused(tmp_path: Path) -> None:
    trained(tmp_path)
    run = open_run(tmp_path / "run", KEYRING)
    several = Origin(replace(run, genesis={**run.genesis, "ranks": 2}), KEYRING)
    with pytest.raises(IllegalTrainingSetupError, match="trained by 2 processes"):
        several.refuse_several()
    threads = torch.get_num_threads()
    other = Origin(replace(run, genesis={**run.genesis, "threads": threads + 1, "torch": "1.0"}), KEYRING)
    assert other.differences() == (f"torch 1.0, here {torch.__version__}", f"threads {threads + 1}, here {threads}")
    with pytest.raises(IllegalTrainingSetupError, match="the same stack only"):
        other.refuse_other_stack()
    Origin(run, KEYRING).refuse_other_stack()


def test_a_checkpoint_of_an_unrecorded_training_goes_nowhere(tmp_path: Path) -> None:
    trained(tmp_path)
    origin = Origin(open_run(tmp_path / "run", KEYRING), KEYRING)
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    train_again(recipe_in(tmp_path), origin.unrecorded(refused=()))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before


def test_the_digest_sees_every_bit_of_model_and_optimizer_and_nothing_else() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    found = training_digest(model, optimizer)
    assert training_digest(model, optimizer) == found
    state = optimizer.state_dict()
    turned = {**state, "state": dict(reversed(state["state"].items()))}
    optimizer.load_state_dict(turned)
    assert training_digest(model, optimizer) == found
    seen = {found}
    for value in (model.weight.data, model.bias.data, optimizer.state[model.weight]["exp_avg"]):
        value.view(torch.int32)[-1:].add_(1)
        seen.add(training_digest(model, optimizer))
    optimizer.param_groups[0]["lr"] = 0.2
    seen.add(training_digest(model, optimizer))
    assert len(seen) == 5
