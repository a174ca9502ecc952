"""Every other road to a governed parameter, watched: the gate stops the step rather than explain it later.

It checks and raises; it repairs nothing but what `Shadow.restore` puts back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from aqpolicy.bundle import MIXING_MODULES
from aqpolicy.errors import IllegalTrainingSetupError, UngovernedParameterError, UnsupportedLayerError
from aqpolicy.gate.groups import Group
from aqpolicy.gate.token import Flow


def refuse_mixing_modules(model: nn.Module) -> None:
    """Refuse modules whose output for one example depends on the others.

    Raises:
        UnsupportedLayerError: The model holds one; it is named.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) or type(module).__name__ in MIXING_MODULES:
            raise UnsupportedLayerError(
                f"module `{name}` of type `{type(module).__name__}` mixes examples, so no example has a gradient "
                "of its own; use GroupNorm or LayerNorm"
            )


class LeakCheck:
    """A hook on every governed parameter: only the gradient that the gate issued may arrive."""

    def __init__(self, flows: Sequence[Flow]) -> None:
        """Install the hooks."""
        self._handles: list[RemovableHandle] = [
            parameter.register_hook(_guard(flow, name, parameter))  # type: ignore[no-untyped-call]  # torch
            for flow in flows
            for name, parameter in zip(flow.group.names, flow.group.parameters, strict=True)
        ]

    def remove(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()


def _guard(flow: Flow, name: str, parameter: nn.Parameter) -> Callable[[Tensor | None], None]:
    key = id(parameter)

    def check(gradient: Tensor | None) -> None:
        # Anything that adds to the issued tensor makes another one, or another version of it.
        if gradient is not None and flow.issued.get(key) != (gradient.data_ptr(), gradient._version):  # noqa: SLF001 - torch's own counter
            raise IllegalTrainingSetupError(
                f"an ungated gradient reached group `{flow.group.name}` (parameter `{name}`); use the parameter only "
                "through its module, inside a step, and put penalties on weights into the optimizer"
            )

    return check


class Shadow:
    """A copy of the governed parameters as the last step left them."""

    def __init__(self, groups: Sequence[Group]) -> None:
        """Copy."""
        self.names = [name for group in groups for name in group.names]
        self.parameters: list[Any] = [parameter for group in groups for parameter in group.parameters]
        self.values = [parameter.detach().clone() for parameter in self.parameters]
        self._versions: list[tuple[int, int]] = []
        self.renew_versions()

    def renew_versions(self) -> None:
        """Take the parameters' present identity for the right one."""
        self._versions = [_identity(parameter) for parameter in self.parameters]

    def refuse_edits(self, *, values: bool) -> None:
        """Refuse parameters that changed since, by torch's own counters or, with `values`, in any bit.

        Raises:
            IllegalTrainingSetupError: One did; it is named.
        """
        for name, parameter, version, value in zip(
            self.names, self.parameters, self._versions, self.values, strict=True
        ):
            if _identity(parameter) != version or (values and not torch.equal(parameter, value)):
                raise IllegalTrainingSetupError(
                    f"parameter `{name}` was changed outside the gate's step; load weights before attaching"
                )

    def deltas(self) -> list[Tensor]:
        """Return how far each parameter moved."""
        with torch.no_grad():
            return list(torch._foreach_sub(self.parameters, self.values))  # noqa: SLF001 - one launch for all

    def accept(self) -> None:
        """Take the parameters as they are for the new copy."""
        with torch.no_grad():
            torch._foreach_copy_(self.values, self.parameters)
        self.renew_versions()

    def restore(self) -> None:
        """Put every parameter back."""
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.values)
        self.renew_versions()


def _identity(parameter: Tensor) -> tuple[int, int]:
    return parameter.data_ptr(), parameter._version  # noqa: SLF001 - torch's own counter


class ParameterSets:
    """What is trained, and what the optimizer holds, must stay what the gate governs."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, groups: Sequence[Group]) -> None:
        """Remember the governed set and check at once."""
        self._model, self._optimizer = model, optimizer
        self._governed = {id(parameter) for group in groups for parameter in group.parameters}
        self.check()

    def check(self) -> None:
        """Compare.

        Raises:
            UngovernedParameterError: A parameter was added or unfrozen.
            IllegalTrainingSetupError: One was frozen, or the optimizer holds others.
        """
        trained = {id(parameter) for parameter in self._model.parameters() if parameter.requires_grad}
        if trained != self._governed:
            self._raise_trained()
        held = {id(parameter) for group in self._optimizer.param_groups for parameter in group["params"]}
        if held != self._governed:
            raise IllegalTrainingSetupError(
                "the optimizer does not hold exactly the trained parameters of the model "
                f"({len(held - self._governed)} too many, {len(self._governed - held)} missing)"
            )

    def _raise_trained(self) -> None:
        for name, parameter in self._model.named_parameters():
            if parameter.requires_grad and id(parameter) not in self._governed:
                raise UngovernedParameterError(
                    f"parameter `{name}` is trained and in no depth group; it was added or unfrozen after attaching"
                )
        raise IllegalTrainingSetupError("a governed parameter was frozen or removed after attaching; attach again")
