"""Random tables and random runs over them, for the reference of a run and for all that answers to it.

A row is selected by the manifest's attribute `kind` together with one switch: an
attribute of the run, or `doubt` of the manifest, that is below a threshold or not.
So rows change from visit to visit, and deferrals are released.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, TypeVar

from hypothesis import strategies as st

from aqpolicy.bundle.tables import (
    EXHAUSTS,
    LARGEST_SHARE,
    NO_LIMIT,
    AttributeTable,
    BudgetTable,
    ObligationTable,
    Row,
    StageTable,
    Tables,
)
from aqpolicy.semantics import LARGEST_SURPRISAL, Run, Step, Visit, begin, take_step
from aqpolicy.semantics.run import enter_phase, hold, start_epoch
from aqpolicy.units import MICRO

GROUPS = 3
KINDS = ("a", "b")
EXAMPLES = 4
"""Examples of the manifest; the last one is refused."""
UNKNOWN = EXAMPLES
"""Number of an example that is not in the manifest."""
PHASES = ("warm", "main", "cool")
LARGEST_ENTROPY = 100 * MICRO

_SWITCHES: dict[str, tuple[int, int, int]] = {
    "surprisal": (MICRO, LARGEST_SURPRISAL, 1),
    "predictive_entropy": (MICRO, LARGEST_ENTROPY, 1),
    "step": (2 * MICRO, 10**15, MICRO),
    "epoch": (MICRO, 10**12, MICRO),
    "today": (MICRO, 10**12, MICRO),
    "phase": (0, 0, 1),
}
"""Threshold, largest value and step of what switches between two rows of a kind."""

T = TypeVar("T")


@dataclass(frozen=True)
class Observed:
    """What a manifest knows of its examples."""

    examples: tuple[Mapping[str, Any], ...]

    @property
    def size(self) -> int:
        return len(self.examples)

    def index_of(self, example_id: str) -> int | None:
        number = int(example_id.removeprefix("example-"))
        return number if number < len(self.examples) else None

    def attributes(self, index: int) -> Mapping[str, Any]:
        return self.examples[index]


@dataclass(frozen=True)
class Seen:
    """One visit before it is decided."""

    example: int
    surprisal: int | None
    entropy: int | None
    broken: tuple[int, ...] = ()


Action = str | tuple[int, bool] | tuple[tuple[Seen, ...], ...]
"""`epoch`, `phase`, a verification that is held or not any more, or a step in parts."""


@dataclass(frozen=True)
class Course:
    """A policy's tables, a manifest, and what happens."""

    tables: Tables
    observed: Observed
    actions: tuple[Action, ...]

    def visit(self, seen: Seen) -> Visit:
        """Return a visit as the reference wants it."""
        known, refused = seen.example != UNKNOWN, seen.example == EXAMPLES - 1
        attributes = self.observed.attributes(seen.example) if known else {}
        key = name_of(seen.example).encode()
        return Visit(key, attributes, seen.surprisal, seen.entropy, known, refused, seen.broken)

    def visits(self, parts: Sequence[Sequence[Seen]]) -> list[Visit]:
        """Return the visits of a step, part after part."""
        return [self.visit(seen) for part in parts for seen in part]


def name_of(example: int) -> str:
    """Return an example's id."""
    return f"example-{example}"


def next_phase(run: Run) -> str | None:
    """Return the phase after the present one."""
    later = PHASES[PHASES.index(run.state.phase) + 1 :]
    return later[0] if later else None


def acted(run: Run, action: Action) -> Run:
    """Return the run after something that is no step."""
    if action == "epoch":
        return start_epoch(run)
    if action == "phase":
        name = next_phase(run)
        return run if name is None else enter_phase(run, name)
    assert isinstance(action, tuple)
    number, on = action
    assert isinstance(number, int)
    return hold(run, number, on=bool(on))


def is_step(action: Action) -> bool:
    """Say whether an action is a step."""
    return isinstance(action, tuple) and not (len(action) == 2 and isinstance(action[0], int))


def walk(course: Course) -> list[tuple[Run, Action, Step | None]]:
    """Return the run before each action, the action, and its step; the last one is the one that halts."""
    run, told = begin(course.tables), []
    for action in course.actions:
        if not is_step(action):
            told.append((run, action, None))
            run = acted(run, action)
            continue
        step = take_step(course.tables, run, course.visits(action))  # type: ignore[arg-type]
        told.append((run, action, step))
        run = step.run
        if run.halted:
            break
    return told


# ---- Drawn at random


class Draw:
    """Draws parts of a run. A seed says it all, so runs are long and dense, and hypothesis shrinks the seed only."""

    def __init__(self, seed: int, exhausts: Sequence[str] = EXHAUSTS) -> None:
        self._random, self._exhausts = Random(seed), exhausts

    def course(self) -> Course:
        """Return a run."""
        drawn = self.tables()
        kinds = [*KINDS] * 4 + ["none"]
        examples = tuple({"kind": self.one(kinds), "doubt": self.number(0, MICRO)} for _ in range(EXAMPLES))
        actions = tuple(self._action(drawn) for _ in range(self.number(1, 14)))
        return Course(drawn, Observed(examples), actions)

    def tables(self) -> Tables:
        """Return tables with one row per kind and side of the switch."""
        count = self.number(0, 3)
        owned = tuple(replace(self.budget(), name=f"budget {number}") for number in range(count))
        asked = tuple(self._obligation() for _ in range(self.number(0, 5)))
        attributes = _attributes(self.one([*_SWITCHES, "doubt"]))
        rows = [_error_row(owned), *(self._row(owned, asked, attributes) for _ in range(2 * len(KINDS)))]
        vectors = {1 << bit: bit + 1 for bit in range(2 * len(KINDS))}
        names = tuple(f"g{group}" for group in range(GROUPS))
        stages = (StageTable("basic"),)
        return Tables(names, attributes, tuple(rows), vectors, owned, asked, phases=PHASES, stages=stages)

    def budget(self) -> BudgetTable:
        """Return a budget with any limits."""
        meters = [("surprisal", "step"), ("surprisal", "phase"), ("movement", "run"), ("drift", "epoch")]
        return BudgetTable(
            name="b",
            groups=self.groups(),
            per_update=self.one([NO_LIMIT, self.number(0, 4 * MICRO), self.number(0, 2**40)]),
            per_epoch=self._limit(),
            per_run=self._limit(),
            exposures=self.one([NO_LIMIT, NO_LIMIT, self.number(0, 4)]),
            on_exhaust=self.one(self._exhausts),
            meters=tuple(sorted((*meter, self.number(0, 20 * MICRO)) for meter in meters if self.chance(0.3))),
        )

    def groups(self) -> tuple[int, ...]:
        """Return some groups, at least one."""
        return tuple(sorted(self._random.sample(range(GROUPS), self.number(1, GROUPS))))

    def number(self, low: int, high: int) -> int:
        """Return a number of a range, both ends included."""
        return self._random.randint(low, high)

    def one(self, choices: Sequence[T]) -> T:
        """Return one of some choices."""
        return self._random.choice(choices)

    def chance(self, probability: float) -> bool:
        """Return True so often."""
        return self._random.random() < probability

    def nats(self) -> int:
        """Return a surprisal, mostly a small one."""
        return self.one([0, self.number(0, 3 * MICRO), self.number(0, 9 * MICRO), self.number(0, LARGEST_SURPRISAL)])

    def _limit(self) -> int:
        return self.one([NO_LIMIT, NO_LIMIT, self.number(0, 50 * MICRO)])

    def _obligation(self) -> ObligationTable:
        kind = self.one(["frequency", "frequency", "defer", "defer", "verify", "verify", "promote"])
        parameters: dict[str, dict[str, Any]] = {
            "frequency": {"groups": self.groups(), "updates": self.number(1, 2), "steps": self.number(1, 5)},
            "defer": {"epochs": self.number(1, 2)},
            "verify": {"amount": 5, "direction": "falls", "metric": "gold", "remedy": "hold", "steps": 2},
            "promote": {"metric": "gold", "op": ">=", "value": 0, "witnesses": 0},
        }
        return ObligationTable(kind, "r", "", parameters[kind])  # type: ignore[arg-type]

    def _row(
        self, owned: Sequence[BudgetTable], asked: Sequence[ObligationTable], attributes: Sequence[AttributeTable]
    ) -> Row:
        nothing, closed, free = (0,) * len(owned), (0,) * GROUPS, (NO_LIMIT,) * GROUPS
        deferrals = [number for number, one in enumerate(asked) if one.kind == "defer"]
        if deferrals and self.chance(0.4):
            pending = tuple(sorted({self.one(deferrals), self.one(deferrals)}))
            return Row("defer", "denied", closed, free, nothing, (), "waits", obligations=pending)
        shares = tuple(self._share() for _ in range(GROUPS))
        if not any(shares):
            return Row("deny", self.one(["default", "denied"]), shares, free, nothing, (), "")
        norms = tuple(self.one([NO_LIMIT, NO_LIMIT, NO_LIMIT, 5]) for _ in range(GROUPS))
        charged = tuple(max(shares[g] for g in budget.groups) * self.chance(0.8) for budget in owned)
        asks = tuple(number for number, one in enumerate(asked) if one.kind != "defer" and self.chance(0.7))
        whole = set(shares) == {MICRO} and set(norms) == {NO_LIMIT}
        linear = self._linear(shares, attributes) if self.chance(0.3) else ()
        return Row("admit" if whole else "modulate", "granted", shares, norms, charged, (), "", linear, asks)

    def _share(self) -> int:
        return self.one([0, 1, MICRO, MICRO, MICRO, self.number(0, MICRO), self.number(0, LARGEST_SHARE)])

    def _linear(
        self, shares: Sequence[int], attributes: Sequence[AttributeTable]
    ) -> tuple[tuple[int, int, int, int], ...]:
        groups = [group for group, share in enumerate(shares) if share]
        numbers = [position for position, table in enumerate(attributes) if table.kind == "numeric"]
        found = {
            (self.one(groups), self.one(numbers), self.number(-MICRO, 2 * MICRO), self.number(-2 * MICRO, 2 * MICRO))
            for _ in range(self.number(1, 3))
        }
        return tuple(sorted(found))

    def _action(self, drawn: Tables) -> Action:
        checks = [number for number, one in enumerate(drawn.obligations) if one.kind == "verify"]
        kind = self.one(["step"] * 7 + ["epoch", "epoch", "phase"] + ["hold"] * bool(checks))
        if kind == "hold":
            return self.one(checks), self.chance(0.7)
        if kind != "step":
            return kind
        return tuple(tuple(self._seen() for _ in range(self.number(1, 4))) for _ in range(self.number(1, 3)))

    def _seen(self) -> Seen:
        return Seen(
            example=self.one([*range(EXAMPLES - 1)] * 6 + [EXAMPLES - 1, UNKNOWN]),
            surprisal=None if self.chance(0.05) else self.nats(),
            entropy=None if self.chance(0.1) else self.number(0, self.one([2 * MICRO, LARGEST_ENTROPY])),
            broken=self.groups() if self.chance(0.05) else (),
        )


def courses(exhausts: Sequence[str] = EXHAUSTS) -> st.SearchStrategy[Course]:
    """Draw a run."""
    return st.integers(0, 2**32).map(lambda seed: Draw(seed, exhausts).course())


def budgets(exhausts: Sequence[str] = EXHAUSTS) -> st.SearchStrategy[BudgetTable]:
    """Draw a budget."""
    return st.integers(0, 2**32).map(lambda seed: Draw(seed, exhausts).budget())


def _attributes(switch: str) -> tuple[AttributeTable, ...]:
    """Return the attributes; the bit of a row is twice its kind, plus one above the switch's threshold."""
    bits = 2 * len(KINDS)
    kinds = tuple(0b11 << 2 * number for number in range(len(KINDS)))
    below, above = (sum(1 << bit for bit in range(side, bits, 2)) for side in (0, 1))
    kind = AttributeTable("kind", "category", KINDS, (), 0, 1, kinds)
    if switch == "doubt":
        return kind, AttributeTable("doubt", "numeric", (), (0, MICRO // 2), MICRO, 1, (below, above))
    doubt = AttributeTable("doubt", "numeric", (), (0,), MICRO, 1, (below | above,))
    if switch == "phase":
        return kind, doubt, AttributeTable(switch, "category", PHASES, (), 0, 1, (below, above, above), "run")
    threshold, high, step = _SWITCHES[switch]
    return kind, doubt, AttributeTable(switch, "numeric", (), (0, threshold), high, step, (below, above), "run")


def _error_row(owned: Sequence[BudgetTable]) -> Row:
    return Row("deny", "error", (0,) * GROUPS, (NO_LIMIT,) * GROUPS, (0,) * len(owned), (), "error")
