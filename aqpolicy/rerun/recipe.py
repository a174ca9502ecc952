"""A recipe: a training as a function that can be called again.

It is called with a `Rerun`, builds model and data in a way that depends on nothing
else, attaches through `rerun.attach`, trains from `gate.state.step` on, closes the
gate and returns the model. All that a run decides (policy, manifest, log, what is
refused) comes from whoever calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from aqpolicy.errors import AqpolicyError, IllegalTrainingSetupError, InputError
from aqpolicy.gate import Gate, attach
from aqpolicy.rerun.digest import training_digest
from aqpolicy.trace.behaviour import Named

OWN: Final = frozenset({"metrics", "probes", "scaler", "clip", "progress", "durability"})
"""What a recipe itself says of its gate; everything else is the run's."""

Attach = Callable[[nn.Module, torch.optim.Optimizer, Mapping[str, Any]], Gate]
"""Puts a gate between model and optimizer, given what the recipe says of it."""


class Rerun:
    """What a recipe is called with: the run that it is to be."""

    def __init__(self, attach: Attach, contents: Mapping[str, str] | None = None) -> None:
        """Take how the gate is attached, and whose contents stand in for whose."""
        self._attach, self._contents = attach, dict(contents or {})
        self.made: tuple[Gate, torch.optim.Optimizer] | None = None

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer, **own: Any) -> Gate:
        """Attach the gate, in the place of `aqpolicy.gate.attach`.

        Args:
            model: The model, as the training begins with it.
            optimizer: Its optimizer, fresh.
            own: Any of `metrics`, `probes`, `scaler`, `clip`, `progress` and `durability`; the rest is filled in.

        Raises:
            InputError: Something is given that is filled in.
            IllegalTrainingSetupError: The recipe has attached already.
            AqpolicyError: As `aqpolicy.gate.attach`.
        """
        if others := sorted(own.keys() - OWN):
            raise InputError(f"leave {', '.join(others)} out of rerun.attach; what a run decides is filled in")
        if self.made is not None:
            raise IllegalTrainingSetupError("a recipe attaches one gate, once; train the rest without one")
        gate = self._attach(model, optimizer, own)
        self.made = (gate, optimizer)
        return gate

    def content(self, example_id: str) -> str:
        """Return the id of the example whose content (input and label) the recipe is to use for this one.

        It is the example itself, but where a measurement exchanges contents.
        """
        return self._contents.get(example_id, example_id)


@dataclass(frozen=True, slots=True)
class Trained:
    """What a recipe left behind."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    gate: Gate

    @property
    def digest(self) -> str:
        """A digest of every parameter, buffer and state of the optimizer, bit for bit."""
        return training_digest(self.gate.machinery.model, self.optimizer)

    @property
    def steps(self) -> int:
        """How many steps were taken, those before a checkpoint included."""
        return self.gate.state.step

    def ends(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Return, per depth group, all its parameters as one vector in double precision: before training, and now."""
        shadow = self.gate.machinery.mover.shadow
        then = {id(p): value for p, value in zip(shadow.parameters, self.gate.machinery.start, strict=True)}
        return tuple(
            (_flat([then[id(p)] for p in group.parameters]), _flat(list(group.parameters)))
            for group in self.gate.machinery.mover.groups
        )


def train_again(recipe: Named, attach: Attach, contents: Mapping[str, str] | None = None) -> Trained:
    """Call a recipe.

    Args:
        recipe: From `trace.behaviour.find_function`.
        attach: How its gate is attached (`origin`).
        contents: Whose content stands in for whose, by example id.

    Raises:
        InputError: It fails, attaches no gate, leaves it open, or returns no module.
        AqpolicyError: What the gate raised.
    """
    rerun = Rerun(attach, contents)
    try:
        model = recipe.call(rerun, *(() if recipe.argument is None else (recipe.argument,)))
        if rerun.made is None:
            raise InputError(f"`{recipe.text}` attached no gate; it calls rerun.attach(model, optimizer)")
        if not rerun.made[0].machinery.recorder.closed:
            raise InputError(f"`{recipe.text}` left its gate open; it ends with gate.close()")
        if not isinstance(model, nn.Module):
            raise InputError(f"`{recipe.text}` returned a {type(model).__name__}, not the trained module")
    except BaseException as error:
        if rerun.made is not None and not rerun.made[0].machinery.recorder.closed:
            leave(rerun.made[0])
        if isinstance(error, AqpolicyError) or not isinstance(error, Exception):
            raise
        raise InputError(f"`{recipe.text}` failed: {type(error).__name__}: {error}") from error
    gate, optimizer = rerun.made
    return Trained(model, optimizer, gate)


def first(recipe: Named, **arguments: Any) -> Trained:
    """Train a run for the first time by a recipe that later trains it again.

    Args:
        recipe: The recipe.
        arguments: What `aqpolicy.gate.attach` takes, but for what the recipe says of its gate.

    Raises:
        AqpolicyError: As `train_again`.
    """

    def attached(model: nn.Module, optimizer: torch.optim.Optimizer, own: Mapping[str, Any]) -> Gate:
        return attach(model, optimizer, **arguments, **own)

    return train_again(recipe, attached)


def leave(gate: Gate) -> None:
    """Leave no gate and no writer of a log behind a training that failed; the log has no end then."""
    gate.detach()
    if (log := gate.machinery.recorder.log) is not None:
        getattr(log, "abandon", log.close)()


def _flat(values: list[Any]) -> Tensor:
    if not values:
        return torch.zeros(0, dtype=torch.float64)
    return torch.cat([value.detach().to("cpu", torch.float64).reshape(-1) for value in values])
