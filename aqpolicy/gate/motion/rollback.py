"""A training state that can come back bit by bit: trained parameters, buffers, and the optimizer.

A state is a copy on the same device. What schedulers write into the optimizer's
settings (the learning rate above all) is the loop's and stays as it is; all other
settings go back, because some optimizers count in them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn

from aqpolicy.errors import IllegalTrainingSetupError

SCHEDULED: Final = frozenset(
    {"lr", "initial_lr", "max_lr", "min_lr", "momentum", "max_momentum", "base_momentum", "betas"}
)
"""Settings that torch's schedulers write."""


class Stateful(Protocol):
    """Something whose state goes back with the model's."""

    def state_dict(self) -> Any:
        """Return the state."""

    def load_state_dict(self, state: Any) -> Any:
        """Take a state over."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A copy of all that training has made."""

    steps: int
    """After how many steps it was taken."""
    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor | None]
    optimizer: Sequence[tuple[Any, Any]]
    """What the optimizer keeps of each parameter, by the parameter's number."""
    settings: Sequence[Mapping[str, Any]]
    """Per group of the optimizer's, its settings."""
    also: Sequence[Any]

    @classmethod
    def of(cls, steps: int, model: nn.Module, optimizer: torch.optim.Optimizer, also: Sequence[Stateful] = ()) -> State:
        """Copy the present state."""
        number = {id(parameter): at for at, parameter in enumerate(_held(optimizer))}
        return cls(
            steps=steps,
            parameters={name: copied(value) for name, value in model.named_parameters() if value.requires_grad},
            buffers={name: copied(owner._buffers[key]) for name, owner, key in _buffers(model)},  # noqa: SLF001 - torch has no other door
            optimizer=[(number.get(id(key), key), copied(value)) for key, value in optimizer.state.items()],
            settings=[_settings(group) for group in optimizer.param_groups],
            also=[copied(one.state_dict()) for one in also],
        )

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer, also: Sequence[Stateful] = ()) -> None:
        """Put everything back; the state stays good for another time.

        Raises:
            IllegalTrainingSetupError: The model or the optimizer has other parameters than then; nothing was changed.
        """
        parameters, held = dict(model.named_parameters()), list(_held(optimizer))
        if not self.parameters.keys() <= parameters.keys() or len(self.settings) != len(optimizer.param_groups):
            raise IllegalTrainingSetupError("the model has other parameters than its last verified state; attach again")
        with torch.no_grad():
            for name, value in self.parameters.items():
                parameters[name].copy_(value)
            for name, owner, key in _buffers(model):
                if name in self.buffers:
                    _put_buffer(owner, key, self.buffers[name])
        # Not `load_state_dict`: it casts what an optimizer keeps to the parameter's type.
        optimizer.state.clear()
        for at, value in self.optimizer:
            optimizer.state[held[at] if isinstance(at, int) else at] = copied(value)
        for group, settings in zip(optimizer.param_groups, self.settings, strict=True):
            group.update(copied(dict(settings)))
        for one, value in zip(also, self.also, strict=True):
            one.load_state_dict(copied(value))

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain containers of tensors, not copied."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> State:
        """Read what `state_dict` returned.

        Raises:
            IllegalTrainingSetupError: It is something else.
        """
        if found.keys() != {field.name for field in fields(cls)}:
            raise IllegalTrainingSetupError("the saved state holds no verified state that can be read; attach anew")
        return cls(**found)


def copied(value: Any) -> Any:
    """Return a deep copy in which tensors are on the same device and have no history."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: copied(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)) and type(value) in {list, tuple}:
        return type(value)(map(copied, value))
    return copy.deepcopy(value)


def _held(optimizer: torch.optim.Optimizer) -> Iterator[Any]:
    return (parameter for group in optimizer.param_groups for parameter in group["params"])


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: copied(value) for key, value in group.items() if key != "params" and key not in SCHEDULED}


def _buffers(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Yield name, module and key of every buffer, of those that are not saved and those that are None as well."""
    for name, module in model.named_modules():
        for key in module._buffers:  # noqa: SLF001 - torch has no other door
            yield f"{name}.{key}" if name else key, module, key


def _put_buffer(owner: nn.Module, key: str, value: Tensor | None) -> None:
    present = owner._buffers[key]  # noqa: SLF001 - torch has no other door
    if present is None or value is None or (present.shape, present.dtype) != (value.shape, value.dtype):
        owner._buffers[key] = copied(value)  # noqa: SLF001 - torch has no other door
    else:
        present.copy_(value)
