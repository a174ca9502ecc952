"""A run with phases, stages, deferrals, frequencies, movement, drift and checks, whose log is signed and lies."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.accounts import category, deferral, frequency, number, row, whole
from support.gating import budget
from support.promises import promote, verify
from support.tracing import KEYRING, LOG, Story, train

from aqpolicy.bundle.tables import StageTable
from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage import LineageReader, LineageWriter, StepBlock
from aqpolicy.trace import audit_run
from aqpolicy.units import MICRO

WHOLE = (MICRO, MICRO)
OPEN, DRAWN, WAITS, LINEAR = (
    row(WHOLE, effect="admit", obligations=(0, 1, 3)),
    row((2 * MICRO, MICRO)),
    row((0, 0), effect="defer", obligations=(2,)),
    row(WHOLE, effect="admit", linear=((0, 2, MICRO, -400_000),)),
)
"""By kind and phase: kind 1 is checked, kind 2 waits for the second phase, kind 3 is limited by its surprisal."""

OWNERS = {f"{1 + at % 3}-{at}": f"reader{at % 2}" for at in range(9)}


def policy() -> Any:
    made = whole(
        [OPEN, OPEN, OPEN, OPEN, WAITS, WAITS, DRAWN, DRAWN, LINEAR, DRAWN, LINEAR, DRAWN],
        [
            category("kind", "1", "2", "3"),
            category("phase", "warm", "tune", origin="run"),
            number("surprisal", 0, 2 * MICRO, high=2**31 - 1, origin="run"),
        ],
        budgets=[
            budget("pace", (0,), on_exhaust="attenuate", meters=(("movement", "step", 20_000),)),
            budget("shape", (1,), meters=(("drift", "run", 3 * MICRO), ("movement", "epoch", MICRO))),
            budget("nats", (0, 1), meters=(("surprisal", "phase", 9 * MICRO),), on_exhaust="attenuate"),
        ],
        obligations=(
            verify("gold", falls=0.1, steps=2, remedy="hold"),
            frequency((1,), 1, 2),
            deferral(3),
            promote("gold", ">=", 0.0),
        ),
    )
    requires = (
        *("amplify", "deferral", "drift budget", "frequency limit", "linear share", "movement budget", "phases"),
        *("promotion", "stages", "surprisal in conditions", "surprisal per phase", "verification"),
    )
    stages = (StageTable("trial"), StageTable("open", (("gold", ">=", 100_000),)))
    return replace(made, phases=("warm", "tune"), stages=stages, requires=requires)


def before(gate: Any, step: int) -> None:
    """Go on to the second phase and stage on the way."""
    if step == 2:
        gate.enter_phase("tune")
    if step == 4:
        gate.enter_stage("open")


GOLD = (0.9, 0.85, 0.5, 0.2, 0.88, 0.9, 0.9, 0.9)
"""What the metric is whenever it is asked: the second check fails, and what it asks for is held."""


def story() -> Story:
    gold = iter(GOLD)
    attach = {"metrics": {"gold": lambda _: next(gold)}, "probes": torch.randn(6, 3, generator=torch.Generator())}
    return Story(OWNERS, policy(), batch=4, epochs=3, attach=attach, before=before)


@dataclass
class Told:
    """A log before it is written again: what happened, in order."""

    blocks: list[StepBlock] = field(default_factory=list)
    events: list[tuple[int, Mapping[str, Any]]] = field(default_factory=list)


Change = Callable[[Told], None]


def relog(run: Path, folder: Path, change: Change) -> Path:
    """Return a copy of a run whose log says something else, under the log's own key."""
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("lineage", "head.note"))
    with LineageReader(run, KEYRING) as reader:
        genesis, models = reader.genesis, reader.models
        told = Told(list(reader.steps()), reader.events)
    change(told)
    facts = {name: value for name, value in genesis.items() if name not in ("groups", "budgets")}
    writer = LineageWriter.create(folder, facts, LOG, groups=genesis["groups"], budgets=genesis["budgets"])
    for step in range(len(told.blocks) + 1):
        for _, event in [pair for pair in told.events if pair[0] == step]:
            writer.append_event(event)
        if step < len(told.blocks):
            writer.append_step(told.blocks[step])
    body = {name: value for name, value in models[-1].items() if name not in ("model", "step", "body")}
    writer.append_model(len(told.blocks), bytes.fromhex(models[-1]["model"]), body)
    writer.close()
    return folder


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("honest"), story())


def test_the_run_keeps_all_its_promises_and_the_audit_says_so(honest: Path) -> None:
    report = audit_run(honest, KEYRING)
    assert report.steps == 9
    assert {"linear limit", "frequency limit", "held by a verification"} <= set(report.exceptions)
    assert report.effects["defer"] > 0
    assert report.lowered["g0"] > 0
    assert report.checks > 1
    assert set(report.metered) == {("pace", "movement"), ("shape", "movement"), ("shape", "drift")}
    assert all(spent > 0 for spent in report.metered.values())
    text = "\n".join(report.lines())
    assert "verifications, every one in time" in text
    assert "l2 of movement spent, never overspent" in text


def test_the_same_log_written_again_passes_too(honest: Path, tmp_path: Path) -> None:
    assert audit_run(relog(honest, tmp_path / "copy", lambda _: None), KEYRING).steps == 9


def block_of(step: int, **fields: Any) -> Change:
    def change(told: Told) -> None:
        told.blocks[step] = replace(told.blocks[step], **fields)

    return change


def book_of(step: int, **fields: Any) -> Change:
    return lambda told: block_of(step, book=replace(told.blocks[step].book, **fields))(told)


def without(kind: str) -> Change:
    def change(told: Told) -> None:
        told.events = [pair for pair in told.events if pair[1]["event"] != kind]

    return change


def event_of(kind: str, number: int = 0, **fields: Any) -> Change:
    def change(told: Told) -> None:
        at = [at for at, (_, event) in enumerate(told.events) if event["event"] == kind][number]
        steps, event = told.events[at]
        told.events[at] = (steps, {**event, **fields})

    return change


def faster(told: Told) -> None:
    """Say that a step that was scaled was not."""
    step = next(at for at, one in enumerate(told.blocks) if one.book.factors[0] < 1)
    book_of(step, factors=(1.0, 1.0), movement=told.blocks[step].book.proposed)(told)


def freer(told: Told) -> None:
    """Say that a movement cost less than it did."""
    charges = told.blocks[0].book.movement_charges
    book_of(0, movement_charges=(charges[0], charges[1] - 1, charges[2]))(told)


def impatient(told: Told) -> None:
    """Say that an example which waits did not."""
    step, at = next((s, n) for s, one in enumerate(told.blocks) for n, r in enumerate(one.rows) if r.effect == "defer")
    rows = list(told.blocks[step].rows)
    rows[at] = replace(rows[at], effect="deny")
    block_of(step, rows=tuple(rows))(told)


def often(told: Told) -> None:
    """Say that a group was written although its frequency limit had closed it."""
    found = ((s, n) for s, one in enumerate(told.blocks) for n, r in enumerate(one.rows) if r.reason_code == 11)
    step, at = next(found)
    rows = list(told.blocks[step].rows)
    rows[at] = replace(rows[at], exceptions=(), reason_code=0, effect="admit", cause="granted")
    block_of(step, rows=tuple(rows))(told)


LIES: dict[str, tuple[Change, str]] = {
    "the phase of a step": (block_of(3, phase="warm"), "step 3: the step is in phase `warm`"),
    "that a phase was entered": (without("phase"), "step 2: the step is in phase `tune`, the events of the run lead"),
    "that a stage was entered": (without("stage"), "step 4: the step is in stage `open`"),
    "what certified a stage": (event_of("stage", metrics={"gold": 1}), "after 4 steps: stage `open` was entered"),
    "the date": (block_of(5, today=1), "step 5: the date of the run changed"),
    "that it looked": (without("verification"), "was due and was not checked"),
    "what it saw": (event_of("verification", now=0), "what followed from"),
    "what it was compared with": (event_of("verification", 1, verified=1), "was compared with 1, not with"),
    "a factor": (faster, "group `g0` has factor 1, its budgets leave 0"),
    "a movement charge": (freer, "the movement charged to budget `shape` is"),
    "a drift charge": (book_of(0, drift_charges=(0, 0, 0)), "the drift charged to budget `shape` is 0"),
    "a drift": (book_of(0, drift=(0.0, 0.0)), "the drift charged to budget `shape`"),
    "an overspent drift": (book_of(0, drift=(0.0, 4.0), drift_charges=(0, 4 * MICRO, 0)), "`shape` is overspent"),
    "what a promotion found": (event_of("promotion", checks=[]), "looked at other obligations than the run owes"),
    "how a promotion ended": (event_of("promotion", state="refused"), "not the one that the log published"),
    "that it was promoted": (without("promotion"), "a model was published although"),
    "a deferral": (impatient, "the effect and cause are"),
    "a frequency": (often, "the applied shares are"),
}


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_a_lie_about_a_promise_is_located(honest: Path, tmp_path: Path, lie: str) -> None:
    change, message = LIES[lie]
    with pytest.raises(CorruptLogError, match=message):
        audit_run(relog(honest, tmp_path / "lie", change), KEYRING)
