"""Every other road to a governed parameter's gradient, watched: only what the gate issued may arrive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.routing.token import Strand


class LeakCheck:
    """A hook on every governed parameter: only the gradient that the gate issued may arrive."""

    def __init__(self, strands: Sequence[Strand]) -> None:
        """Install the hooks."""
        self._handles: list[RemovableHandle] = []
        self._watched: list[tuple[str, Any]] = []
        for strand in strands:
            named = {id(p): (flow, n, p) for flow in strand.flows for n, p in flow.group.members}
            for flow, name, parameter in named.values():
                guard = _guard(strand, flow.group.name, name, parameter)
                self._handles.append(parameter.register_hook(guard))  # type: ignore[no-untyped-call]  # torch
                self._watched.append((name, parameter))

    def refuse_others(self) -> None:
        """Refuse hooks of others on governed parameters: they would change a gradient behind the gate's.

        Raises:
            IllegalTrainingSetupError: There is one; its parameter is named.
        """
        for name, parameter in self._watched:
            if len(parameter._backward_hooks) > 1 or parameter._post_accumulate_grad_hooks:  # noqa: SLF001 - torch has no other door
                raise IllegalTrainingSetupError(
                    f"parameter `{name}` has a gradient hook beside the gate's; remove it, and bound gradients in the "
                    "policy (`limit norm`) instead"
                )

    def remove(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()


def _guard(strand: Strand, group: str, name: str, parameter: nn.Parameter) -> Callable[[Tensor | None], None]:
    key = id(parameter)

    def check(gradient: Tensor | None) -> None:
        # Anything that adds to the issued tensor makes another one, or another version of it.
        if gradient is not None and strand.issued.get(key) != (gradient.data_ptr(), gradient._version):  # noqa: SLF001 - torch's own counter
            raise IllegalTrainingSetupError(
                f"an ungated gradient reached group `{group}` (parameter `{name}`); use the parameter only "
                "through its module, inside a step, and put penalties on weights into the optimizer"
            )

    return check


def identity(tensor: Tensor | None) -> tuple[int, int] | None:
    """Return what changes when a tensor is replaced or written to: its address and torch's count of writes."""
    return None if tensor is None else (tensor.data_ptr(), tensor._version)  # noqa: SLF001 - torch's own counter
