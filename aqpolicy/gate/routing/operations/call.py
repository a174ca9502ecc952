"""One call of a torch function with its tensors taken out, so that it can be run again on others.

A run keeps autograd's own graph of the call, from detached copies of its inputs to
its outputs. So values and gradients are bitwise those of plain training, whatever
the function does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a call on detached inputs."""

    data: tuple[Tensor, ...]
    tracked: tuple[Tensor, ...]
    flat: tuple[Any, ...]
    structure: Any
    differentiable: tuple[int, ...]
    """Which of the flat results have a gradient."""

    @property
    def outs(self) -> tuple[Tensor, ...]:
        """The results that have a gradient."""
        return tuple(self.flat[number] for number in self.differentiable)

    def result(self, outs: Sequence[Tensor]) -> Any:
        """Return the function's result with other tensors in place of those that have a gradient."""
        flat = list(self.flat)
        for number, out in zip(self.differentiable, outs, strict=True):
            flat[number] = out
        return pytree.tree_unflatten(flat, self.structure)


@dataclass(frozen=True, slots=True)
class Call:
    """A function and its arguments, flat."""

    function: Callable[..., Any]
    leaves: tuple[Any, ...]
    structure: Any
    data: tuple[int, ...]
    """Where tensors stood that are no parameters; the call does not keep them."""
    tracked: tuple[int, ...]
    """Where governed parameters and derived tensors stand."""
    autocast: tuple[tuple[str, torch.dtype], ...]
    """Per type of device on which autocast is on, its precision."""

    @property
    def name(self) -> str:
        """The function's name, for people."""
        return str(getattr(self.function, "__name__", self.function)).strip("_")

    def plain(self, data: Sequence[Tensor], tracked: Sequence[Tensor]) -> Any:
        """Run the function on other tensors."""
        leaves = list(self.leaves)
        for number, tensor in zip((*self.data, *self.tracked), (*data, *tracked), strict=True):
            leaves[number] = tensor
        arguments, named = pytree.tree_unflatten(leaves, self.structure)
        with torch._C.DisableTorchFunctionSubclass(), _as_recorded(self.autocast):  # noqa: SLF001 - no other way
            return self.function(*arguments, **named)

    def run(self, data: Sequence[Tensor], tracked: Sequence[Tensor]) -> Run:
        """Run the function on detached tensors, with a graph of its own; hooks on saved tensors see nothing of it."""
        with torch.enable_grad(), undisturbed():
            inputs = tuple(tensor.detach().requires_grad_(tensor.requires_grad) for tensor in data)
            parameters = tuple(tensor.detach().requires_grad_() for tensor in tracked)
            flat, structure = pytree.tree_flatten(self.plain(inputs, parameters))
        chosen = (number for number, leaf in enumerate(flat) if isinstance(leaf, Tensor) and leaf.requires_grad)
        return Run(inputs, parameters, tuple(flat), structure, tuple(chosen))


def read_call(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    named: dict[str, Any],
    is_tracked: Callable[[object], bool],
) -> tuple[Call, list[Tensor]]:
    """Take a call apart: the call, and the tensors that are no parameters."""
    leaves, structure = pytree.tree_flatten((arguments, named))
    tracked = tuple(number for number, leaf in enumerate(leaves) if is_tracked(leaf))
    data = tuple(number for number, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and number not in tracked)
    devices = {leaves[number].device.type for number in (*data, *tracked)}
    autocast = tuple((kind, torch.get_autocast_dtype(kind)) for kind in devices if torch.is_autocast_enabled(kind))
    held = [leaves[number] for number in data]
    kept = tuple(None if number in data else leaf for number, leaf in enumerate(leaves))
    return Call(function, kept, structure, data, tracked, autocast), held


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A function that changes its first argument, made to change a copy and return it."""

    function: Callable[..., Any]

    @property
    def __name__(self) -> str:
        """The name of the function."""
        return str(self.function.__name__)

    def __call__(self, target: Tensor, *rest: Any, **named: Any) -> Tensor:
        """Change a copy."""
        copy = target.clone()
        self.function(copy, *rest, **named)
        return copy


def random_state(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the states of the random generators that an operation on these tensors may use."""
    devices = {tensor.device for tensor in tensors if tensor.device.type == "cuda"}
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in sorted(devices, key=str))]


def restore_random_state(tensors: Sequence[Tensor], states: Sequence[Tensor]) -> None:
    """Put the random generators back."""
    devices = {tensor.device for tensor in tensors if tensor.device.type == "cuda"}
    torch.set_rng_state(states[0])
    for device, state in zip(sorted(devices, key=str), states[1:], strict=True):
        torch.cuda.set_rng_state(state, device)


@contextmanager
def _as_recorded(autocast: tuple[tuple[str, torch.dtype], ...]) -> Iterator[None]:
    """Run under the autocast of the forward pass, also in backward, where there is none."""
    with ExitStack() as stack:
        for kind, dtype in autocast:
            if not torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, dtype=dtype))
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep what is saved for backward as it is, also inside a checkpoint."""
    if not are_saved_tensors_packed():
        yield
        return
    with torch.autograd.graph.saved_tensors_hooks(_same, _same):
        yield


def are_saved_tensors_packed() -> bool:
    """Return whether hooks on saved tensors are in force, as those of a checkpoint."""
    return torch._C._autograd._top_saved_tensors_default_hooks(False) is not None  # noqa: SLF001 - the only way to ask


def _same(tensor: Tensor) -> Tensor:
    return tensor
