"""Let the optimizer move the parameters, and measure what it did: clip, step, closed groups, movement and drift.

What a movement or drift budget does not allow is scaled, or put back, in the
groups that the budget covers. Whoever calls puts everything back where a step
fails (`Shadow.restore`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.motion.book import Bookkeeper, Entry
from aqpolicy.gate.motion.checks import Shadow
from aqpolicy.gate.motion.drift import DriftMeter
from aqpolicy.gate.motion.meters import Meters
from aqpolicy.gate.motion.settle import Ruling
from aqpolicy.gate.motion.tables import EmbeddingTables, touched_rows
from aqpolicy.gate.routing.groups import Group
from aqpolicy.gate.routing.leaks import identity
from aqpolicy.gate.routing.reading import largest, read


class Mover:
    """The optimizer of a run, and all that stands behind it."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        groups: Sequence[Group],
        meters: Meters,
        *,
        drift: DriftMeter | None = None,
        scaler: Any = None,
        clip: float | None = None,
        resumed: bool = False,
        tables: EmbeddingTables = (),
        accounts: bool = False,
    ) -> None:
        """Copy the parameters; nobody but this object may step the optimizer from now on.

        Args:
            optimizer: The optimizer.
            groups: The depth groups.
            meters: What movement and drift budgets have left.
            drift: What measures drift, where a budget asks.
            scaler: A gradient scaler.
            clip: The largest norm of each group's gradient.
            resumed: Whether a run goes on.
            tables: Embedding tables whose touched rows are recorded.
            accounts: Whether every step is split into what made it (`Bookkeeper`).
        """
        self._tables = tables
        self.optimizer, self.groups, self.meters = optimizer, tuple(groups), meters
        self.book = Bookkeeper(optimizer, groups, resumed=resumed, accounts=accounts)
        self.shadow = Shadow(groups)
        self._drift, self._scaler, self._clip = drift, scaler, clip
        if scaler is not None and self.shadow.parameters:
            scaler.scale(self.shadow.parameters[0].new_ones(()).detach())  # it makes its counters at the first use
        self._stepping = False
        self._given: list[tuple[int, int] | None] = []
        self._hook = optimizer.register_step_pre_hook(self._refuse_step)
        where = {id(parameter): number for number, parameter in enumerate(self.shadow.parameters)}
        self._members = [[where[id(parameter)] for parameter in group.parameters] for group in groups]

    @property
    def scale(self) -> float:
        """What losses are multiplied by for the sake of short floating point."""
        return 1.0 if self._scaler is None else float(self._scaler.get_scale())

    def state_dict(self) -> dict[str, Any]:
        """Return what optimizer and scaler must remember to go on."""
        scaler = None if self._scaler is None else self._scaler.state_dict()
        return {"optimizer": self.optimizer.state_dict(), "scaler": scaler}

    def release(self) -> None:
        """Give the optimizer back to the loop."""
        self._hook.remove()

    def move(self, concerned: Sequence[bool], admitted: Sequence[bool], *, broken: bool) -> tuple[Entry, Ruling]:
        """Step the optimizer, let movement and drift budgets judge it, and return what came of it.

        Args:
            concerned: Per budget, whether the step has updates that it charges.
            admitted: Per group, whether any example was.
            broken: Whether an example's gradient was not finite, so that the loss scale must shrink.

        Raises:
            IllegalTrainingSetupError: A closed group moved, or a movement is not finite.
        """
        self._close(admitted)
        scale = self.scale
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
        clips = None if self._clip is None else self._clip_groups(self._clip)
        gradients = [parameter.grad for parameter in self.shadow.parameters]
        touched = touched_rows(self._tables)
        expected, accounts = None, None
        if self.book.exact and self._scaler is None:
            expected, accounts = self.book.expected(self._ordered(self.shadow.values), self._ordered(gradients))
        watched = self._drift is not None and self.meters.watches("drift", concerned)
        if self._drift is not None and not watched:
            self._drift.forget()
        change = _Change(self, self._drift if watched else None)
        self._step(shrink=broken)
        deltas = self.shadow.deltas()
        self._refuse_closed_movement(gradients, deltas)
        change.deltas = deltas
        proposed = change.movement()
        if not all(size < float("inf") for size in proposed):
            raise IllegalTrainingSetupError("the optimizer step is not finite; lower the learning rate")
        residual = None if expected is None else self.book.residuals(self._ordered(deltas), expected)
        if accounts is not None and residual is not None:
            self.book.refuse_unexplained(accounts, self._ordered(self.shadow.values), residual, proposed)
        ruling = self.meters.settle(change, concerned)
        entry = self.book.entry(
            ruling.movement,
            residual,
            [all(gradients[number] is None for number in members) for members in self._members],
            proposed=proposed,
            factors=ruling.factors,
            drift=ruling.drift,
            clip=clips,
            loss_scale=scale,
            movement_charges=ruling.movement_charges,
            drift_charges=ruling.drift_charges,
            touched=touched,
            accounts=accounts,
        )
        return entry, ruling

    def returned(self) -> None:
        """Take the parameters as they are for those of the last step: an earlier state has come back."""
        self.shadow.accept()
        if self._drift is not None:
            self._drift.forget()

    def still(self) -> Entry:
        """Return the entry of a step in which nothing moved."""
        count = len(self.groups)
        return self.book.entry([0.0] * count, None, [True] * count)

    def _ordered(self, values: Sequence[Any]) -> list[Any]:
        """Return values of parameters in the order of the groups; a tied one is in each of its groups."""
        return [values[number] for members in self._members for number in members]

    def _close(self, admitted: Sequence[bool]) -> None:
        """Take away the gradients of zeros that other ranks had to be sent."""
        pairs = zip(self._members, admitted, strict=True)
        opened = {number for members, let_in in pairs if let_in for number in members}
        for number, parameter in enumerate(self.shadow.parameters):
            if number not in opened:
                parameter.grad = None

    def _clip_groups(self, most: float) -> list[float]:
        """Clip the gradient of each group on its own, so that none depends on what others let in."""
        coefficients = []
        for group in self.groups:
            gradients = [parameter.grad for parameter in group.parameters if parameter.grad is not None]
            norms = torch._foreach_norm(gradients) if gradients else []  # noqa: SLF001 - one launch for all
            norm = float(torch.linalg.vector_norm(torch.stack(list(norms)))) if gradients else 0.0
            coefficients.append(most / norm if norm > most else 1.0)
            if coefficients[-1] < 1.0:
                torch._foreach_mul_(gradients, coefficients[-1])
        return coefficients

    def _step(self, *, shrink: bool) -> None:
        # Last of all hooks, so that it sees what they did.
        self._hook.remove()
        self._hook = self.optimizer.register_step_pre_hook(self._refuse_step)
        with self._allowed():
            if self._scaler is None:
                self.optimizer.step()
                return
            self._scaler.step(self.optimizer)
        # The gate leaves an example out whose gradient overflowed, so the scaler does not see it: it is told.
        self._scaler.update(self.scale * self._scaler.get_backoff_factor() if shrink else None)

    @contextmanager
    def _allowed(self) -> Iterator[None]:
        self._stepping = True
        self._given = self._gradients()
        try:
            yield
        finally:
            self._stepping = False

    def _refuse_step(self, *_: Any) -> None:
        if not self._stepping:
            raise IllegalTrainingSetupError("optimizer.step was called by the loop; leaving the gate's step does it")
        self._refuse_hooks()

    def _refuse_hooks(self) -> None:
        """Refuse gradients that a hook before the optimizer's step has changed."""
        if self._gradients() != self._given:
            raise IllegalTrainingSetupError(
                "a hook changed gradients before the optimizer's step; give attach clip=..., or bound them by policy"
            )

    def _gradients(self) -> list[tuple[int, int] | None]:
        return [identity(parameter.grad) for parameter in self.shadow.parameters]

    def _refuse_closed_movement(self, gradients: Sequence[Tensor | None], deltas: Sequence[Tensor]) -> None:
        still = [number for number, gradient in enumerate(gradients) if gradient is None]
        moved = {number for number, size in zip(still, read(largest([deltas[n] for n in still])), strict=True) if size}
        for group, members in zip(self.groups, self._members, strict=True):
            if not moved.isdisjoint(members):
                raise IllegalTrainingSetupError(f"the optimizer moved group `{group.name}` although it was closed")


class _Change:
    """What the optimizer did in one step, while it can still be taken back."""

    def __init__(self, mover: Mover, drift: DriftMeter | None) -> None:
        """Measure what the groups represent before the step, where a drift budget will ask."""
        self._mover, self._drift = mover, drift
        self._before = () if drift is None else drift.present()
        self.deltas: list[Tensor] = []
        self._factors = [1.0] * len(mover.shadow.parameters)

    def movement(self) -> Sequence[float]:
        """Return the l2 norm of every group's present change."""
        mover, whole = self._mover, all(factor == 1.0 for factor in self._factors)
        deltas = self.deltas if whole else mover.shadow.deltas()
        return mover.book.movement(mover._ordered(deltas))  # noqa: SLF001 - two halves of one thing

    def drift(self) -> Sequence[float]:
        """Return how far every group's representation has drifted since before the step."""
        if self._drift is None:
            return ()
        now = self._drift.measure()
        return [abs(after - before) for after, before in zip(now, self._before, strict=True)]

    def apply(self, factors: Sequence[float]) -> None:
        """Put every parameter to where it was plus factor times what the optimizer did; a tied one to the least."""
        mover, least = self._mover, [1.0] * len(self._factors)
        for factor, members in zip(factors, mover._members, strict=True):  # noqa: SLF001 - two halves of one thing
            for number in members:
                least[number] = min(least[number], factor)
        with torch.no_grad():
            for number, (now, then) in enumerate(zip(self._factors, least, strict=True)):
                if now == then:
                    continue
                parameter, value = mover.shadow.parameters[number], mover.shadow.values[number]
                parameter.copy_(value if then == 0 else value + then * self.deltas[number])
        self._factors = least
        if self._drift is not None:
            self._drift.forget()
