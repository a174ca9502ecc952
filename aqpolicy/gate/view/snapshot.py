"""How a run stands after a step: what is shown of it while it goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from aqpolicy.bundle.tables import NO_LIMIT, BudgetTable, Tables
from aqpolicy.gate.accounts.queue import Waiting
from aqpolicy.gate.accounts.state import RunState
from aqpolicy.gate.motion.meters import Account

UNITS: Final = {"surprisal": "nat", "movement": "l2", "drift": "nat"}
"""What each meter counts in."""

WINDOWS: Final = ("epoch", "phase", "run")
"""The windows over which spending adds up from step to step."""

LimitKey = tuple[int, str, str]
"""A limit of a budget: the budget's position, meter, window."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The run after a step; amounts are sums since the run began.

    Shapes:
        visits, mass (4), in the order of `EFFECTS`; offered, admitted (g); `mass`, `offered` and `admitted` are
        empty where norms are not recorded.

    Units:
        mass, offered, admitted: sums of gradient norms; spent: millionths of the meter's unit.
    """

    state: RunState
    visits: tuple[int, ...]
    mass: tuple[float, ...] = ()
    """Gradient mass of the visits that had each effect."""
    offered: tuple[float, ...] = ()
    """Gradient mass of all visits, per depth group."""
    admitted: tuple[float, ...] = ()
    """What of it was let in: share times norm, after norm limits."""
    spent: Mapping[LimitKey, int] = field(default_factory=dict)
    """What has been spent of each limit in its present window."""
    waiting: int = 0
    oldest: tuple[Waiting, ...] = ()
    """The first few that wait, oldest first."""
    slow: tuple[str, ...] = ()
    """Layers whose gradients are made the slow way."""


@dataclass(frozen=True, slots=True)
class LimitLine:
    """A limit that adds up over a window."""

    key: LimitKey
    budget: BudgetTable
    limit: int

    @property
    def unit(self) -> str:
        """What the limit counts in."""
        return UNITS[self.key[1]]


def limits_of(tables: Tables) -> tuple[LimitLine, ...]:
    """Return all limits that add up over a window, budget by budget."""
    return tuple(line for number, budget in enumerate(tables.budgets) for line in _limits(number, budget))


def _limits(number: int, budget: BudgetTable) -> Iterator[LimitLine]:
    windows = (("surprisal", "epoch", budget.per_epoch), ("surprisal", "run", budget.per_run), *budget.meters)
    for meter, window, limit in windows:
        if limit != NO_LIMIT and window in WINDOWS:
            yield LimitLine((number, meter, window), budget, limit)


class SpentNats(Protocol):
    """The part of `Accountant` that tells what was spent."""

    @property
    def epoch(self) -> Sequence[int]:
        """Per budget, the micro-nats spent in this epoch."""

    @property
    def phase(self) -> Sequence[int]:
        """Per budget, the micro-nats spent in this phase."""

    @property
    def run(self) -> Sequence[int]:
        """Per budget, the micro-nats spent in this run."""


def spent_of(nats: SpentNats, accounts: Iterable[Account]) -> dict[LimitKey, int]:
    """Return what has been spent of each limit in its present window.

    Args:
        nats: The accountant.
        accounts: Those of the movement and drift meters.
    """
    windows = zip(WINDOWS, (nats.epoch, nats.phase, nats.run), strict=True)
    found = {(number, "surprisal", window): one for window, spent in windows for number, one in enumerate(spent)}
    return found | {(account.budget, account.meter, account.window): account.spent for account in accounts}
