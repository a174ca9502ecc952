"""What a row leaves of a visit before budgets: linear limits, frequency limits, holds, deferrals. For the auditor.

One visit at a time, in the order of the log. It remembers what earlier visits and
steps did; it raises nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aqpolicy.bundle.tables import ObligationTable, Row, Tables
from aqpolicy.trace.words import DEFERRAL_EXPIRED, FREQUENCY, HELD, LINEAR, TABLE
from aqpolicy.units import MICRO


@dataclass(frozen=True, slots=True)
class Decided:
    """What a visit may have if budgets agree.

    Shapes:
        shares (g), reasons (g): the last cause that lowered each; charged (number of budgets): the largest share that
        each budget covers, 0 where it does not apply.
    """

    row: Row
    shares: tuple[int, ...]
    reasons: tuple[int, ...]
    charged: tuple[int, ...]
    expired: bool = False
    """The row defers, and has done so for too long."""


@dataclass(slots=True)
class Limits:
    """What a run remembers of its visits."""

    tables: Tables
    held: frozenset[int] = frozenset()
    """Verifications whose updates are held, by position among the obligations."""
    written: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    """By obligation and group, the steps in which an update with the obligation was admitted there."""
    first: dict[tuple[bytes, int], int] = field(default_factory=dict)
    """By example and deferral, the epoch since which the example waits."""

    def decide(self, key: bytes, row: Row, values: Mapping[str, object], step: int, epoch: int) -> Decided:
        """Return what limits leave of a visit, and remember whether it waits.

        Args:
            key: The example.
            row: Its row of the mask table.
            values: Its attributes, those of the run included.
            step: The present step.
            epoch: The present epoch.
        """
        expired = self._wait(key, row, epoch)
        shares = list(row.shares)
        reasons = [DEFERRAL_EXPIRED if expired else TABLE] * len(shares)
        for group, limit, reason in [*self._linear(row, values), *self._closed(row, step)]:
            if limit < shares[group]:
                shares[group], reasons[group] = limit, reason
        charged = tuple(
            max(shares[group] for group in budget.groups) if said else 0
            for budget, said in zip(self.tables.budgets, row.charged, strict=True)
        )
        return Decided(row, tuple(shares), tuple(reasons), charged, expired)

    def book(self, step: int, visits: Sequence[tuple[Row, Sequence[int]]]) -> None:
        """Remember which groups a step wrote, given every visit's row and applied shares."""
        for row, shares in visits:
            for number in row.obligations:
                for group in _groups(self.tables.obligations[number]):
                    steps = self.written.setdefault((number, group), [])
                    if shares[group] and step not in steps[-1:]:
                        steps.append(step)

    def _wait(self, key: bytes, row: Row, epoch: int) -> bool:
        """Remember what an example waits for, forget what it does not wait for any more; return if it was too long."""
        pending = row.obligations if row.effect == "defer" else ()
        for number, obligation in enumerate(self.tables.obligations):
            if obligation.kind == "defer" and number not in pending:
                self.first.pop((key, number), None)
        return any(
            epoch - self.first.setdefault((key, number), epoch) >= _number(self.tables.obligations[number], "epochs")
            for number in tuple(pending)
        )

    def _linear(self, row: Row, values: Mapping[str, object]) -> list[tuple[int, int, int]]:
        """Return group, limit and reason of every linear limit: intercept + slope * value, kept between 0 and 1."""
        found = []
        for group, position, intercept, slope in row.linear:
            value = values.get(self.tables.attributes[position].name)
            if isinstance(value, int):  # anything else selects the error row, which has no limits
                found.append((group, min(max(intercept + slope * value // MICRO, 0), MICRO), LINEAR))
        return found

    def _closed(self, row: Row, step: int) -> list[tuple[int, int, int]]:
        """Return every group that a frequency limit or a failed verification closes, with limit 0."""
        found = []
        for number in row.obligations:
            obligation = self.tables.obligations[number]
            for group in _groups(obligation):
                window = range(step - _number(obligation, "steps") + 1, step)
                recent = [at for at in self.written.get((number, group), []) if at in window]
                if len(recent) >= _number(obligation, "updates"):
                    found.append((group, 0, FREQUENCY))
        if self.held & set(row.obligations):
            found += [(group, 0, HELD) for group in range(len(row.shares))]
        return found


def _groups(obligation: ObligationTable) -> tuple[int, ...]:
    """Return the groups of a frequency limit; none of any other obligation."""
    groups = obligation.parameters.get("groups")
    return groups if obligation.kind == "frequency" and isinstance(groups, tuple) else ()


def _number(obligation: ObligationTable, name: str) -> int:
    value = obligation.parameters[name]
    return value if isinstance(value, int) else 0
