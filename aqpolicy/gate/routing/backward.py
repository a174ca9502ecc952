"""Differentiate one part of a step, each example's gradient cut to what its groups may take.

It knows shares, limits and denominators, and no policy. Before the first
gradients of a new shape are trusted, one example's loss is differentiated alone:
it may touch no other example's rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from aqpolicy.bundle.tables import NO_LIMIT, Tables
from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.routing.arrival import NOT_MEASURED, Admission, Sketcher
from aqpolicy.gate.routing.groups import Group, find_sites
from aqpolicy.gate.routing.leaks import LeakCheck
from aqpolicy.gate.routing.router import Router
from aqpolicy.gate.routing.sketch import SketchPlan
from aqpolicy.gate.routing.token import Flow, strands
from aqpolicy.units import MICRO

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
        norms (b, g): float64, `NOT_MEASURED` where nobody asked; sketches: per group (b, width), or None.
    """

    norms: Tensor
    sketches: list[Tensor] | None


class Backward:
    """The gated backward pass of one model."""

    def __init__(
        self, model: nn.Module, groups: Sequence[Group], tables: Tables, *, measure: bool, sketches: SketchPlan | None
    ) -> None:
        """Patch the model; on any refusal it is left as it was."""
        sites = find_sites(model)
        self.groups, self._measure, self._plan = tuple(groups), measure, sketches
        self._limits = _limits(tables)
        self._flows = tuple(Flow(group, _sketcher(sketches, group.index)) for group in groups)
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
    def sketching(self) -> bool:
        """Whether sketches are made."""
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
        self._leaks.refuse_others()
        loss = self.router.interceptor.settle(loss)
        self._admit(weights, loss)
        with torch.autocast(loss.device.type, enabled=False):
            self._probe(loss)
            each = torch.ones_like(loss).mul_(weights.scale) / weights.denominator
            loss.backward(each)  # type: ignore[no-untyped-call]  # torch
        return self._found(len(loss))

    def _admit(self, weights: Weights, loss: Tensor) -> None:
        """Give every group its column of shares and limits, on the model's device."""
        whole = (weights.shares == MICRO).all(0).tolist()
        some = (weights.shares == 0).any(0).tolist()
        columns = (weights.shares.t().double() / MICRO).to(loss.device)
        limits, limited = None, [False] * len(self.groups)
        if self._limits is not None:
            limits = self._limits[weights.route].t()
            limited = limits.isfinite().any(1).tolist()
            limits = limits.to(loss.device)
        for flow, precision in zip(self._flows, self._precisions, strict=True):
            number = flow.group.index
            flow.admission = Admission(
                columns[number].to(precision),
                limits[number].to(precision) if limits is not None and limited[number] else None,
                whole=whole[number] and not limited[number],
                some=some[number],
                measure=self._measure,
                denominator=weights.denominator,
                scale=weights.scale,
            )

    def _probe(self, loss: Tensor) -> None:
        """Differentiate the last example's loss alone, then the first's; neither may touch another example's rows.

        Done for the first few shapes of a part, and where a shape leaves open which axis holds the examples: it costs
        two backward passes. A loss that is not finite proves nothing; the next part is probed instead.
        """
        shape = tuple(self.router.shapes)
        tokens = [strand.token for strand in self._strands if strand.token is not None]
        due = self.router.ambiguous or (shape not in self._probed and len(self._probed) < PROBES)
        if len(loss) < 2 or not tokens or not due or not bool(loss.isfinite().all()):
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
        nothing = torch.full((examples,), 0.0 if self._measure else NOT_MEASURED, dtype=torch.float64)
        results = [flow.result for flow in self._flows]
        columns = [nothing if result is None else result.norms.double() for result in results]
        norms = torch.stack([column.cpu() for column in columns], dim=1) if columns else nothing.new_zeros(examples, 0)
        if self._plan is None:
            return Found(norms, None)
        empty = [torch.zeros(examples, width) for width in self._plan.widths]
        found = zip(results, empty, strict=True)
        return Found(norms, [zeros if one is None or one.sketch is None else one.sketch for one, zeros in found])


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


def _sketcher(plan: SketchPlan | None, group: int) -> Sketcher | None:
    if plan is None:
        return None
    made: Callable[[Tensor], Tensor] = lambda flat: plan.sketch(group, flat)  # noqa: E731 - one line, bound to its group
    return made


def _limits(tables: Tables) -> Tensor | None:
    """Return norm limits per row and group, infinity where there is none; None where there is none at all."""
    rows = torch.tensor([row.norms for row in tables.rows], dtype=torch.float64)
    return torch.where(rows == NO_LIMIT, torch.inf, rows / MICRO) if (rows != NO_LIMIT).any() else None
