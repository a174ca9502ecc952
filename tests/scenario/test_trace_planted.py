"""A reader who labels wrongly, trained through the real gate: the trace of the validation loss finds that reader."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from support.gating import tables
from support.tracing import KEYRING, Story, train
from torch import Tensor, nn
from torch.nn import functional

from aqpolicy.errors import InputError, TraceError
from aqpolicy.trace import Run, audit_run, footprint, open_run
from aqpolicy.trace.behaviour import Named
from aqpolicy.trace.query import trace_behaviour
from aqpolicy.trace.result import Trace
from aqpolicy.trace.text import trace_lines

READERS, PER_READER, PLANTED = 8, 20, "reader5"
OWNERS = {f"1-{number}": f"reader{number % READERS}" for number in range(READERS * PER_READER)}
CENTRES = torch.randn(3, 6, generator=torch.Generator().manual_seed(5)) * 1.5


def example(name: str) -> tuple[Tensor, int]:
    number = int(name.partition("-")[2])
    generator = torch.Generator().manual_seed(1000 + number)
    label = int(torch.randint(3, (), generator=generator))
    seen = CENTRES[label] + torch.randn(6, generator=generator)
    return seen, (label + 1) % 3 if OWNERS.get(name) == PLANTED else label


def model_of(seed: int = 3) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))


def loss_of(model: nn.Module, names: Sequence[str]) -> Tensor:
    inputs, labels = zip(*map(example, names), strict=True)
    return functional.cross_entropy(model(torch.stack(inputs)), torch.tensor(labels), reduction="none")


def validation_loss(model: nn.Module) -> Tensor:
    return loss_of(model, [f"1-{number}" for number in range(5000, 5200)]).mean()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    story = Story(
        OWNERS,
        tables([[1.0, 1.0]]),
        groups=(("0.",), ("2.",)),
        epochs=6,
        batch=16,
        settings={"lr": 0.1, "momentum": 0.9},
        witnesses={name: ["panel"] for name in list(OWNERS)[:8]},
    )
    folder = train(tmp_path_factory.mktemp("planted"), story, model_of(), loss_of)
    audit_run(folder, KEYRING)
    return open_run(folder, KEYRING)


@pytest.fixture(scope="module")
def found(run: Run) -> Trace:
    return trace_behaviour(run, Named("model_of", model_of, None), Named("loss", validation_loss, None))


def test_the_planted_reader_raises_the_loss_the_most_and_is_no_chance(found: Trace) -> None:
    ranked = sorted(found.annotators, key=lambda entry: -entry.score)
    assert ranked[0].name == PLANTED
    assert ranked[0].distinguishable
    assert [entry.name for entry in ranked if entry.score > 0 and entry.distinguishable] == [PLANTED]


def test_the_examples_that_raise_the_loss_the_most_are_the_planted_ones(run: Run) -> None:
    found = trace_behaviour(
        run, Named("model_of", model_of, None), Named("loss", validation_loss, None), top=len(OWNERS)
    )
    ranked = sorted(found.examples, key=lambda entry: -entry.score)[:PER_READER]
    assert sum(OWNERS[entry.name] == PLANTED for entry in ranked) >= 12


def test_all_roll_ups_have_one_total(found: Trace) -> None:
    ways = [found.annotators, found.epochs, found.consensus, found.rules, *found.classes.values()]
    for entries in ways:
        assert sum(entry.score for entry in entries) == pytest.approx(found.total, abs=1e-9)
    assert sum(region.score for region in found.regions) == pytest.approx(found.total, abs=1e-9)
    assert {entry.name: entry.visits for entry in found.consensus} == {"panel": 48, "(none)": 912}


def test_the_books_close_on_weights_and_behaviour(found: Trace) -> None:
    assert all(part.closes and part.residual < 0.01 for part in found.statement.closure)
    statement = found.statement
    assert abs(statement.behaviour_booked - statement.behaviour_travelled) < 4 * statement.rounding_error
    assert statement.rounding_error < 0.05 * abs(statement.behaviour_travelled)
    assert statement.sketch_error == 0.0


def test_the_chain_ends_in_signed_observations(run: Run, found: Trace) -> None:
    assert [hop.kind for hop in found.chain] == ["group", "group"]
    for group in found.chain:
        for update in group.children:
            for leaf in update.children:
                signed = found.observation(leaf.example)
                assert signed is not None
                assert signed.credential == OWNERS[leaf.example]
                assert bytes.fromhex(signed.leaf) == run.manifest.leaf(signed.leaf_index)
                assert signed.rules == ("r0",)


def test_the_text_says_what_is_not_distinguishable_and_how_far_to_believe_it(found: Trace) -> None:
    text = "\n".join(trace_lines(found))
    assert "not distinguishable" in text
    assert "not a retraining" in text
    assert "closure" in text
    assert "manifest leaf" in text


def test_the_contribution_alone_can_be_asked_for(run: Run, found: Trace) -> None:
    plain = trace_behaviour(run, Named("model_of", model_of, None), Named("loss", validation_loss, None), level=0)
    assert plain.total == pytest.approx(sum(entry.contribution for entry in found.annotators))
    assert plain.annotators[0].estimate is None


def test_estimates_are_of_the_size_that_training_again_without_a_reader_shows(run: Run) -> None:
    """Leave out each reader in turn; compare the change of validation losses with both levels of answer."""
    readers = sorted(set(OWNERS.values()))
    models = {name: replayed(name) for name in ["nobody", *readers]}
    singles = [lambda model, at=at: loss_of(model, [f"1-{at}"]).mean() for at in range(5000, 5010)]
    actual, contribution, estimate = [], [], []
    for behaviour in (validation_loss, *singles):
        found = trace_behaviour(run, Named("model_of", model_of, None), Named("loss", behaviour, None))
        by_reader = {entry.name: entry for entry in found.annotators}
        with torch.no_grad():
            value = behaviour(models["nobody"]).item()
            actual.append([value - behaviour(models[name]).item() for name in readers])
        contribution.append([by_reader[name].contribution for name in readers])
        estimate.append([by_reader[name].score for name in readers])
    truth, plain, careful = (torch.tensor(table, dtype=torch.float64) for table in (actual, contribution, estimate))
    assert 0.4 < slope(careful, truth) < 1.3
    assert slope(plain, truth) < 0.15
    assert spearman(careful, truth) > 0.6


def slope(said: Tensor, truth: Tensor) -> float:
    return ((said * truth).sum() / said.square().sum()).item()


def spearman(said: Tensor, truth: Tensor) -> float:
    """Return the mean over behaviours of the rank correlation over readers."""
    ranks = [table.argsort(1).argsort(1).double() for table in (said, truth)]
    pairs = zip(*ranks, strict=True)
    return sum(torch.corrcoef(torch.stack(pair))[0, 1].item() for pair in pairs) / len(said)


def replayed(without: str) -> nn.Module:
    model = model_of()
    replay(model, without)
    return model


def replay(model: nn.Module, without: str) -> None:
    """Train again, in the same order, as if a reader's examples had been denied."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    names = list(OWNERS)
    for _ in range(6):
        for start in range(0, len(names), 16):
            batch = names[start : start + 16]
            kept = [name for name in batch if OWNERS[name] != without]
            optimizer.zero_grad()
            (loss_of(model, kept).sum() / len(batch)).backward()
            optimizer.step()


def test_the_footprints_of_the_readers_are_alike_where_their_influence_is_not(run: Run) -> None:
    planted, other = (footprint(run, credential=name) for name in (PLANTED, "reader1"))
    assert len(planted.visits) == len(other.visits) == 6 * PER_READER
    assert planted.groups[1].mass > 1.5 * other.groups[1].mass


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (lambda model: 3.0, "must return one finite number"),
        (lambda model: model(torch.zeros(1, 6)), "must return one finite number"),
        (lambda model: torch.zeros(()), "must return one finite number"),
        (lambda model: model(torch.zeros(1, 6)).sum() * float("nan"), "must return one finite number"),
        (lambda model: model.nothing, "failed: AttributeError"),
    ],
)
def test_what_is_no_behaviour_is_refused(run: Run, behaviour, message: str) -> None:
    with pytest.raises(InputError, match=message):
        trace_behaviour(run, Named("model_of", model_of, None), Named("b", behaviour, None))


def test_another_model_is_refused(run: Run) -> None:
    other = Named("other", lambda: nn.Linear(6, 3), None)
    with pytest.raises(TraceError, match="do not fit the model of `other`"):
        trace_behaviour(run, other, Named("loss", validation_loss, None))
    with pytest.raises(InputError, match="not a torch module"):
        trace_behaviour(run, Named("none", lambda: 3, None), Named("loss", validation_loss, None))


def test_a_run_without_sketches_or_with_another_optimizer_says_so(tmp_path: Path) -> None:
    owners = {"1-0": "a", "1-1": "b"}
    asked = (Named("m", model_of, None), Named("b", validation_loss, None))
    norms = open_run(train(tmp_path / "a", Story(owners, record="norms")), KEYRING)
    with pytest.raises(TraceError, match="recorded no sketches"):
        trace_behaviour(norms, *asked)
    adam = Story(owners, optimizer=torch.optim.Adam, settings={"lr": 0.01})
    with pytest.raises(TraceError, match="`Adam`"):
        trace_behaviour(open_run(train(tmp_path / "b", adam), KEYRING), *asked)
