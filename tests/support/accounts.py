"""Tables, manifests and whole runs for tests of decisions and accounts, far from any model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from hypothesis import strategies as st

from aqpolicy.bundle.tables import (
    LARGEST_SHARE,
    NO_LIMIT,
    AttributeTable,
    BudgetTable,
    ObligationTable,
    Row,
    Tables,
)
from aqpolicy.gate.accounts.decisions import Decisions
from aqpolicy.gate.accounts.state import RunState
from aqpolicy.gate.accounts.visits import LARGEST_SURPRISAL, NOT_FINITE, Batch

MICRO = 1_000_000
LARGEST = 2**53 - 1


class Signed:
    """A manifest of examples with the given attributes."""

    def __init__(self, examples: Mapping[str, Mapping[str, Any]]) -> None:
        self._attributes = list(examples.values())
        self._index = {name: number for number, name in enumerate(examples)}
        self.size = len(self._attributes)

    def index_of(self, example_id: str) -> int | None:
        return self._index.get(example_id)

    def attributes(self, index: int) -> Mapping[str, Any]:
        return self._attributes[index]


def category(name: str, *values: str, origin: str = "manifest") -> AttributeTable:
    """Return an attribute of names; `whole` gives it its vectors."""
    return AttributeTable(name, "category", values, (), 0, 1, (), origin)


def number(name: str, *breaks: int, high: int = LARGEST, step: int = 1, origin: str = "manifest") -> AttributeTable:
    """Return an attribute of numbers; `whole` gives it its vectors."""
    return AttributeTable(name, "numeric", (), breaks, high, step, (), origin)


def budget(name: str = "b", groups: Sequence[int] = (0,), **limits: Any) -> BudgetTable:
    known = {"per_update": NO_LIMIT, "per_epoch": NO_LIMIT, "per_run": NO_LIMIT, "exposures": NO_LIMIT}
    return BudgetTable(name, tuple(groups), on_exhaust=limits.pop("on_exhaust", "deny"), **(known | limits))


def frequency(groups: Sequence[int], updates: int, steps: int) -> ObligationTable:
    return ObligationTable("frequency", "often", "", {"groups": tuple(groups), "updates": updates, "steps": steps})


def deferral(epochs: int) -> ObligationTable:
    return ObligationTable("defer", "wait", "", {"epochs": epochs})


def verification(remedy: str = "hold") -> ObligationTable:
    asked = {"metric": "gold", "direction": "falls", "amount": 0, "steps": 1, "remedy": remedy}
    return ObligationTable("verify", "check", "", asked)


def promotion() -> ObligationTable:
    return ObligationTable("promote", "publish", "", {"metric": "gold", "op": ">=", "value": 0, "witnesses": 1})


def row(shares: Sequence[int], *, charged: Sequence[bool] = (), **more: Any) -> Row:
    """Return a row of these shares in millionths; a row that waits says `effect="defer"`.

    `charged` says which budgets apply; `whole` puts in what they are charged.
    """
    effect = more.pop("effect", "modulate" if any(shares) else "deny")
    cause = "granted" if any(shares) else "denied"
    costs = tuple(int(one) for one in charged)
    return Row(effect, cause, tuple(shares), (NO_LIMIT,) * len(shares), costs, (), "because", **more)


def whole(
    rows: Sequence[Row],
    attributes: Sequence[AttributeTable] | None = None,
    *,
    budgets: Sequence[BudgetTable] = (),
    obligations: Sequence[ObligationTable] = (),
) -> Tables:
    """Return tables in which every combination of intervals selects a row, these in turn; `kind` is what there is else.

    Rows are numbered from 1 on; by default every budget applies to every row.
    """
    attributes = attributes or [category("kind", *(str(n + 1) for n in range(len(rows))))]
    widths = [range(len(table.values or table.breaks)) for table in attributes]
    cells = list(product(*widths))
    vectors = [
        tuple(sum(1 << n for n, cell in enumerate(cells) if cell[position] == interval) for interval in width)
        for position, width in enumerate(widths)
    ]
    tables = [replace(table, vectors=vector) for table, vector in zip(attributes, vectors, strict=True)]
    width = len(rows[0].shares)
    error = Row("deny", "error", (0,) * width, (NO_LIMIT,) * width, (0,) * len(budgets), (), "error")
    made = [_charged(one, budgets) for one in rows]
    selected = {1 << n: n % len(made) + 1 for n in range(len(cells))}
    groups = tuple(f"g{n}" for n in range(width))
    return Tables(groups, tuple(tables), (error, *made), selected, tuple(budgets), tuple(obligations))


def _charged(one: Row, budgets: Sequence[BudgetTable]) -> Row:
    applies = one.charged or (1,) * len(budgets)
    charged = tuple(
        max((one.shares[g] for g in budget.groups), default=0) * on for budget, on in zip(budgets, applies, strict=True)
    )
    return replace(one, charged=charged)


class World:
    """Tables over a manifest, asked in few words; an example called `2-anything` is of kind `2`."""

    def __init__(self, tables: Tables, names: Sequence[str]) -> None:
        self.tables, self.names = tables, tuple(names)
        self.manifest = Signed({name: {"kind": name.partition("-")[0]} for name in names})
        self.decisions = Decisions(tables, self.manifest, ())

    def batch(self, names: Sequence[str], nats: Sequence[int | None] | int = 0, state: RunState | None = None) -> Batch:
        """Return the decided visits of some examples; None is a loss that is not finite."""
        given = [nats] * len(names) if isinstance(nats, int) else nats
        surprisal = torch.tensor([NOT_FINITE if value is None else value for value in given], dtype=torch.int64)
        return self.decisions.decide(self.decisions.schedule(names), state or RunState(), surprisal, None)


# ---- Whole runs


@dataclass(frozen=True)
class Turn:
    """One step of a drawn run: what happens before it, and its visits in parts."""

    new_epoch: bool
    phase: str
    held: bool
    parts: tuple[tuple[tuple[str, int | None, tuple[int, ...]], ...], ...]
    """Name, surprisal, and groups in which the gradient is not finite."""
    committed: bool


GROUPS = 3
PHASES = ("warm", "late")
NAMES = ("1-a", "1-b", "2-a", "3-a", "4-a", "stranger")

shares = st.one_of(st.sampled_from([0, 1, MICRO, MICRO, LARGEST_SHARE]), st.integers(0, LARGEST_SHARE))
usual = st.integers(0, 5 * MICRO)
nats = st.one_of(usual, usual, st.none(), st.integers(0, LARGEST_SURPRISAL), st.sampled_from([0, 1, LARGEST_SURPRISAL]))
small = st.integers(0, 20 * MICRO)
limits = st.one_of(st.just(NO_LIMIT), small, small, st.integers(0, LARGEST), st.sampled_from([0, LARGEST]))


@st.composite
def drawn_budgets(draw: st.DrawFn) -> tuple[BudgetTable, ...]:
    """Draw up to three budgets with any windows."""
    return tuple(
        budget(
            name,
            sorted(draw(st.sets(st.integers(0, GROUPS - 1), min_size=1))),
            per_update=draw(limits),
            per_epoch=draw(limits),
            per_run=draw(limits),
            exposures=draw(st.one_of(st.just(NO_LIMIT), st.integers(0, 3))),
            on_exhaust=draw(st.sampled_from(["deny", "deny", "defer", "attenuate", "attenuate", "halt"])),
            meters=tuple(
                ("surprisal", window, limit)
                for window in ("phase", "step")
                if (limit := draw(limits)) != NO_LIMIT and draw(st.booleans())
            ),
        )
        for name in ("first", "second", "third")[: draw(st.integers(0, 3))]
    )


OBLIGATIONS = (
    frequency((0, 1), 1, 3),
    frequency((1, 2), 2, 4),
    verification(),
    promotion(),
    deferral(1),
    deferral(0),
)


@st.composite
def drawn_tables(draw: st.DrawFn) -> Tables:
    """Draw tables whose rows depend on kind, surprisal and phase, and ask for anything."""
    owned, rows = draw(drawn_budgets()), []
    for _ in range(draw(st.integers(2, 6))):
        applies = draw(st.lists(st.booleans(), min_size=len(owned), max_size=len(owned)))
        if draw(st.integers(0, 3)) == 0:
            waits = tuple(sorted(draw(st.sets(st.sampled_from([4, 5]), min_size=1))))
            rows.append(row((0,) * GROUPS, charged=applies, effect="defer", obligations=waits))
            continue
        said = tuple(draw(st.lists(shares, min_size=GROUPS, max_size=GROUPS)))
        asks = tuple(sorted(draw(st.sets(st.integers(0, 3))))) if any(said) else ()
        slopes = st.integers(-LARGEST, LARGEST) | st.integers(-MICRO, MICRO)
        linear = tuple(
            (group, 1, draw(st.integers(0, 2 * MICRO)), draw(slopes))
            for group in range(GROUPS)
            if said[group] and draw(st.booleans())
        )
        rows.append(row(said, charged=applies, obligations=asks, linear=linear))
    attributes = [
        category("kind", "1", "2", "3", "4"),
        number("surprisal", 0, 2 * MICRO, high=LARGEST_SURPRISAL, origin="run"),
        category("phase", *PHASES, origin="run"),
    ]
    return whole(rows, attributes, budgets=owned, obligations=OBLIGATIONS)


@st.composite
def drawn_turns(draw: st.DrawFn) -> tuple[Turn, ...]:
    """Draw some steps."""
    visit = st.tuples(st.sampled_from(NAMES), nats, st.sets(st.integers(0, GROUPS - 1), max_size=1).map(tuple))
    part, phase, turns = st.lists(visit, min_size=1, max_size=5).map(tuple), PHASES[0], []
    for _ in range(draw(st.integers(1, 6))):
        phase = PHASES[1] if phase == PHASES[1] else draw(st.sampled_from([PHASES[0], *PHASES]))
        parts = tuple(draw(st.lists(part, min_size=1, max_size=3)))
        turns.append(Turn(draw(st.booleans()), phase, draw(st.integers(0, 4)) == 0, parts, draw(st.integers(0, 4)) > 0))
    return tuple(turns)
