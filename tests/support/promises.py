"""Tables of budgets and obligations for tests of what happens around the optimizer's step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from aqpolicy.bundle.tables import NO_LIMIT, BudgetTable, ObligationTable, Row, Tables
from aqpolicy.units import MICRO

GROUPS = 3


def budget(name: str, groups: Sequence[int], on_exhaust: Any = "deny", meters: Any = ()) -> BudgetTable:
    return BudgetTable(name, tuple(groups), NO_LIMIT, NO_LIMIT, NO_LIMIT, NO_LIMIT, on_exhaust, tuple(meters))


def metered(
    meter: str, amount: float, *, window: str = "step", groups: Sequence[int] = (0,), on_exhaust: str = "deny"
) -> BudgetTable:
    """Return a budget with one limit, named after what it does."""
    return budget(f"{meter} {on_exhaust}", groups, on_exhaust, ((meter, window, round(amount * MICRO)),))


def verify(
    metric: str = "gold", *, falls: float = 0.0, steps: int = 1, remedy: str = "rollback", direction: str = "falls"
) -> ObligationTable:
    amount = round(falls * MICRO)
    found = {"amount": amount, "direction": direction, "metric": metric, "remedy": remedy, "steps": steps}
    return ObligationTable("verify", "careful", f"verify {metric}", found)


def promote(metric: str = "gold", op: str = ">=", value: float = 0.9, witnesses: int = 0) -> ObligationTable:
    found = {"metric": metric, "op": op, "value": round(value * MICRO), "witnesses": witnesses}
    return ObligationTable("promote", "careful", f"promote after {metric}", found)


def policy(budgets: Sequence[BudgetTable] = (), obligations: Sequence[ObligationTable] = ()) -> Tables:
    row = Row("deny", "error", (0,) * GROUPS, (NO_LIMIT,) * GROUPS, (0,) * len(budgets), (), "error")
    return Tables(tuple("abc"), (), (row,), {}, tuple(budgets), tuple(obligations))


@dataclass
class Fake:
    """A step whose groups move by `far`, and whose drift is a function of the factors."""

    far: Sequence[float] = (1.0, 1.0, 1.0)
    deep: Callable[[Sequence[float]], Sequence[float]] = lambda factors: factors
    swells: float = 1.0
    """How much more a scaled movement measures than it should."""
    factors: tuple[float, ...] = (1.0,) * GROUPS
    applied: list[tuple[float, ...]] = field(default_factory=list)
    drifts_measured: int = 0

    def movement(self) -> list[float]:
        pairs = zip(self.far, self.factors, strict=True)
        return [far * factor * (self.swells if 0 < factor < 1 else 1.0) for far, factor in pairs]

    def drift(self) -> list[float]:
        self.drifts_measured += 1
        return list(self.deep(self.factors))

    def apply(self, factors: Sequence[float]) -> None:
        assert all(new <= old for new, old in zip(factors, self.factors, strict=True)), "a factor rose"
        self.factors = tuple(factors)
        self.applied.append(self.factors)


@st.composite
def _metered_budget(draw: st.DrawFn) -> BudgetTable:
    kinds = [(meter, window) for meter in ("drift", "movement") for window in ("epoch", "phase", "run", "step")]
    chosen = draw(st.sets(st.sampled_from(kinds), min_size=1, max_size=4))
    return budget(
        draw(st.sampled_from(["first", "second"])),
        sorted(draw(st.sets(st.integers(0, GROUPS - 1), min_size=1))),
        on_exhaust=draw(st.sampled_from(["deny", "defer", "attenuate", "attenuate", "halt"])),
        meters=tuple((meter, window, draw(st.integers(0, 4 * MICRO))) for meter, window in sorted(chosen)),
    )


def metered_budgets() -> st.SearchStrategy[list[BudgetTable]]:
    """Budgets of movement and drift, of every kind."""
    return st.lists(_metered_budget(), min_size=1, max_size=3)
