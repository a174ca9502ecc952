"""Runs that recorded factors: books close for every optimizer, and traces are what the run's own math says."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.gating import budget, tables
from support.tracing import KEYRING, Story, train, write_bundle
from torch import Tensor, nn
from torch.nn import functional

from aqpolicy.bundle import load_bundle
from aqpolicy.cli.main import main
from aqpolicy.errors import IllegalTrainingSetupError, TraceError
from aqpolicy.gate.motion.rules import Sgd
from aqpolicy.gate.records.start import read_start
from aqpolicy.lineage import Row
from aqpolicy.rerun.foreseeing import foresee
from aqpolicy.trace import Run, audit_run, open_run
from aqpolicy.trace.attribution import Grounds, score, score_all, sweep
from aqpolicy.trace.behaviour import Named, measure
from aqpolicy.trace.closing import close_run
from aqpolicy.trace.forward import Forward, settings_of
from aqpolicy.trace.journey import follow
from aqpolicy.trace.query import trace_behaviour
from aqpolicy.trace.visits import Visits, close_books, load_ending, load_visits
from aqpolicy.trace.writing import FactorWriting, split

READERS, PER_READER = 6, 12
OWNERS = {f"{1 + number % 3}-{number}": f"reader{number % READERS}" for number in range(READERS * PER_READER)}
ROWS = [[1.0, 1.0], [0.5, 0.0], [0.3, 1.0]]
"""The second kind may not write the head."""

OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], dict[str, Any]]] = {
    "plain": (torch.optim.SGD, {"lr": 0.2}),
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.02}),
    "nesterov": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.02}),
    "adam": (torch.optim.Adam, {"lr": 0.02, "weight_decay": 0.05}),
    "adamw": (torch.optim.AdamW, {"lr": 0.02, "betas": (0.9, 0.99), "weight_decay": 0.1}),
    "amsgrad": (torch.optim.AdamW, {"lr": 0.02, "amsgrad": True}),
}


def example(name: str) -> tuple[Tensor, int]:
    number = int(name.partition("-")[2])
    generator = torch.Generator().manual_seed(1000 + number)
    return torch.randn(6, generator=generator), number % 3


def model_of() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))


def loss_of(model: nn.Module, names: Sequence[str]) -> Tensor:
    inputs, labels = zip(*map(example, names), strict=True)
    return functional.cross_entropy(model(torch.stack(inputs)), torch.tensor(labels), reduction="none")


def behaviour(model: nn.Module) -> Tensor:
    return loss_of(model, [f"1-{number}" for number in range(5000, 5050)]).mean()


MODEL, LOSS = Named("model_of", model_of, None), Named("loss", behaviour, None)


def trained(folder: Path, name: str, **story: Any) -> Path:
    kind, settings = OPTIMIZERS[name]
    whole = Story(
        OWNERS,
        story.pop("table", tables(ROWS, norms=[[None, 0.4], [None, None], [2.0, None]])),
        groups=(("0.",), ("2.",)),
        epochs=4,
        batch=12,
        settings=settings,
        optimizer=kind,
        record="factors",
        **story,
    )
    return train(folder, whole, model_of(), loss_of)


@pytest.fixture(scope="module", params=OPTIMIZERS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = trained(tmp_path_factory.mktemp(request.param), request.param)
    audit_run(folder, KEYRING)
    return open_run(folder, KEYRING)


def test_steps_and_run_close(run: Run) -> None:
    visits = load_visits(run)
    assert max(residual for block in run.blocks for residual in block.book.residual) < 1e-4
    for part in close_books(visits, load_ending(visits)):
        assert part.closes
        assert part.residual < 0.02


def test_what_the_log_says_a_step_is_made_of_is_what_the_records_say(run: Run) -> None:
    visits = load_visits(run)
    now = Forward([value.clone() for value in load_ending(visits).start])
    for number, block in enumerate(run.blocks):
        for group, made in enumerate(visits.take(now, number)):
            assert (made is None) == block.book.closed[group]
            if made is not None:
                logged = (block.book.fresh[group], block.book.carry[group], block.book.decay[group])
                found = [part.norm().item() for part in (made.fresh, made.carry, made.decay)]
                assert found == pytest.approx(logged, rel=0.05, abs=0.02 * block.book.proposed[group])


def test_contributions_add_up_to_the_way_of_the_behaviour_to_first_order(run: Run) -> None:
    found = trace_behaviour(run, MODEL, LOSS)
    said = found.statement
    assert said.behaviour_booked == pytest.approx(said.behaviour_travelled, rel=0.05, abs=0.01)
    assert said.sketch_error == 0.0
    parts = [sum(entry.contribution for entry in entries) for entries in (found.annotators, found.rules, found.epochs)]
    assert parts == pytest.approx([parts[0]] * 3)


def test_nothing_is_scored_where_nothing_was_admitted_and_its_price_is_known(run: Run) -> None:
    visits = load_visits(run)
    ending = load_ending(visits)
    adaptive = run.blocks[0].book.second_momentum > 0
    gradient = [torch.randn(width, dtype=torch.float64) for width in visits.space.widths]
    found = sweep(visits, gradient, 2.0, Grounds(visits, ending.start) if adaptive else None)
    shut = torch.tensor([row.route == run.tables.rows.index(run.tables.rows[2]) for _, row in run.rows])
    assert shut.any()
    assert not found.scores[shut, 1].any()
    assert found.prices is not None
    assert found.prices[shut, 1].all()


def test_places_of_the_parameters_add_up_to_their_groups_and_rows_are_read_off_them(run: Run) -> None:
    visits = load_visits(run)
    found = trace_behaviour(run, MODEL, LOSS, top=10_000)
    # Every row is listed: 12 and 3 of the weights, and one of each bias.
    assert len(found.rows) == 12 + 1 + 3 + 1
    assert {part.parameter for part in found.rows} == {"0.weight", "0.bias", "2.weight", "2.bias"}
    for region in found.regions:
        own = [part for part in found.rows if part.group == region.name]
        sums = [
            sum(part.score for part in own),
            sum(part.contribution for part in own),
            sum(part.holds for part in own),
        ]
        said = [region.score, region.contribution, region.holds]
        assert sums == pytest.approx(said, rel=1e-3, abs=1e-5 * visits.count)
    weight = behaviour_gradient(load_ending(visits).state)
    way = weight * (load_ending(visits).state["0.weight"] - model_of()[0].weight.detach())
    rows = {part.row: part.holds for part in found.rows if part.parameter == "0.weight"}
    assert [rows[number] for number in range(12)] == pytest.approx(way.sum(1).tolist(), rel=1e-4, abs=1e-6)


def behaviour_gradient(state: dict[str, Tensor]) -> Tensor:
    model = model_of()
    model.load_state_dict(state)
    return torch.autograd.grad(behaviour(model), model[0].weight)[0]


def test_a_behaviour_has_a_book_of_its_own_along_the_way(run: Run) -> None:
    found = follow(run, MODEL, LOSS, top=100)
    begun = model_of()
    begun.load_state_dict(
        dict(zip(begun.state_dict(), read_start(run.folder, run.genesis["start"]).values(), strict=True))
    )
    assert found.first == pytest.approx(behaviour(begun).item(), rel=1e-6)
    told = found.first + found.fresh + found.carry + found.decay + found.left_over + found.records
    assert told == pytest.approx(found.last, abs=1e-9)
    assert abs(found.left_over) < 1e-5 * found.way + 1e-6  # single precision of the model itself
    assert abs(found.trapezoid) < 2e-2 * found.way
    assert abs(found.records) < 0.02 * found.way + 1e-4
    assert sum(one.fresh for one in found.annotators) == pytest.approx(found.fresh, rel=1e-6, abs=1e-9)
    assert sum(one.fresh for one in found.examples) == pytest.approx(found.fresh, rel=1e-6, abs=1e-9)
    for name in ("fresh", "carry", "decay"):
        assert sum(getattr(one, name) for one in found.groups) == pytest.approx(getattr(found, name), abs=1e-9)
    book = run.blocks[0].book
    assert bool(found.carry) == bool(book.momentum)
    assert bool(found.decay) == bool(book.weight_decay)


def test_a_behaviours_book_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, place = trained(tmp_path, "adamw"), str(Path(__file__))
    asked = ["trace", str(folder), "--model", f"{place}:model_of", "--behaviour", f"{place}:behaviour", "--level", "1"]
    assert main([*asked, "--json", str(tmp_path / "book.json")]) == 0
    assert "momentum of earlier gradients" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "book.json").read_text())["annotators"]) == READERS
    assert main([*asked, "--html", str(tmp_path / "book.html")]) == 2


def test_many_behaviours_at_once_are_each_by_itself(run: Run) -> None:
    visits = load_visits(run)
    ending = load_ending(visits)
    many = [[torch.randn(width, dtype=torch.float64) for width in visits.space.widths] for _ in range(3)]
    together = score_all(visits, many, ending, level=3, damp=2.0)
    for gradient, found in zip(many, together, strict=True):
        alone = score(visits, gradient, ending, level=3, damp=2.0)
        for one, other in zip(
            (found.contribution, found.estimate, found.prices, found.opening),
            (alone.contribution, alone.estimate, alone.prices, alone.opening),
            strict=True,
        ):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_a_contribution_is_the_derivative_of_the_end_by_the_examples_share(run: Run) -> None:
    """By central differences over the run's own steps, gradients and grounds held as they were."""
    visits = load_visits(run)
    ending = load_ending(visits)
    q = [
        torch.randn(width, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
        for width in visits.space.widths
    ]
    adaptive = run.blocks[0].book.second_momentum > 0
    found = sweep(visits, q, 0.0, Grounds(visits, ending.start) if adaptive else None)
    grounds = list(Grounds(visits, ending.start).backwards())[::-1] if adaptive else None
    for visit in (0, visits.count // 2):
        for group in range(2):
            ends = [end_of(visits, ending.start, visit, group, change, grounds) for change in (1e-2, -1e-2)]
            slope = sum(float((part * (up - down)).sum()) for part, up, down in zip(q, *ends, strict=True)) / 2e-2
            price = found.prices[visit, group].item() if found.prices is not None else 0.0
            assert slope == pytest.approx(price, rel=1e-3, abs=1e-7)


def end_of(
    visits: Visits, start: Sequence[Tensor], visit: int, group: int, change: float, grounds: list[Tensor] | None
) -> list[Tensor]:
    """Return where the weights end if so much more of one visit's gradient is admitted into one group."""
    values, states = [value.clone() for value in start], [{} for _ in start]
    for number, block in enumerate(visits.run.blocks):
        book, (begin, stop) = block.book, visits.spans[number]
        writing = visits.space.writing(begin, stop)
        assert isinstance(writing, FactorWriting)
        weights = torch.ones(1, writing.count, 2, dtype=torch.float64)
        (total,) = writing.pull(weights)
        if begin <= visit < stop:
            only = FactorWriting.__new__(FactorWriting)
            only.__dict__.update(writing.__dict__)
            only.factors = torch.zeros_like(writing.factors)
            only.factors[visit - begin, group] = 1.0
            total = total + change * only.pull(weights)[0]
        settings = settings_of(book)
        for at, gradient in enumerate(split(total, visits.space.widths)):
            if book.closed[at]:
                continue
            if grounds is None:
                values[at] = values[at] + Sgd().split(values[at], gradient, settings, states[at]).whole
                continue
            state, ground = states[at], split(grounds[number], visits.space.widths)[at]
            step = state["step"] = state.get("step", 0) + 1
            taken = gradient if book.decoupled else gradient + book.weight_decay * values[at]
            state["first"] = book.momentum * state.get("first", 0.0) + (1 - book.momentum) * taken
            values[at] = values[at] * (1 - book.lr * book.weight_decay if book.decoupled else 1)
            values[at] = values[at] - book.lr / (1 - book.momentum**step) * ground * state["first"]
    return values


def test_a_run_with_a_movement_budget_and_clipping_closes(tmp_path: Path) -> None:
    meters = (("movement", "step", 60_000),)
    table = replace(
        tables([[1.0, 1.0]] * 3, budgets=[budget("slow", (1,), on_exhaust="attenuate", meters=meters)]),
        requires=("movement budget",),
    )
    folder = trained(tmp_path, "adamw", table=table, attach={"clip": 0.2, "factor_bits": 4})
    audit_run(folder, KEYRING)
    run = open_run(folder, KEYRING)
    assert any(block.book.factors[1] < 1 for block in run.blocks)
    assert any(block.book.haircut[0] > 0 for block in run.blocks)
    visits = load_visits(run)
    assert [part.residual for part in close_books(visits, load_ending(visits)) if part.residual >= 0.35] == []


def test_a_lost_or_changed_start_is_refused(tmp_path: Path) -> None:
    folder = trained(tmp_path, "plain")
    run = open_run(folder, KEYRING)
    weights = torch.load(folder / "start.pt", weights_only=True)
    weights["0.bias"][0] += 1
    torch.save(weights, folder / "start.pt")
    with pytest.raises(TraceError, match="does not hold the weights that the log says the run began with"):
        load_ending(load_visits(run))
    (folder / "start.pt").unlink()
    with pytest.raises(TraceError, match="cannot be read"):
        load_ending(load_visits(run))


def test_an_optimizer_that_writes_on_its_own_is_caught_in_the_step(tmp_path: Path) -> None:
    def meddle(gate: Any, step: int) -> None:
        if step == 2:
            gate.machinery.mover.optimizer.register_step_post_hook(
                lambda optimizer, *_: optimizer.param_groups[0]["params"][0].data.add_(1e-3)
            )

    with pytest.raises(IllegalTrainingSetupError, match="moved by more than its gradient, momentum and weight decay"):
        trained(tmp_path, "adamw", before=meddle)


def test_adam_with_sketches_is_refused_with_what_to_record_instead(tmp_path: Path) -> None:
    story = Story(
        OWNERS, tables([[1.0, 1.0]] * 3), groups=(("0.",), ("2.",)), epochs=1, batch=12, optimizer=torch.optim.Adam
    )
    run = open_run(train(tmp_path, story, model_of(), loss_of), KEYRING)
    with pytest.raises(TraceError, match='were not recorded with `record="factors"`'):
        load_visits(run)


def test_the_behaviour_is_measured_in_the_parameters_themselves(run: Run) -> None:
    visits = load_visits(run)
    model = model_of()
    model.load_state_dict(load_ending(visits).state)
    found = measure(visits, model, LOSS)
    assert tuple(len(part) for part in found.gradient) == visits.space.widths == (6 * 12 + 12, 12 * 3 + 3)


# ---- aqpolicy close


def test_the_book_of_every_optimizer_closes_in_full(run: Run) -> None:
    found = close_run(run)
    assert found.closes
    assert [one.name for one in found.tensors] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert found.accounts_apart is not None
    assert found.accounts_apart < 0.1
    for one in found.accounts:
        assert one.way <= one.fresh + one.carry + one.decay + one.rounding + 1e-9
        assert (one.carry > 0) == (found.optimizer != "SGD" or run.blocks[0].book.momentum > 0)
    text = "\n".join(found.lines())
    assert text.endswith("The book closes.")
    assert json.loads(json.dumps(found.to_json()))["closes"] is True


def test_a_record_that_is_not_what_was_written_does_not_close(run: Run) -> None:
    def shrunk(row: Row) -> Row:
        # The first group's factor is in front.
        return replace(row, sketch=struct.pack("<f", 0.0) + row.sketch[4:]) if row.sketch else row

    blocks = tuple(replace(block, rows=tuple(map(shrunk, block.rows))) for block in run.blocks)
    found = close_run(replace(run, blocks=blocks))
    assert not found.closes
    assert [one.name for one in found.tensors if not one.closes] == ["0.weight", "0.bias"]
    assert "DOES NOT close" in "\n".join(found.lines())


def test_the_command_closes_a_book_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = trained(tmp_path, "adamw")
    assert main(["close", str(folder), "--json", str(tmp_path / "closing.json")]) == 0
    assert "The book closes." in capsys.readouterr().out
    assert json.loads((tmp_path / "closing.json").read_text())["optimizer"] == "AdamW"


# ---- what if


def other_policy(folder: Path, rows: list[list[float]]) -> Path:
    path = folder / "other.aqb"
    table = tables(rows, norms=[[None, 0.4], [None, None], [2.0, None]])
    write_bundle(path, Story(OWNERS, table, groups=(("0.",), ("2.",))), model_of())
    return path


def test_the_runs_own_policy_changes_nothing(run: Run, tmp_path: Path) -> None:
    same = foresee(run, load_bundle(other_policy(tmp_path, ROWS), KEYRING), MODEL, LOSS)
    assert (same.changed, same.change, same.credentials) == (0, 0.0, {})
    assert "decides every visit as the run's own did" in same.sure


def test_letting_in_what_was_denied_is_priced(run: Run, tmp_path: Path) -> None:
    rows = [[1.0, 1.0], [0.5, 1.0], [0.3, 1.0]]
    found = foresee(run, load_bundle(other_policy(tmp_path, rows), KEYRING), MODEL, LOSS)
    assert found.changed == sum(row.route == 2 for _, row in run.rows)
    assert found.change == pytest.approx(found.groups["g1"]) != 0.0
    assert found.groups["g0"] == 0.0
    assert found.change == pytest.approx(sum(found.credentials.values()))


def test_what_if_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, place = trained(tmp_path, "adamw"), str(Path(__file__))
    other = other_policy(tmp_path, [[1.0, 0.0], [0.5, 0.0], [0.3, 0.0]])
    asked = ["trace", str(folder), "--model", f"{place}:model_of", "--behaviour", f"{place}:behaviour"]
    assert main([*asked, "--what-if", str(other), "--json", str(tmp_path / "foreseen.json")]) == 0
    out = capsys.readouterr().out
    assert "train again under the one that you choose" in out
    found = json.loads((tmp_path / "foreseen.json").read_text())
    assert found["groups"]["g0"] == 0.0 != found["groups"]["g1"]
