"""A training as a recipe, and runs that it made: what it draws at random shows whether anything was left over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from support.gating import budget, tables
from support.tracing import KEYRING, LOG, Story, write_bundle, write_manifest

from aqpolicy.bundle.capabilities import ATTRIBUTE_FEATURES, OBLIGATION_FEATURES
from aqpolicy.bundle.tables import AttributeTable, ObligationTable, StageTable, Tables
from aqpolicy.rerun import Trained, first
from aqpolicy.trace.behaviour import Named, find_function

RECIPE = """
from contextlib import nullcontext

import torch
from torch.nn import functional

NAMES = [f"{1 + number % 3}-{number}" for number in range(18)]
STEPS, EPOCH, LATE = 24, 8, 10


def build():
    torch.manual_seed(5)
    return torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Dropout(0.2), torch.nn.Linear(8, 2))


def content_of(name):
    number = int(name.partition("-")[2])
    generator = torch.Generator().manual_seed(number)
    return torch.randn(3, generator=generator), number * number % 2


def optimizers(kind, model):
    if kind == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.1)
    return torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9, nesterov=kind == "nesterov", weight_decay=0.01)


def gold(model):
    return float((model(torch.stack([content_of(name)[0] for name in NAMES])).argmax(1) == 1).double().mean())


def train(rerun, kind="sgd"):
    model = build()
    gate = rerun.attach(model, optimizers(kind, model), metrics={"gold": gold})
    while gate.state.step < STEPS:
        step = gate.state.step
        if step and step % EPOCH == 0 and gate.state.epoch < step // EPOCH:
            gate.start_epoch()
        if step == 13 and gate.state.phase == "warm":
            gate.enter_phase("tuned")
        if step == 11 and gate.state.stage == "raw":
            gate.enter_stage("ripe")
        # Whoever need not wait any more comes first: what the gate remembers shapes the schedule.
        order = [NAMES[index] for index in torch.randperm(len(NAMES)) if index < 15 or step >= LATE]
        late = NAMES[16:17] if step == LATE else []
        names = [*dict.fromkeys([*late, *gate.released(), *order])][:6]
        x, y = zip(*(content_of(rerun.content(name)) for name in names))
        x, y = torch.stack(x), torch.tensor(y)
        if kind == "odd" and step % 4 == 1:  # unknown to everybody, and a loss that is no number
            names, x = [*names[:-1], "1-999"], x.index_fill(0, torch.tensor(0), float("nan"))
        with gate.step(names):
            for some in torch.arange(len(names)).split(3 if kind == "parts" else len(names)):
                with gate.part([names[at] for at in some]) if kind == "parts" else nullcontext():
                    gate.backward(functional.cross_entropy(model(x[some]), y[some], reduction="none"))
        if gate.state.step in (5, 10, 11, 14):
            gate.checkpoint(f"at-{gate.state.step}")
    gate.close()
    return model


def margin(model, number="0"):
    x = torch.randn(3, generator=torch.Generator().manual_seed(1000 + int(number)))
    scores = model(x)
    return scores[0] - scores[1]
"""
NAMES = [f"{1 + number % 3}-{number}" for number in range(18)]
OWNERS = {name: f"reader{number % 4}" for number, name in enumerate(NAMES)}
BUDGETS = (budget("early", (0,), per_epoch=9_000_000), budget("all", (0, 1), per_update=700_000))
PLAIN = tables([[1, 1], [0, 1], [0, 0]])
SPENDING = tables([[1, 1], [0.5, 1], [0, 0]], budgets=BUDGETS)


def obliged(table: Tables, row: int, obligation: ObligationTable) -> Tables:
    """Return tables with one obligation, of one row."""
    rows = [replace(one, obligations=(0,)) if at == row else one for at, one in enumerate(table.rows)]
    features = (OBLIGATION_FEATURES[obligation.kind],)
    return replace(table, rows=tuple(rows), obligations=(obligation,), requires=features)


def waiting() -> Tables:
    """Return tables whose second row waits for two epochs, and whose budget makes others wait."""
    table = tables([[1, 1], [0, 0], [0, 0.5]], budgets=[budget("b", (0, 1), per_epoch=6_000_000, on_exhaust="defer")])
    rows = [replace(row, effect="defer") if at == 2 else row for at, row in enumerate(table.rows)]
    obligation = ObligationTable("defer", "r1", "wait until somebody confirms", {"epochs": 2})
    return obliged(replace(table, rows=tuple(rows)), 2, obligation)


def verifying(remedy: str) -> Tables:
    """Return tables whose second row is verified after every third step, and does not pass each time."""
    found: dict[str, Any] = {"amount": 0, "direction": "falls", "metric": "gold", "remedy": remedy, "steps": 3}
    return obliged(SPENDING, 2, ObligationTable("verify", "r1", "verify gold", found))


def rarely() -> Tables:
    """Return tables whose second row may write into the first group twice in five steps."""
    found: dict[str, Any] = {"groups": (0,), "updates": 2, "steps": 5}
    return obliged(SPENDING, 2, ObligationTable("frequency", "r1", "at most 2 in 5 steps", found))


def by_run(name: str, *, linear: bool = False) -> Tables:
    """Return tables whose rows also depend on where the run is: on its phase or stage, its epoch, or the loss.

    Args:
        name: The attribute of the run that is looked at.
        linear: Whether shares fall with it, too.
    """
    rows = [[1, 1], [0.5, 1], [0.25, 0.5], [1, 0], [0, 0], [1, 0.5]]
    table = tables(
        rows, budgets=[budget("b", (0, 1), per_epoch=12_000_000, meters=(("surprisal", "phase", 9_000_000),))]
    )
    kind = replace(table.attributes[0], values=("1", "2", "3"), vectors=(0b000011, 0b001100, 0b110000))
    words = {"phase": ("warm", "tuned"), "stage": ("raw", "ripe")}.get(name, ())
    cut = 0 if words else {"epoch": 1_000_000, "surprisal": 650_000}[name]
    step = 1_000_000 if name == "epoch" else 1
    seen = AttributeTable(
        name,
        "category" if words else "numeric",
        words,
        () if words else (0, cut),
        0 if words else 2**32 - 1 - (2**32 - 1) % step,
        1 if words else step,
        (0b010101, 0b101010),
        "run",
    )
    made = list(table.rows)
    if linear:
        made[1] = replace(made[1], linear=((0, 1, 1_300_000, -900_000),))
    staged = (StageTable("raw"), StageTable("ripe", (("gold", ">=", 0),))) if name == "stage" else ()
    features = {ATTRIBUTE_FEATURES[name], "surprisal per phase", *(("linear share",) if linear else ())}
    return replace(
        table,
        attributes=(kind, seen),
        rows=tuple(made),
        phases=words if name == "phase" else (),
        stages=staged,
        requires=tuple(sorted(features | ({"stages"} if staged else set()))),
    )


def recipe_in(folder: Path, argument: str | None = None) -> Named:
    """Write the recipe into a folder and return it."""
    (folder / "recipe.py").write_text(RECIPE)
    return find_function(f"{folder / 'recipe.py'}:train" + (f":{argument}" if argument else ""))


def inputs(folder: Path, table: Tables = SPENDING, record: str = "sketch", name: str = "in.aqb") -> dict[str, Any]:
    """Write bundle, manifest, keyring and log key; return what a first training is given."""
    folder.mkdir(parents=True, exist_ok=True)
    story = Story(OWNERS, table, groups=(("0.",), ("3.",)))
    recipe_in(folder)
    write_bundle(folder / name, story, find_function(f"{folder / 'recipe.py'}:build").call())
    if not (folder / "in.aqm").exists():
        write_manifest(folder / "in.aqm", story)
        KEYRING.save(folder / "in.json")
        LOG.save(folder / "log.key")
    return {
        "bundle": folder / name,
        "manifest": folder / "in.aqm",
        "keyring": folder / "in.json",
        "lineage": folder / "run",
        "log_key": LOG,
        "record": record,
    }


def trained(
    folder: Path, kind: str = "sgd", table: Tables = SPENDING, record: str = "sketch", **options: Any
) -> Trained:
    """Train a run for the first time, into `folder/run`."""
    given = inputs(folder, table, record)
    return first(recipe_in(folder, kind), **given, **options)
