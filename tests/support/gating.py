"""Small policies in memory for tests of the gate: an example named `2-anything` gets row 2 of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from aqpolicy.bundle.tables import NO_LIMIT, AttributeTable, BudgetTable, Row, Tables
from aqpolicy.gate.assembly import Options, assemble
from aqpolicy.gate.gate import Gate

MICRO = 1_000_000


def budget(name: str = "b", groups: Sequence[int] = (0,), **limits: Any) -> BudgetTable:
    known = {"per_update": NO_LIMIT, "per_epoch": NO_LIMIT, "per_run": NO_LIMIT, "exposures": NO_LIMIT}
    return BudgetTable(name, tuple(groups), on_exhaust=limits.pop("on_exhaust", "deny"), **(known | limits))


def tables(
    rows: Sequence[Sequence[float]],
    *,
    norms: Sequence[Sequence[float | None]] | None = None,
    budgets: Sequence[BudgetTable] = (),
    charged: Sequence[Sequence[int]] | None = None,
) -> Tables:
    """Return tables with the given shares per row; row number 0 of the arguments is row 1 of the table."""
    width = len(rows[0])
    norms = norms or [[None] * width] * len(rows)
    made = [Row("deny", "error", (0,) * width, (NO_LIMIT,) * width, (0,) * len(budgets), (), "error")]
    for number, (shares, limits) in enumerate(zip(rows, norms, strict=True)):
        micro = tuple(round(share * MICRO) for share in shares)
        caps = tuple(NO_LIMIT if limit is None else round(limit * MICRO) for limit in limits)
        cost = tuple(max(micro[group] for group in one.groups) for one in budgets)
        whole = all(share == MICRO for share in micro) and all(cap == NO_LIMIT for cap in caps)
        effect = "deny" if not any(micro) else "admit" if whole else "modulate"
        cause = "granted" if any(micro) else "denied"
        made.append(Row(effect, cause, micro, caps, charged[number] if charged else cost, (f"r{number}",), "because"))
    kinds = tuple(str(number) for number in range(1, len(made)))
    attribute = AttributeTable("kind", "category", kinds, (), 0, 1, tuple(1 << number for number in range(len(kinds))))
    vectors = {1 << number: number + 1 for number in range(len(kinds))}
    return Tables(tuple(f"g{number}" for number in range(width)), (attribute,), tuple(made), vectors, tuple(budgets))


class Observed:
    """A manifest of the given ids."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._index = {name: number for number, name in enumerate(names)}
        self.size = len(self._names)

    def index_of(self, example_id: str) -> int | None:
        return self._index.get(example_id)

    def attributes(self, index: int) -> Mapping[str, Any]:
        return {"kind": self._names[index].partition("-")[0]}


class Memory:
    """A log that keeps its blocks."""

    def __init__(self) -> None:
        self.blocks: list[Any] = []
        self.models: list[Any] = []
        self.events: list[dict[str, Any]] = []
        self.fail = False
        self.closed = False

    def append_step(self, block: Any) -> None:
        if self.fail:
            raise OSError("no space left on device")
        self.blocks.append(block)

    def append_event(self, facts: Mapping[str, Any]) -> None:
        self.events.append(dict(facts))

    def append_model(self, *facts: Any) -> None:
        self.models.append(facts)

    def close(self) -> None:
        self.closed = True


def binding(model: nn.Module, prefixes: Sequence[Sequence[str]]) -> tuple[tuple[tuple[str, tuple[int, ...]], ...], ...]:
    """Return name and shape per group of the parameters whose names start with one of the group's prefixes."""
    known = list(model.named_parameters(remove_duplicate=False))
    return tuple(
        tuple((name, tuple(value.shape)) for name, value in known if name.startswith(tuple(group)))
        for group in prefixes
    )


def open_gate(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    table: Tables,
    names: Sequence[str],
    *,
    groups: Sequence[Sequence[str]] = (("",),),
    log: Memory | None = None,
    **options: Any,
) -> Gate:
    """Return a gate that logs into memory."""
    bundle = SimpleNamespace(tables=table, parameters=binding(model, groups), policy_name="test")
    machinery = assemble(model, optimizer, bundle, Observed(names), Options(**options), None)
    machinery.recorder.log = log
    return Gate(machinery)
