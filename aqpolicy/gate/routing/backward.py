"""Differentiate one part of a step, each example's gradient cut to what its groups may take.

It knows shares, limits and denominators, and no policy. Before the first
gradients of a new shape are trusted, one example's loss is differentiated alone:
it may touch no other example's rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from aqpolicy.bundle.tables import NO_LIMIT, Tables
from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.routing.arrival import NOT_MEASURED, Admission, Plan
from aqpolicy.gate.routing.groups import Group, find_sites
from aqpolicy.gate.routing.leaks import LeakCheck
from aqpolicy.gate.routing.router import Router
from aqpolicy.gate.routing.token import Flow, strands
from aqpolicy.units import MICRO

Numbers = npt.NDArray[np.float64]

PROBES: Final = 8
"""How many different shapes of a part are probed for mixed examples."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What the examples of a part may write, and what their losses are divided and multiplied by.

    Shapes:
        shares (b, g): millionths; route (b,): rows of the table, for norm limits.
    """

    shares: Tensor
    route: Tensor
    denominator: float
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Found:
    """What the backward pass of a part found.

    Shapes:
        norms (b, g): float64, `NOT_MEASURED` where nobody asked.
    """

    norms: Tensor
    records: list[Any] | None
    """Per group, what the plan makes of its gradients; None where nothing is recorded of them."""


class Backward:
    """The gated backward pass of one model."""

    def __init__(
        self, model: nn.Module, groups: Sequence[Group], tables: Tables, *, measure: bool, plan: Plan | None
    ) -> None:
        """Patch the model; on any refusal it is left as it was."""
        sites = find_sites(model)
        self.groups, self._measure, self._plan = tuple(groups), measure, plan
        self._limits = _limits(tables)
        self._flows = tuple(Flow(group, None if plan is None else plan.maker(group)) for group in groups)
        kinds = [[p.dtype for p in group.parameters] or [torch.float32] for group in groups]
        self._precisions = [torch.promote_types(kind[0], torch.float32) for kind in kinds]
        self._strands = strands([flow for flow in self._flows if flow.group.parameters])
        self.router = Router(self._strands, model.buffers)
        self._probed: set[tuple[tuple[int, ...], ...]] = set()
        self._leaks = LeakCheck(self._strands)
        self.router.install(sites)

    @property
    def slow(self) -> tuple[str, ...]:
        """Where gradients are made the general way: exact and slow."""
        return tuple(f"{module}: {function}" for module, function in sorted(self.router.interceptor.slow))

    @property
    def measures(self) -> bool:
        """Whether every example's norms are measured."""
        return self._measure or self._plan is not None

    @property
    def recording(self) -> bool:
        """Whether gradients are recorded."""
        return self._plan is not None

    def detach(self) -> None:
        """Restore the model's own forward and remove every hook."""
        self.router.remove()
        self._leaks.remove()

    def open(self, examples: int, segments: Tensor | None = None, *, fill: bool = False) -> None:
        """Start a part; with `fill` every parameter gets a gradient, if only zeros: other ranks wait for it."""
        self.router.open(examples, segments)
        for strand in self._strands:
            strand.fill = fill

    def shut(self) -> None:
        """End a part, whatever became of it."""
        self.router.shut()

    def run(self, loss: Tensor, weights: Weights) -> Found:
        """Differentiate the sum of the examples' losses over the denominator.

        Shapes:
            loss (b,).

        Raises:
            IllegalTrainingSetupError: Examples are mixed, or a gradient came by a road that the gate does not see.
        """
        with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 - the interceptor has nothing to see here
            self._leaks.refuse_others()
        loss = self.router.interceptor.settle(loss)
        self._admit(weights, loss)
        with _full_precision(loss.device.type):
            self._probe(loss)
            each = torch.full_like(loss, weights.scale).div_(weights.denominator)
            loss.backward(each)  # type: ignore[no-untyped-call]  # torch
            for strand in self._strands:
                strand.finish()
        return self._found(len(loss))

    def _admit(self, weights: Weights, loss: Tensor) -> None:
        """Give every group its column of shares and limits, on the model's device."""
        # In numpy: for tables this small its calls cost a fraction of torch's.
        shares = weights.shares.numpy()
        least = shares.min(0, initial=MICRO)
        whole, some = (least == shares.max(0, initial=MICRO)).tolist(), (least == 0).tolist()
        keep = [self._kept(shares[:, number], loss.device) if part else None for number, part in enumerate(some)]
        columns = self._columns(shares.T / MICRO, loss.device)
        limits, limited = columns, [False] * len(self.groups)
        if self._limits is not None:
            found = self._limits[weights.route.numpy()].T
            limits, limited = self._columns(found, loss.device), np.isfinite(found).any(1).tolist()
        for flow in self._flows:
            number = flow.group.index
            flow.admission = Admission(
                columns[number],
                limits[number] if limited[number] else None,
                keep[number],
                whole=whole[number] and not limited[number],
                measure=self._measure,
                denominator=weights.denominator,
                scale=weights.scale,
            )

    def _columns(self, values: Numbers, device: torch.device) -> list[Tensor]:
        """Return one row of numbers per group, each in the precision of its group.

        Shapes:
            values (g, b).
        """
        made = torch.from_numpy(np.ascontiguousarray(values))
        rows = {kind: made.to(device, kind, non_blocking=True).unbind() for kind in {*self._precisions}}
        return [rows[kind][number] for number, kind in enumerate(self._precisions)]

    @staticmethod
    def _kept(shares: npt.NDArray[np.int64], device: torch.device) -> Tensor:
        return torch.from_numpy(shares.nonzero()[0]).to(device, non_blocking=True)

    def _probe(self, loss: Tensor) -> None:
        """Differentiate the last example's loss alone, then the first's; neither may touch another example's rows.

        Done for the first few shapes of a part, and where a shape leaves open which axis holds the examples: it costs
        two backward passes. A loss that is not finite proves nothing; the next part is probed instead.
        """
        shape = tuple(self.router.shapes)
        if not self.router.ambiguous and (shape in self._probed or len(self._probed) >= PROBES):
            return
        tokens = [token for strand in self._strands for token in strand.entries]
        if len(loss) < 2 or not tokens or not bool(loss.isfinite().all()):
            return
        try:
            for example in (len(loss) - 1, 0):
                self.router.probed = example
                self._differentiate_alone(loss[example], tokens)
        finally:
            self.router.probed = None
        if len(self._probed) < PROBES:
            self._probed.add(shape)

    @staticmethod
    def _differentiate_alone(loss: Tensor, tokens: list[Tensor]) -> None:
        try:
            torch.autograd.grad(loss, tokens, retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            if "use_reentrant" not in str(error):
                raise
            # A reentrant checkpoint takes no other form; during the probe no parameter gets anything.
            loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]  # torch

    def _found(self, examples: int) -> Found:
        results = [flow.result for flow in self._flows]
        columns = {n: one.norms for n, one in enumerate(results) if one is not None and one.norms is not None}
        found = torch.stack(list(columns.values()), 1).to("cpu", torch.float64) if columns else None  # one copy
        if found is not None and len(columns) == len(results):
            norms = found
        else:
            norms = torch.full(
                (examples, len(results)), 0.0 if self._measure else NOT_MEASURED, dtype=torch.float64, device="cpu"
            )
            if found is not None:
                norms[:, list(columns)] = found
        if self._plan is None:
            return Found(norms, None)
        records = [None if one is None else one.record for one in results]
        filled = [self._plan.empty(at, examples) if one is None else one for at, one in enumerate(records)]
        return Found(norms, filled)


def check_loss(loss: Tensor, examples: int, **others: Tensor | None) -> None:
    """Refuse losses that are not one number per example.

    Raises:
        IllegalTrainingSetupError: They are not, or do not depend on a parameter.
    """
    for name, value in (("loss", loss), *others.items()):
        if value is not None and tuple(value.shape) != (examples,):
            raise IllegalTrainingSetupError(
                f"the {name} has shape {tuple(value.shape)}, not ({examples},): one number per scheduled example"
            )
    if not loss.requires_grad:
        raise IllegalTrainingSetupError("the loss does not depend on any trained parameter")


def _full_precision(device: str) -> AbstractContextManager[Any]:
    """Return a context without autocast."""
    # To enter torch's own where there is nothing to switch off costs more than a small layer.
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def _limits(tables: Tables) -> Numbers | None:
    """Return norm limits per row and group, infinity where there is none; None where there is none at all."""
    rows = np.array([row.norms for row in tables.rows], np.float64).reshape(len(tables.rows), -1)
    return np.where(rows == NO_LIMIT, np.inf, rows / MICRO) if (rows != NO_LIMIT).any() else None
