"""Which runs are linear in what their log holds: clipped and metered ones are, mixed and unmeasured ones say so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.gating import budget, tables
from support.tracing import KEYRING, Story, train

from aqpolicy.errors import TraceError
from aqpolicy.trace import Run, audit, footprint, open_run
from aqpolicy.trace.attribution import contributions, sweep
from aqpolicy.trace.visits import close_books, load_ending, load_visits, refuse_open_books
from aqpolicy.units import MICRO

OWNERS = {f"1-{number}": f"reader{number % 2}" for number in range(8)}
PACE = budget("pace", (0,), on_exhaust="attenuate", meters=(("movement", "epoch", MICRO // 20),))
STOP = budget("stop", (1,), meters=(("movement", "run", MICRO // 10),))


def run_of(folder: Path, **story: Any) -> Run:
    return open_run(train(folder, Story(OWNERS, **story)), KEYRING)


def metered() -> Any:
    return replace(tables([[1.0, 1.0]], budgets=[PACE, STOP]), requires=("movement budget",))


@pytest.fixture(scope="module")
def held_back(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose gradients were clipped and whose steps were scaled and put back."""
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    return run_of(tmp_path_factory.mktemp("held"), table=metered(), settings=settings, attach={"clip": 0.5}, epochs=4)


def test_the_books_close_on_a_run_that_was_clipped_scaled_and_put_back(held_back: Run) -> None:
    factors = [block.book.factors for block in held_back.blocks]
    assert any(0 < one[0] < 1 for one in factors)
    assert any(one[1] == 0 for one in factors)
    assert any(one < 1 for block in held_back.blocks for one in block.book.clip)
    visits = load_visits(held_back)
    refuse_open_books(close_books(visits, load_ending(visits)))
    assert audit(held_back).lowered["g0"] > 0


def test_an_estimate_without_curvature_is_the_contribution_there_too(held_back: Run) -> None:
    visits = load_visits(held_back)
    q = [torch.randn(width, dtype=torch.float64) for width in visits.space.widths]
    torch.testing.assert_close(sweep(visits, q, 0.0).scores, contributions(visits, q), rtol=1e-6, atol=1e-9)


def test_a_group_that_was_put_back_received_nothing(held_back: Run) -> None:
    block = next(one for one in held_back.blocks if one.book.factors[1] == 0)
    row = block.rows[0]
    admitted, received = held_back.masses(row), held_back.masses(row, block.book)
    assert admitted[1] > 0
    assert received[1] == 0
    assert received[0] == pytest.approx(admitted[0] * block.book.clip[0] * block.book.factors[0])
    found = footprint(held_back, credential="reader0")
    last = [visit for visit in found.visits if visit.step == block.step]
    assert all(visit.mass[1] == 0 for visit in last)


def test_a_step_that_was_put_back_still_moves_the_weights_by_its_momentum(held_back: Run) -> None:
    impulses = held_back.impulses()
    assert impulses is not None
    step = next(one.step for one in held_back.blocks if 0 < one.book.factors[0] < 1)
    assert impulses[0].rho[step] != 0
    assert all(part.displacement is not None for part in footprint(held_back, credential="reader0").groups)


def mixed(parameters: Any, **_: Any) -> torch.optim.Optimizer:
    first, *rest = parameters
    return torch.optim.SGD([{"params": [first], "lr": 0.1}, {"params": rest, "lr": 0.01}], lr=0.1)


@pytest.mark.parametrize(
    ("story", "why"),
    [
        ({"optimizer": mixed, "settings": {}}, "the optimizer's parameter groups had different settings"),
        ({"optimizer": torch.optim.AdamW, "settings": {"lr": 0.01}}, "it was optimized with `AdamW`"),
    ],
)
def test_a_run_without_an_exact_response_says_why(tmp_path: Path, story: dict[str, Any], why: str) -> None:
    run = run_of(tmp_path, **story)
    assert run.impulses() is None
    assert why in run.inexact
    with pytest.raises(TraceError, match=why):
        load_visits(run)
    assert footprint(run, credential="reader0").groups[0].displacement is None
    audit(run)


def test_a_run_that_recorded_decisions_only_is_audited_and_not_traced(tmp_path: Path) -> None:
    run = run_of(tmp_path, record="decisions")
    assert audit(run).rows == 16
    with pytest.raises(TraceError, match='recorded decisions only; train with record="norms"'):
        footprint(run, credential="reader0")
    with pytest.raises(TraceError, match="recorded no sketches"):
        load_visits(run)


def test_a_denied_example_needs_no_norm(tmp_path: Path) -> None:
    run = run_of(tmp_path, table=tables([[0.0, 0.0]]), record="decisions")
    assert footprint(run, credential="reader0").groups[0].mass == 0.0


def test_a_model_that_rolls_back_has_no_exact_response(held_back: Run) -> None:
    event = {"event": "verification", "remedy": "rollback"}
    assert replace(held_back, events=((1, event),)).impulses() is None
    scaled = replace(held_back.blocks[0], book=replace(held_back.blocks[0].book, loss_scale=2.0))
    assert replace(held_back, blocks=(scaled,)).inexact.startswith("its losses were scaled")


def test_a_resumed_run_is_not_derived_from_half_of_its_story(held_back: Run) -> None:
    resumed = replace(held_back, genesis={**held_back.genesis, "first_step": 3})
    with pytest.raises(TraceError, match="resumed at step 3"):
        audit(resumed)
    assert "resumed at step 3" in resumed.inexact
