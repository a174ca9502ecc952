"""Compiled runs: their answers are those of the reverse pass, within what they say of themselves; damage is found."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.gating import tables
from support.tracing import KEYRING, Story, data_of, small_model, train
from torch import Tensor, nn
from torch.nn import functional

from aqpolicy.cli.main import main
from aqpolicy.errors import InputError, TraceError
from aqpolicy.trace import Run, open_run
from aqpolicy.trace.answering import ask
from aqpolicy.trace.attribution import score
from aqpolicy.trace.behaviour import Named, build_model, measure
from aqpolicy.trace.compiling import compile_index
from aqpolicy.trace.index import WHOLE, Facts, Index, rounded
from aqpolicy.trace.index_file import load_index, write_index
from aqpolicy.trace.ranking import spearman
from aqpolicy.trace.visits import load_ending, load_visits

OWNERS = {f"{1 + number % 2}-{number}": f"reader{number % 5}" for number in range(60)}
PLACE = str(Path(__file__))


def build() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 24), nn.Tanh(), nn.Linear(24, 3))


def loss_of(model: nn.Module, names: list[str]) -> Tensor:
    labels = torch.tensor([sum(map(ord, name)) % 3 for name in names])
    return functional.cross_entropy(model(data_of(names, 8)), labels, reduction="none")


def behaviour(model: nn.Module) -> Tensor:
    return loss_of(model, [f"held-{number}" for number in range(20)]).mean()


RUNS = {
    "factors": {"record": "factors", "optimizer": torch.optim.AdamW, "settings": {"lr": 0.01}},
    "sketch": {"record": "sketch", "settings": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}},
}


@pytest.fixture(scope="module", params=RUNS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    story = Story(
        OWNERS, tables([[1.0, 1.0], [0.5, 0.0]]), (("0.",), ("2.",)), epochs=4, batch=12, **RUNS[request.param]
    )
    return open_run(train(tmp_path_factory.mktemp(request.param), story, build(), loss_of), KEYRING)


def measured(run: Run) -> tuple[tuple[Tensor, ...], Tensor, list[str]]:
    visits = load_visits(run)
    ending = load_ending(visits)
    named = Named("loss", behaviour, None)
    gradient = measure(visits, build_model(Named("build", build, None), ending.state), named).gradient
    scores = score(visits, gradient, ending, level=3, damp=2.0).chosen
    names = list(dict.fromkeys(run.name_of(row) for _, row in run.rows))
    each = torch.zeros(len(names), dtype=torch.float64).index_add_(0, visits.example, scores.sum(1))
    return gradient, each, names


def test_a_basis_of_the_whole_space_answers_as_the_reverse_pass(run: Run) -> None:
    gradient, exact, names = measured(run)
    index = compile_index(run, size=10_000)
    found = ask(index, "loss", 0.0, gradient, top=len(names))
    assert found.held == pytest.approx(1.0)
    assert found.size == len(names)
    scores = {name: value for name, _, value in found.examples}
    off = torch.tensor([scores[name] for name in names], dtype=torch.float64) - exact
    assert off.abs().max() < 6 * found.rounding + 1e-6 * exact.abs().max()
    by_owner = dict.fromkeys(OWNERS.values(), 0.0)
    for name, value in zip(names, exact.tolist(), strict=True):
        by_owner[OWNERS[name]] += value
    assert {name: value for name, value, _ in found.annotators} == pytest.approx(by_owner, rel=1e-4, abs=1e-9)
    assert sum(value for _, value in found.groups) == pytest.approx(exact.sum().item(), rel=1e-4)
    assert sum(visits for _, _, visits in found.annotators) == sum(1 for _ in run.rows)


def test_a_small_basis_says_what_it_holds_and_ranks_alike(run: Run) -> None:
    gradient, exact, names = measured(run)
    index = compile_index(run, size=48)
    assert index.levels.shape == (60, WHOLE)
    kept = index.basis[index.basis.any(1)]
    assert len(kept) > 48
    torch.testing.assert_close(kept @ kept.T, torch.eye(len(kept)), rtol=0, atol=1e-5)
    found = ask(index, "loss", 0.0, gradient, top=60)
    assert 0.8 < found.held <= 1.0
    assert 0.9 < index.facts.captured <= 1.0
    scores = {name: value for name, _, value in found.examples}
    assert spearman([scores[name] for name in names], exact.tolist()) > 0.9


def test_more_gradients_at_once_or_fewer_make_the_same_index(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = compile_index(run, size=10)
    monkeypatch.setattr("aqpolicy.trace.compiling.ROOM", 1)
    told: list[tuple[int, int]] = []
    pieces = compile_index(run, size=10, progress=lambda done, count: told.append((done, count)))
    assert told == [(at + 1, len(told)) for at in range(len(told))]
    assert len(told) == int(pieces.basis.any(1).sum())
    assert pieces.levels.shape == whole.levels.shape


def test_a_written_index_is_read_as_it_was(run: Run, tmp_path: Path) -> None:
    index = compile_index(run, size=16)
    write_index(tmp_path / "i", index)
    read = load_index(tmp_path / "i")
    assert read.facts == index.facts
    for name in ("basis", "levels", "scales", "owners", "sums", "visits"):
        assert torch.equal(getattr(read, name), getattr(index, name)), name


def test_damage_is_found_wherever_it_is(run: Run, tmp_path: Path) -> None:
    path, chance = tmp_path / "i", random.Random(0)
    write_index(path, compile_index(run, size=16))
    data = path.read_bytes()
    places = [*range(40), *(chance.randrange(len(data)) for _ in range(200))]
    quiet = 0
    for place in places:
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :])
        try:
            load_index(path)
        except (TraceError, InputError):
            continue
        quiet += 1  # between two parts
    assert quiet < 20
    for length in (0, 10, 40, 500, len(data) // 2, len(data) - 200):
        path.write_bytes(data[:length])
        with pytest.raises((TraceError, InputError)):
            load_index(path)


def test_parts_that_do_not_fit_each_other_are_refused(run: Run, tmp_path: Path) -> None:
    index, path = compile_index(run, size=16), tmp_path / "i"
    wrong: list[Index] = [
        replace(index, owners=index.owners + 100),
        replace(index, owners=index.owners - 100),
        replace(index, scales=index.scales[:-1]),
        replace(index, sums=index.sums[:, :1]),
        replace(index, basis=index.basis[:, :-1]),
        replace(index, facts=replace(index.facts, examples=index.facts.examples[:-1])),
    ]
    for one in wrong:
        write_index(path, one)
        with pytest.raises(TraceError):
            load_index(path)


def test_rounding_keeps_rows_to_half_a_level() -> None:
    rows = torch.randn(50, 16) * torch.logspace(-20, 20, 50).unsqueeze(1)
    rows[7] = 0.0
    levels, scales = rounded(rows)
    assert ((levels * scales.unsqueeze(1) - rows).abs() <= 0.501 * scales.unsqueeze(1)).all()
    assert not levels[7].any()


@pytest.mark.parametrize("count", [0, 1, 10, 999, 5000])
def test_the_strongest_are_those_of_the_slow_way(count: int) -> None:
    chance = torch.Generator().manual_seed(count)
    index = random_index(3000, 64, chance)
    for number in range(20):
        known = torch.randn(64, generator=chance).double() * 10.0 ** (number - 10)
        scores = index.scores(known)
        found, values = index.strongest(known, count)
        wanted = scores.abs().topk(min(count, 3000))
        assert sorted(map(abs, values), reverse=True) == pytest.approx(wanted.values.tolist(), rel=1e-4)
        assert [scores[at].item() for at in found] == pytest.approx(values, rel=1e-4, abs=1e-4 * scores.std().item())
    assert index.strongest(torch.zeros(64, dtype=torch.float64), count)[1] == [0.0] * min(count, 3000)


def test_without_the_fast_product_the_strongest_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = torch.Generator().manual_seed(1)
    index, known = random_index(3000, 64, chance), torch.randn(64, generator=chance).double()
    fast = index.strongest(known, 50)
    assert index._roughly(known.float()) is not None
    monkeypatch.delattr(torch, "_weight_int8pack_mm")
    assert index._roughly(known.float()) is None
    slow = index.strongest(known, 50)
    assert fast[0] == slow[0]
    assert fast[1] == pytest.approx(slow[1], rel=1e-4)


def random_index(examples: int, size: int, chance: torch.Generator) -> Index:
    levels = torch.randint(-127, 128, (examples, size), generator=chance, dtype=torch.int8)
    facts = Facts("r", "p", "", 2.0, ("a",), (), (((size,),),), None, ("c",), tuple(map(str, range(examples))), 1.0)
    return Index(
        facts,
        torch.eye(size),
        levels,
        torch.rand(examples, generator=chance),
        torch.zeros(examples, dtype=torch.int32),
        torch.zeros(1, 1, size, dtype=torch.float64),
        torch.tensor([examples]),
    )


def test_from_the_command_line(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, path = str(run.folder), str(tmp_path / "run.index")
    assert main(["index", folder, "--output", path, "--size", "64"]) == 0
    assert "60 examples" in capsys.readouterr().out
    asked = ["trace", folder, "--index", path, "--model", f"{PLACE}:build", "--behaviour", f"{PLACE}:behaviour"]
    assert main([*asked, "--json", str(tmp_path / "answer.json")]) == 0
    out = capsys.readouterr().out
    assert "lies in the index" in out
    assert "no log was verified" in out
    found = json.loads((tmp_path / "answer.json").read_text())
    assert len(found["annotators"]) == 5
    assert main([*asked, "--html", str(tmp_path / "no.html")]) == 2
    other = tmp_path / "other"
    other.mkdir()
    torch.save(small_model().state_dict(), other / "model.pt")
    assert main(["trace", str(other), *asked[2:]]) == 2
    assert "another model" in capsys.readouterr().err
