"""Name what became of the visits of a step, for the whole step at once: reason, effect, cause, exceptions.

The words are those of docs/formats/lineage-log.md. Nothing is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aqpolicy.bundle.tables import CAUSES, EFFECTS, NO_LIMIT, Tables
from aqpolicy.lineage import REASONS
from aqpolicy.scribe.columns import Exceptions, Integers
from aqpolicy.units import MICRO

Flags = npt.NDArray[np.bool_]

_BY_WEIGHT: Final = (
    "table",
    "per_update",
    "exhausted",
    "attenuated",
    "linear",
    "frequency",
    "held",
    "deferral_expired",
    "deferred",
    "halted",
    "gradient_not_finite",
    "not_finite",
    "refused_example",
    "unknown_example",
)
"""Of the reasons of a visit's groups the last one is the reason of the visit."""

_CODE_OF: Final = np.array([REASONS.index(name) for name in _BY_WEIGHT])
_WEIGHT_OF: Final = np.argsort(_CODE_OF)
_WEIGHT: Final = {name: weight for weight, name in enumerate(_BY_WEIGHT)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the visits of a step, as codes of the log.

    Shapes:
        reason, effect, cause: (b).
    """

    reason: Integers
    effect: Integers
    cause: Integers
    exceptions: Exceptions | None


class Judge:
    """The mask tables, asked what a row would have said."""

    def __init__(self, tables: Tables) -> None:
        """Read the tables."""
        self._shares = np.array([row.shares for row in tables.rows], np.int64).reshape(-1, len(tables.groups))
        self._grants: Flags = np.any(self._shares, axis=1)
        self._unlimited = np.array([all(norm == NO_LIMIT for norm in row.norms) for row in tables.rows])
        self._defers = np.array([row.effect == "defer" for row in tables.rows])
        self._causes = np.array([CAUSES.index(row.cause) for row in tables.rows])

    def __call__(  # noqa: PLR0917 - the columns of one step
        self, route: Integers, shares: Integers, reasons: Integers, deferred: Flags, index: Integers, refused: Flags
    ) -> Verdict:
        """Return what became of visits that got these shares.

        Args:
            route: The row of every visit.
            shares: What it got.
            reasons: Per group the last cause that lowered its share.
            deferred: Whether it waits; one whose deferral has expired does not.
            index: Its number in the manifest, negative where it has none.
            refused: Whether it was refused.

        Shapes:
            shares, reasons: (b, g); all others (b).
        """
        weight = _WEIGHT_OF[reasons].max(1)
        weight[refused] = _WEIGHT["refused_example"]
        weight[index < 0] = _WEIGHT["unknown_example"]
        reason: Integers = _CODE_OF[weight]
        waits = self._defers[route] & deferred
        nothing = ~np.any(shares, axis=1)
        whole = np.all(np.equal(shares, MICRO), axis=1) & self._unlimited[route]
        effect = np.where(whole, EFFECTS.index("admit"), EFFECTS.index("modulate"))
        effect[nothing] = EFFECTS.index("deny")
        effect[waits | (weight == _WEIGHT["deferred"])] = EFFECTS.index("defer")
        cause: Integers = self._causes[route]
        cause[(nothing & self._grants[route]) | (self._defers[route] & ~waits)] = CAUSES.index("denied")
        cause[weight >= _WEIGHT["gradient_not_finite"]] = CAUSES.index("error")
        return Verdict(reason, effect, cause, self._exceptions(route, shares, reasons))

    def _exceptions(self, route: Integers, shares: Integers, reasons: Integers) -> Exceptions | None:
        where: tuple[npt.NDArray[Any], ...] = np.nonzero(shares - self._shares[route])
        visit, group = where
        return Exceptions(visit, group, reasons[visit, group], shares[visit, group]) if len(visit) else None
