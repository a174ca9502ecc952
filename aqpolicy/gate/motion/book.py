"""What the optimizer did with what the gate let through: movement per group, and whether the books close.

The step is computed a second time, from the applied gradient and a state of its
own; the residual compares it with what really happened. `torch.optim.SGD` is
booked always, Adam and AdamW where accounts are kept, for their books take as
much memory as the optimizer's own state. Others are measured, not booked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final

import torch
from torch import Tensor

from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.motion.lengths import lengths
from aqpolicy.gate.motion.rules import BOOKABLE, State, rule_of
from aqpolicy.gate.motion.tables import Touched
from aqpolicy.gate.routing.groups import Group
from aqpolicy.lineage import NOT_BOOKED

UNEXPLAINED: Final = 1e-4
"""Part of a step that single precision may leave unexplained."""

_SINGLE: Final = 4
"""Bytes of a number in single precision."""

_PER_PARAMETER: Final = frozenset({"params", "param_names"})


@dataclass(frozen=True, slots=True)
class Accounts:
    """What the proposed change of a step is made of, before any factor.

    Shapes:
        fresh, carry, decay (g).

    Units:
        l2 norms per group.
    """

    fresh: tuple[float, ...]
    carry: tuple[float, ...]
    decay: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One step of the optimizer; what is left out is nothing special.

    Units:
        movement, proposed: l2 norm of the change, as it was kept and as the optimizer made it; residual: relative to
        the latter, `NOT_BOOKED` where not reconstructed; drift: nats; charges: millionths, per budget.
    """

    optimizer: str
    lr: float
    momentum: float
    dampening: float
    weight_decay: float
    nesterov: bool
    movement: tuple[float, ...]
    residual: tuple[float, ...]
    closed: tuple[bool, ...]
    mixed: bool = False
    """The optimizer's parameter groups have different settings; those given here are of the first."""
    loss_scale: float = 1.0
    proposed: tuple[float, ...] = ()
    factors: tuple[float, ...] = ()
    """What was left of each group's change: 1 all of it, 0 it was put back."""
    drift: tuple[float, ...] = ()
    clip: tuple[float, ...] = ()
    """What each group's admitted gradient was multiplied by before the optimizer saw it."""
    movement_charges: tuple[int, ...] = ()
    drift_charges: tuple[int, ...] = ()
    touched: Touched = ()
    """Rows of embedding tables that have a gradient (`tables`)."""
    accounts: Accounts | None = None
    second_momentum: float = 0.0
    epsilon: float = 0.0
    amsgrad: bool = False
    decoupled: bool = False


class Bookkeeper:
    """The second set of books of one optimizer."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        groups: Sequence[Group],
        *,
        resumed: bool = False,
        accounts: bool = False,
    ) -> None:
        """Start with an empty state; that of a resumed run follows with `load_state_dict`.

        Args:
            optimizer: The optimizer, before its first step.
            groups: The depth groups.
            resumed: Whether a run goes on.
            accounts: Whether every change is split into what made it, and refused where something else did.

        Raises:
            IllegalTrainingSetupError: The optimizer has stepped before, and no run is resumed; or it has no rule that
                accounts could be kept by.
        """
        self.optimizer, self.groups = optimizer, groups
        self.name = type(optimizer).__name__
        self._rule = rule_of(optimizer)
        if accounts and self._rule is None:
            raise IllegalTrainingSetupError(
                f"`{self.name}` cannot be booked, so nothing could be traced through its steps; use {BOOKABLE}, or "
                'record="norms"'
            )
        self._keeps = accounts
        self._plain = type(optimizer) is torch.optim.SGD
        self.exact = self._plain or accounts
        self._parameters = [parameter for group in groups for parameter in group.parameters]
        self._buffers: dict[int, Tensor] = {}
        self._states: dict[int, State] = {}
        self._moves: dict[int, Tensor] = {}
        # Adagrad has a state at once, of step 0.
        stepped = any(float(state.get("step", 1.0)) for state in optimizer.state.values())
        if stepped and not resumed:
            raise IllegalTrainingSetupError("the optimizer has stepped before; attach a fresh one")

    @property
    def mixed(self) -> bool:
        """Whether the optimizer's parameter groups have different settings at present."""
        first, *rest = map(_settings, self.optimizer.param_groups)
        return any(other != first for other in rest)

    def expected(
        self, before: Sequence[Tensor], gradients: Sequence[Tensor | None]
    ) -> tuple[list[Tensor | None], Accounts | None]:
        """Return the movement of every parameter that the optimizer makes of these gradients, and what it is made of.

        None where it makes none, and where no accounts are kept. The tensors are good until the next call, or until
        `residuals` uses them up.
        """
        if not self._plain:
            return self._split(before, gradients)
        accounts = self._scaled(before, gradients) if self._keeps else None
        return self._plainly(before, gradients), accounts

    def _plainly(self, before: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return what SGD makes of gradients.

        Source: the update rule in the documentation of `torch.optim.SGD`; `rules.Sgd` is the same, slower and in parts.
        """
        moves: list[Tensor | None] = [None] * len(before)
        for settings, numbers in self._by_settings(gradients):
            made = self._steps(numbers, [before[n] for n in numbers], [_given(gradients[n]) for n in numbers], settings)
            for number, move in zip(numbers, made, strict=True):
                moves[number] = move
        return moves

    def _scaled(self, before: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> Accounts:
        """Return the accounts of a step of SGD: each is a multiple of a norm, so no tensor is made."""
        norms = iter(lengths([tensor for n, one in enumerate(gradients) for tensor in self._parts(n, before[n], one)]))
        fresh, carry, decay = ([0.0] * len(before) for _ in range(3))
        for settings, numbers in self._by_settings(gradients):
            rate, momentum = float(settings["lr"]), float(settings["momentum"])
            for number in numbers:
                known = number in self._buffers
                weight = 1.0 - float(settings["dampening"]) if known else 1.0
                entering, ageing = (weight, momentum) if momentum else (1.0, 0.0)
                if settings["nesterov"]:
                    entering, ageing = 1.0 + momentum * weight, momentum * momentum
                fresh[number], carry[number] = rate * entering, rate * ageing
                decay[number] = rate * entering * float(settings["weight_decay"])
        for number, gradient in enumerate(gradients):
            if gradient is not None:
                fresh[number] *= next(norms)
                decay[number] *= next(norms)
                carry[number] *= next(norms) if number in self._buffers else 0.0
        return Accounts(*map(self._together, (fresh, carry, decay)))

    def _parts(self, number: int, value: Tensor, gradient: Tensor | None) -> list[Tensor]:
        if gradient is None:
            return []
        return [gradient, value, self._buffers[number]] if number in self._buffers else [gradient, value]

    def _split(
        self, before: Sequence[Tensor], gradients: Sequence[Tensor | None]
    ) -> tuple[list[Tensor | None], Accounts]:
        """Return the movement by a rule in full, and what it is made of."""
        assert self._rule is not None, "an optimizer without a rule has no accounts"  # noqa: S101 - for mypy
        moves: list[Tensor | None] = [None] * len(before)
        columns = tuple([0.0] * len(before) for _ in range(3))
        for settings, numbers in self._by_settings(gradients):
            for number in numbers:
                # In single precision at least: what low precision loses is an account of its own.
                value, gradient = widened(before[number]), widened(_given(gradients[number]))
                parts = self._rule.split(value, gradient, settings, self._states.setdefault(number, {}))
                moves[number] = parts.whole
                for column, norm in zip(columns, lengths([parts.fresh, parts.carry, parts.decay]), strict=True):
                    column[number] = norm
        return moves, Accounts(*map(self._together, columns))

    def _together(self, norms: Sequence[float]) -> tuple[float, ...]:
        """Return the norm per group from norms per parameter."""
        ends = list(accumulate([len(group.parameters) for group in self.groups], initial=0))
        return tuple(math.hypot(*norms[start:end]) for start, end in pairwise(ends))

    def refuse_unexplained(
        self, accounts: Accounts, before: Sequence[Tensor], residual: Sequence[float], proposed: Sequence[float]
    ) -> None:
        """Refuse a step that went further than its accounts say: something else wrote to the parameters.

        Of groups in low precision nothing is refused; rounding is a large part of their steps.

        Shapes:
            before: one value per parameter; residual, proposed (g).

        Raises:
            IllegalTrainingSetupError: A group did.
        """
        sizes = self._norms(before)
        columns = zip(self.groups, sizes, residual, proposed, accounts.fresh, accounts.carry, strict=True)
        for group, size, part, length, fresh, carry in columns:
            if any(parameter.dtype.itemsize < _SINGLE for parameter in group.parameters) or not group.parameters:
                continue
            epsilon = torch.finfo(group.parameters[0].dtype).eps
            unexplained = part * length if length else part
            if unexplained > epsilon * size + UNEXPLAINED * max(length, fresh, carry):
                raise IllegalTrainingSetupError(
                    f"group `{group.name}` moved by more than its gradient, momentum and weight decay explain "
                    f"({part:.1e} of the step); something else wrote to its parameters in optimizer.step"
                )

    def state_dict(self) -> dict[int, Any]:
        """Return what is remembered of every parameter, by its number, not copied."""
        return dict(self._buffers) if self._plain else {number: dict(state) for number, state in self._states.items()}

    def load_state_dict(self, state: Mapping[int, Any]) -> None:
        """Go on from what `state_dict` returned; it is copied."""
        if self._plain:
            self._buffers = {number: buffer.detach().clone() for number, buffer in state.items()}
        else:
            self._states = {
                number: {key: _copied(value) for key, value in one.items()} for number, one in state.items()
            }

    def movement(self, deltas: Sequence[Tensor]) -> tuple[float, ...]:
        """Return the l2 norm per group of one change per parameter, in double precision."""
        return tuple(self._norms(deltas))

    def residuals(self, deltas: Sequence[Tensor], expected: Sequence[Tensor | None]) -> tuple[float, ...]:
        """Return, per group, the part of a change that was not expected, relative to the change; uses `expected` up."""
        held = [(delta, other) for delta, other in zip(deltas, expected, strict=True) if other is not None]
        if held:
            torch._foreach_sub_([other for _, other in held], [delta.to(other.dtype) for delta, other in held])
        differences = [delta if other is None else other for delta, other in zip(deltas, expected, strict=True)]
        norms = self._norms(deltas, differences)
        sizes, errors = norms[: len(self.groups)], norms[len(self.groups) :]
        return tuple(error / size if size else error for error, size in zip(errors, sizes, strict=True))

    def entry(
        self,
        movement: Sequence[float],
        residual: Sequence[float] | None,
        closed: Sequence[bool],
        *,
        proposed: Sequence[float] | None = None,
        factors: Sequence[float] | None = None,
        drift: Sequence[float] | None = None,
        clip: Sequence[float] | None = None,
        loss_scale: float = 1.0,
        movement_charges: Sequence[int] = (),
        drift_charges: Sequence[int] = (),
        touched: Touched = (),
        accounts: Accounts | None = None,
    ) -> Entry:
        """Return the record of a step that has moved the parameters.

        Args:
            movement: What is left of the change, as `movement` measures it.
            residual: As `residuals` returns it, of the change before any factor; None where it is not known.
            closed: Whether the group had no gradient at all.
            proposed: How far the optimizer moved each group; needed where a factor is below 1.
            factors: What budgets left of it.
            drift: Nats; None where it was not measured.
            clip: What gradients were multiplied by.
            loss_scale: What the losses were multiplied by.
            movement_charges: What every budget is charged for movement.
            drift_charges: What every budget is charged for drift.
            touched: Rows of embedding tables that have a gradient.
            accounts: What the proposed change is made of; None where that is not known.

        Shapes:
            movement, residual, closed, proposed, factors, drift, clip: (g).
        """
        settings = self.optimizer.param_groups[0]
        return Entry(
            optimizer=self.name,
            lr=float(settings["lr"]),
            momentum=float(settings["betas"][0] if self._adaptive else settings.get("momentum", 0.0)),
            dampening=float(settings.get("dampening", 0.0)),
            weight_decay=float(settings.get("weight_decay", 0.0)),
            nesterov=bool(settings.get("nesterov", False)),
            movement=tuple(movement),
            residual=(NOT_BOOKED,) * len(self.groups) if residual is None else tuple(residual),
            closed=tuple(closed),
            mixed=self.mixed,
            loss_scale=loss_scale,
            proposed=tuple(proposed or ()),
            factors=tuple(factors or ()),
            drift=tuple(drift or ()),
            clip=tuple(clip or ()),
            movement_charges=tuple(movement_charges),
            drift_charges=tuple(drift_charges),
            touched=touched,
            accounts=accounts,
            second_momentum=float(settings["betas"][1]) if self._adaptive else 0.0,
            epsilon=float(settings["eps"]) if self._adaptive else 0.0,
            amsgrad=self._adaptive and bool(settings["amsgrad"]),
            decoupled=self._adaptive and bool(settings.get("decoupled_weight_decay")),
        )

    @property
    def _adaptive(self) -> bool:
        return self._rule is not None and not self._plain

    def _by_settings(self, gradients: Sequence[Tensor | None]) -> list[tuple[dict[str, Any], list[int]]]:
        """Return the settings in use, each with the numbers of the parameters that it moves."""
        moving = [number for number, gradient in enumerate(gradients) if gradient is not None]
        if len(self.optimizer.param_groups) == 1:
            return [(self.optimizer.param_groups[0], moving)] if moving else []
        owner = {id(one): at for at, group in enumerate(self.optimizer.param_groups) for one in group["params"]}
        members: dict[int, list[int]] = {}
        for number in moving:
            members.setdefault(owner[id(self._parameters[number])], []).append(number)
        return [(self.optimizer.param_groups[at], numbers) for at, numbers in members.items()]

    def _steps(
        self, numbers: Sequence[int], values: list[Tensor], gradients: list[Tensor], settings: dict[str, Any]
    ) -> list[Tensor]:
        """Return the movement of parameters with the same settings, and keep their momentum."""
        # In place and in memory that is kept: fresh memory of a model's size costs more than all the arithmetic.
        moves = [self._memory(number, gradient) for number, gradient in zip(numbers, gradients, strict=True)]
        plain = settings["momentum"] and not (settings["maximize"] or settings["weight_decay"] or settings["nesterov"])
        if not plain:
            torch._foreach_copy_(moves, gradients)
        if settings["maximize"]:
            torch._foreach_neg_(moves)
        if settings["weight_decay"]:
            torch._foreach_add_(moves, values, alpha=settings["weight_decay"])
        if momentum := settings["momentum"]:
            buffers = self._aged(numbers, gradients if plain else moves, momentum, 1 - settings["dampening"])
            if settings["nesterov"]:
                torch._foreach_add_(moves, buffers, alpha=momentum)
            else:
                torch._foreach_copy_(moves, buffers)
        torch._foreach_mul_(moves, -float(settings["lr"]))
        return moves

    def _memory(self, number: int, gradient: Tensor) -> Tensor:
        if number not in self._moves:
            self._moves[number] = torch.empty_like(gradient, memory_format=torch.contiguous_format)
        return self._moves[number]

    def _aged(self, numbers: Sequence[int], moves: list[Tensor], momentum: float, weight: float) -> list[Tensor]:
        """Return the momentum buffers after this step; a parameter's first one is what it is moved by."""
        known = [at for at, number in enumerate(numbers) if number in self._buffers]
        if known:
            old = [self._buffers[numbers[at]] for at in known]
            torch._foreach_mul_(old, momentum)
            torch._foreach_add_(old, [moves[at] for at in known], alpha=weight)
        for number, move in zip(numbers, moves, strict=True):
            if number not in self._buffers:
                self._buffers[number] = move.clone()
        return [self._buffers[number] for number in numbers]

    def _norms(self, *lists: Sequence[Tensor]) -> list[float]:
        """Return l2 norms per group, of one tensor per parameter; of several such lists one after the other."""
        every = lengths([tensor for one in lists for tensor in one])
        ends = list(accumulate([len(group.parameters) for group in self.groups] * len(lists), initial=0))
        return [math.hypot(*every[start:end]) for start, end in pairwise(ends)]


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key not in _PER_PARAMETER}


def _given(gradient: Tensor | None) -> Tensor:
    assert gradient is not None, "parameters without a gradient are left out"  # noqa: S101 - for mypy
    return gradient


def widened(tensor: Tensor) -> Tensor:
    """Return a tensor in single precision at least."""
    return tensor.float() if tensor.dtype.itemsize < _SINGLE else tensor


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value
