"""What must stay as the gate left it: the values of parameters, and which parameters are trained.

It checks and raises; it repairs nothing but what `Shadow.restore` puts back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aqpolicy.errors import IllegalTrainingSetupError, UngovernedParameterError
from aqpolicy.gate.routing.groups import Group
from aqpolicy.gate.routing.leaks import identity
from aqpolicy.gate.routing.reading import all_equal


class Shadow:
    """A copy of the governed parameters, each once, as the last step left them."""

    def __init__(self, groups: Sequence[Group]) -> None:
        """Copy."""
        members = {id(parameter): (name, parameter) for group in groups for name, parameter in group.members}
        self.names = [name for name, _ in members.values()]
        self.parameters: list[Any] = [parameter for _, parameter in members.values()]
        self.values = [parameter.detach().clone() for parameter in self.parameters]
        self._versions: list[tuple[int, int] | None] = []
        self.renew_versions()

    def renew_versions(self) -> None:
        """Take the parameters' present identity for the right one."""
        self._versions = [identity(parameter) for parameter in self.parameters]

    def refuse_edits(self, *, values: bool) -> None:
        """Refuse parameters that changed since, by torch's own counters or, with `values`, in any bit.

        Raises:
            IllegalTrainingSetupError: One did; it is named.
        """
        edited = [identity(one) != version for one, version in zip(self.parameters, self._versions, strict=True)]
        if values and not any(edited) and not all_equal([one.detach() for one in self.parameters], self.values):
            edited = [not torch.equal(one, value) for one, value in zip(self.parameters, self.values, strict=True)]
        if any(edited):
            raise IllegalTrainingSetupError(
                f"parameter `{self.names[edited.index(True)]}` was changed outside the gate's step; load weights "
                "before attaching, and evaluate averaged weights on a copy of the model"
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
