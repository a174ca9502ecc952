"""What decisions ask of the run beyond the step: how often groups are written, what is held, how long one may wait.

Every class notes what the open step asks for and books it at the end, so that a
step that is not completed leaves nothing behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from aqpolicy.bundle import ObligationTable, Tables
from aqpolicy.errors import BundleError, InternalError
from aqpolicy.gate.accounts.visits import NOT_FINITE, UNKNOWN, Batch, Reason, Spending, coverage

_CHECKED: Final = ("verify", "promote")


class Closures:
    """Groups that are closed in this step: by frequency limits, and by verifications that failed and hold."""

    def __init__(self, tables: Tables) -> None:
        """Start with nothing written and nothing held."""
        self._obligations, self._coverage = tables.obligations, coverage(tables)
        self._asked = _asked(tables, range(len(tables.obligations)))
        self._limits = tuple(_limits(tables.obligations))
        self._groups = len(tables.groups)
        self.written: dict[tuple[int, int], deque[int]] = {
            (limit.obligation, group): deque() for limit in self._limits for group in limit.groups
        }
        """By obligation and group, the last steps in which an update with the obligation was admitted there."""
        self.held: set[int] = set()
        self._full: tuple[tuple[int, int], ...] = ()
        self._closed: list[tuple[Reason, Tensor]] = []
        self.begin_step(0)

    def begin_step(self, step: int) -> None:
        """See which groups are closed in a step."""
        full = tuple(self._full_at(step))
        if full != self._full:
            self._full = full
            self._close()

    def hold(self, obligation: int, *, on: bool) -> None:
        """Deny everything that asks for a verification, or stop doing so.

        Raises:
            InternalError: There is no such verification.
        """
        known = 0 <= obligation < len(self._obligations) and self._obligations[obligation].kind == "verify"
        if on and not known:
            raise InternalError(f"obligation {obligation} is no verification, so it cannot be held")
        if on != (obligation in self.held):
            self.held = self.held | {obligation} if on else self.held - {obligation}
            self._close()

    def apply(self, batch: Batch) -> Batch:
        """Return the batch without what is closed."""
        for reason, closed in self._closed:
            shares = batch.shares.masked_fill(closed.index_select(0, batch.route), 0)
            batch = batch.lowered(shares, reason, self._coverage)
        return batch

    def book(self, spendings: Sequence[Spending], step: int) -> None:
        """Note in which groups this step wrote."""
        if not self.written:
            return
        wrote = [self._asked.index_select(0, one.batch.route).T @ (one.shares > 0).long() for one in spendings]
        total = torch.stack(wrote).sum(0).tolist() if wrote else []
        for (obligation, group), steps in self.written.items():
            if total and total[obligation][group]:
                steps.append(step)

    def restore(self, written: Iterable[tuple[int, int, Sequence[int]]], held: Iterable[int]) -> None:
        """Go on from what `written` and `held` were.

        Raises:
            KeyError: They are of other tables.
        """
        for obligation, group, steps in written:
            self.written[obligation, group].clear()
            self.written[obligation, group].extend(steps)
        for obligation in held:
            self.hold(obligation, on=True)

    def _full_at(self, step: int) -> Iterable[tuple[int, int]]:
        for limit in self._limits:
            for group in limit.groups:
                steps = self.written[limit.obligation, group]
                while steps and steps[0] <= step - limit.steps:
                    steps.popleft()
                if len(steps) >= limit.updates:
                    yield limit.obligation, group

    def _close(self) -> None:
        often = torch.zeros(len(self._asked), self._groups, dtype=torch.bool, device="cpu")
        for obligation, group in self._full:
            often[:, group] |= self._asked[:, obligation] > 0
        held = (self._asked[:, sorted(self.held)] > 0).any(1, keepdim=True).expand(-1, self._groups)
        found = (Reason.FREQUENCY, often), (Reason.HELD, held)
        self._closed = [(reason, closed) for reason, closed in found if bool(closed.any())]


class Checks:
    """Verifications and promotions that admitted updates ask for."""

    def __init__(self, tables: Tables) -> None:
        """Read which rows ask for what."""
        self._numbers = [n for n, obligation in enumerate(tables.obligations) if obligation.kind in _CHECKED]
        self._asked = _asked(tables, self._numbers)

    def asked(self, spendings: Sequence[Spending]) -> frozenset[int]:
        """Return the positions of the obligations of all updates that are admitted."""
        found: set[int] = set()
        for one in spendings if self._numbers else ():
            admitted = one.batch.route[(one.shares > 0).any(1)]
            found.update(self._asked.index_select(0, admitted).sum(0).nonzero().squeeze(1).tolist())
        return frozenset(self._numbers[n] for n in found)


class Deferrals:
    """Since which epoch each example waits for each obligation, and whether that has been long enough."""

    def __init__(self, tables: Tables) -> None:
        """Start with nobody waiting."""
        self._waits = torch.tensor([row.effect == "defer" for row in tables.rows], device="cpu")
        self._pending = [row.obligations if row.effect == "defer" else () for row in tables.rows]
        self._epochs = [_number(one, "epochs") if one.kind == "defer" else 0 for one in tables.obligations]
        self._ever = bool(self._waits.any())
        self.since: dict[int, dict[int, int]] = {}
        """By example and obligation, the epoch of the first deferral."""
        self._open: dict[int, dict[int, int]] = {}

    def begin_step(self) -> None:
        """Forget what an uncompleted step noted."""
        self._open.clear()

    def judge(self, batch: Batch, epoch: int) -> tuple[Batch, Tensor]:
        """Return the batch with what has waited too long marked, and which of its visits still wait by their row."""
        if not self._ever:
            return batch, torch.zeros_like(batch.route, dtype=torch.bool)
        waits = self._waits.index_select(0, batch.route)
        if not (self.since or self._open or bool(waits.any())):
            return batch, waits
        visits = zip(batch.scheduled.index.tolist(), batch.route.tolist(), strict=True)
        expired = torch.tensor(
            [self._expires(index, route, epoch) for index, route in visits], dtype=torch.bool, device="cpu"
        )
        late = (expired & (batch.surprisal != NOT_FINITE)).unsqueeze(1)
        reasons = batch.reasons.masked_fill(late, int(Reason.DEFERRAL_EXPIRED))
        return replace(batch, reasons=reasons), waits & ~expired

    def book(self) -> None:
        """Remember what the step noted."""
        for index, since in self._open.items():
            if since:
                self.since[index] = since
            else:
                self.since.pop(index, None)
        self._open.clear()

    def _expires(self, index: int, route: int, epoch: int) -> bool:
        """Note one visit, and say whether the deferral of its row has expired."""
        known = self._open.get(index, self.since.get(index, {}))
        pending = self._pending[route]
        if index == UNKNOWN or not (known or pending):
            return False
        self._open[index] = {obligation: known.get(obligation, epoch) for obligation in pending}
        return any(epoch - first >= self._epochs[obligation] for obligation, first in self._open[index].items())


@dataclass(frozen=True, slots=True)
class _Limit:
    """At most `updates` of any `steps` steps in a row write each of the groups."""

    obligation: int
    groups: tuple[int, ...]
    updates: int
    steps: int


def _limits(obligations: Sequence[ObligationTable]) -> Iterable[_Limit]:
    """Yield the frequency limits that can ever bind."""
    for number, one in enumerate(obligations):
        if one.kind == "frequency":
            groups = one.parameters["groups"]
            limit = _Limit(
                number, groups if isinstance(groups, tuple) else (), _number(one, "updates"), _number(one, "steps")
            )
            if limit.updates < limit.steps:
                yield limit


def _number(obligation: ObligationTable, name: str) -> int:
    value = obligation.parameters.get(name)
    if not isinstance(value, int):
        raise BundleError(f"the obligation `{obligation.text}` has no number `{name}`")
    return value


def _asked(tables: Tables, numbers: Sequence[int]) -> Tensor:
    """Return which row asks for which of some obligations, as 0 and 1, shape (rows, k)."""
    asked = [[int(number in row.obligations) for number in numbers] for row in tables.rows]
    return torch.tensor(asked, dtype=torch.int64, device="cpu").reshape(len(tables.rows), len(numbers))
