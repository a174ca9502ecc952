"""Several processes that train one model: what every one of them must know of the others before it decides.

Budgets are those of the whole run, so all visits of all ranks are decided and
spent by every rank, in the order of ranks, and each applies its own. That is the
same arithmetic in every process, so nothing has to be agreed on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from aqpolicy.errors import IllegalTrainingSetupError, UnsupportedLayerError


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes of a run; `world` is 1 where there is only this one."""

    rank: int = 0
    world: int = 1

    def gather(self, value: Any) -> list[Any]:
        """Return what every rank gave, in the order of ranks."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found

    def joined(self, own: Tensor) -> Tensor:
        """Return the rows of every rank, in the order of ranks.

        Shapes:
            own (n, ...) -> (all, ...).
        """
        return own if self.world == 1 else torch.cat([torch.as_tensor(part, device="cpu") for part in self.gather(own)])


def ranks_of(model: nn.Module) -> tuple[nn.Module, Ranks]:
    """Return the model inside a `DistributedDataParallel`, and the processes that train it.

    Raises:
        UnsupportedLayerError: Its parameters are sharded over processes.
        IllegalTrainingSetupError: Several processes train it, but not through `DistributedDataParallel`.
    """
    if any("FSDP" in type(module).__name__ for module in model.modules()) or any(
        type(parameter.data).__name__ == "DTensor" for parameter in model.parameters()
    ):
        raise UnsupportedLayerError(
            "the model is sharded over processes (FSDP); the gate needs whole parameters: use DistributedDataParallel"
        )
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    if isinstance(model, nn.parallel.DistributedDataParallel):
        return model.module, Ranks(dist.get_rank(), dist.get_world_size())
    if several:
        raise IllegalTrainingSetupError(
            "several processes are training, but the model is not in DistributedDataParallel; attach the gate to that"
        )
    return model, Ranks()
