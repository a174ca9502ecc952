"""What the tables say about every visit: its row, its shares, and how far linear limits lower them.

An example that is not in the manifest, or that was refused, gets the error row. A
visit whose loss is not finite gets nothing. What depends on earlier steps
(frequency limits, holds, deferrals, budgets) is the accountant's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from aqpolicy.bundle import LARGEST_SHARE, Tables
from aqpolicy.errors import BundleError
from aqpolicy.gate.accounts.columns import Observations, Sight
from aqpolicy.gate.accounts.linear import LinearLimits
from aqpolicy.gate.accounts.routes import routes
from aqpolicy.gate.accounts.state import RunState
from aqpolicy.gate.accounts.visits import NOT_FINITE, UNKNOWN, Batch, Reason, Scheduled, coverage, largest
from aqpolicy.trust import example_key

__all__ = ["UNKNOWN", "Batch", "Decisions", "Observations", "Scheduled"]

_Entry = tuple[bytes, int, bool]
"""Key, index and whether it was refused."""


class Decisions:
    """The tables, asked about the examples of one manifest."""

    def __init__(self, tables: Tables, manifest: Observations, refused: Iterable[str]) -> None:
        """Read the manifest once.

        Raises:
            BundleError: The tables hold a number outside the language, or ask the run for what it does not have.
        """
        self.needs_entropy: Final = any(
            table.origin == "run" and table.name == "predictive_entropy" for table in tables.attributes
        )
        self._manifest, self._refused = manifest, frozenset(refused)
        self._seen: dict[str, _Entry] = {}
        self._coverage = coverage(tables)
        self._shares = _matrix([row.shares for row in tables.rows], len(tables.groups))
        applies = _matrix([row.charged for row in tables.rows], len(tables.budgets)) > 0
        self._charged = largest(self._shares, self._coverage) * applies
        self._routes = routes(tables, manifest)
        self._linear = LinearLimits(tables, manifest)

    def schedule(self, example_ids: Sequence[str]) -> Scheduled:
        """Look up the examples of a step, in order."""
        found = [self._seen.get(name) or self._look_up(name) for name in example_ids]
        keys, index, refused = zip(*found, strict=True) if found else ((), (), ())
        numbers = torch.tensor(index, dtype=torch.int64, device="cpu")
        return Scheduled(keys, tuple(example_ids), numbers, torch.tensor(refused, dtype=torch.bool, device="cpu"))

    def decide(self, scheduled: Scheduled, state: RunState, surprisal: Tensor, entropy: Tensor | None) -> Batch:
        """Return what the tables say about every visit, in the present state of the run.

        Args:
            scheduled: The examples.
            state: The state of the run.
            surprisal: Micro-nats, `NOT_FINITE` where the loss is not finite.
            entropy: Micro-nats, `NOT_FINITE` where it is not; None where it was not given.

        Shapes:
            surprisal (b,), entropy (b,), both int64.
        """
        slot = scheduled.index.masked_fill(scheduled.refused, UNKNOWN) + 1
        entropy = torch.full_like(surprisal, NOT_FINITE) if entropy is None else entropy
        sight = Sight(slot, state, surprisal, entropy)
        route = self._routes(sight)
        shares, charged = self._shares.index_select(0, route), self._charged.index_select(0, route)
        batch = Batch(scheduled, route, surprisal, entropy, shares, charged, torch.zeros_like(shares))
        if self._linear:
            batch = self._linear.apply(batch, sight, self._coverage)
        return batch if bool((surprisal >= 0).all()) else _silenced(batch)

    def _look_up(self, name: str) -> _Entry:
        index = self._manifest.index_of(name)
        entry = (example_key(name), UNKNOWN if index is None else index, name in self._refused)
        if index is not None:  # ids that nobody signed for must not fill the memory
            self._seen[name] = entry
        return entry


def _silenced(batch: Batch) -> Batch:
    """Return the batch with nothing for the visits whose loss is not finite."""
    lost = (batch.surprisal < 0).unsqueeze(1)
    return replace(
        batch,
        shares=batch.shares.masked_fill(lost, 0),
        charged=batch.charged.masked_fill(lost, 0),
        reasons=batch.reasons.masked_fill(lost, int(Reason.NOT_FINITE)),
    )


def _matrix(rows: Sequence[Sequence[int]], columns: int) -> Tensor:
    """Return shares as a matrix.

    Raises:
        BundleError: A share is outside 0 to 100, which the integers here rely on.
    """
    if any(not 0 <= share <= LARGEST_SHARE for row in rows for share in row):
        raise BundleError("the bundle holds a share outside 0 to 100")
    return torch.tensor(rows, dtype=torch.int64, device="cpu").reshape(len(rows), columns)
