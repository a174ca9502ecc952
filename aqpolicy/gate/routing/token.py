"""One scalar token per strand of depth groups, so that autograd itself says when their gradients are complete.

Every use of a group's parameters takes the group's token as an input. The
engine counts dependencies, so the token's backward runs exactly once, after the
last use was differentiated and before earlier layers. There the gated gradients
are made (`aqpolicy.gate.routing.flush`) and handed to the parameters' ordinary
accumulation, so that hooks, reducers and accumulation see nothing unusual.

Groups that share a parameter are one strand: none of them can be settled before
all are. The token is created at the first use in a part: created earlier it
would have the lowest priority, and everything would be held to the end.

A strand that had one use in the part before is expected to have one again: that
use settles it by itself, and no token is needed. Should others follow, the strand
is settled once the engine is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.routing.arrival import Admission, Arrival, Flushed, Maker
from aqpolicy.gate.routing.flush import flush, flush_tied
from aqpolicy.gate.routing.groups import Group


@dataclass(slots=True)
class Flow:
    """A group in one part of a step: what it may take, and what came of it."""

    group: Group
    maker: Maker | None = None
    admission: Admission | None = None
    result: Flushed | None = None


@dataclass(slots=True, eq=False)
class Strand:
    """Groups that are settled together: one, or several that share parameters."""

    flows: tuple[Flow, ...]
    parameters: tuple[nn.Parameter, ...] = field(init=False)
    owners: dict[int, tuple[int, ...]] = field(init=False)
    """Per parameter, the positions of the flows that hold it."""
    token: Tensor | None = None
    arrivals: list[Arrival] = field(default_factory=list)
    """In the order in which their gradients arrived."""
    issued: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Per parameter, address and version of the one gradient that may reach it."""
    fill: bool = False
    """Whether every parameter gets a gradient, be it of zeros."""
    settled: bool = False
    uses: int = 0
    """How many uses the part has made, each time that a forward pass came by."""
    alone: bool = False
    """Whether the part before made one use."""
    direct: bool = False
    """Whether the first use does without the token."""

    def __post_init__(self) -> None:
        """Gather the parameters of all groups, each once."""
        known: dict[int, nn.Parameter] = {}
        owners: dict[int, tuple[int, ...]] = {}
        for number, flow in enumerate(self.flows):
            for parameter in flow.group.parameters:
                known.setdefault(id(parameter), parameter)
                owners[id(parameter)] = (*owners.get(id(parameter), ()), number)
        self.parameters, self.owners = tuple(known.values()), owners

    def reset(self) -> None:
        """Forget the part."""
        self.token, self.arrivals, self.issued, self.settled = None, [], {}, False
        self.alone, self.uses, self.direct = self.uses == 1, 0, False
        for flow in self.flows:
            flow.admission, flow.result = None, None

    def edges(self) -> tuple[Tensor, ...]:
        """Return what a layer's use is to depend on: the parameters themselves, or the token."""
        if self.uses or self.fill or not self.alone:
            return (self.ticket(),)
        self.uses, self.direct = 1, True
        return self.parameters

    def ticket(self) -> Tensor:
        """Return the token, creating it at the first use."""
        self.uses += 1
        if self.token is None:
            self.token = _Token.apply(self, *self.parameters)  # type: ignore[no-untyped-call]  # torch
        token: Tensor = self.token
        return token

    @property
    def entries(self) -> list[Tensor]:
        """Return where all that the part has made of the strand's parameters begins."""
        token = [] if self.token is None else [self.token]
        return [*token, self.parameters[0]] if self.direct else token

    def settle_within(self) -> list[Tensor | None]:
        """Return what a node of the graph hands to the parameters: nothing where the strand is left for the end."""
        return [None] * len(self.parameters) if self.direct and self.uses > 1 else self.settle()

    def finish(self) -> None:
        """Hand on what was left for the end, once the engine is done."""
        if self.direct and self.arrivals:
            pairs = zip(self.parameters, self.settle(), strict=True)
            given = [(parameter, gradient) for parameter, gradient in pairs if gradient is not None]
            torch.autograd.backward([one for one, _ in given], [gradient for _, gradient in given])

    def settle(self) -> list[Tensor | None]:
        """Return the gated gradient of every parameter of the strand."""
        arrivals, self.arrivals = self.arrivals, []
        admitted = [(flow.group, flow.admission, flow.maker) for flow in self.flows if flow.admission is not None]
        if not arrivals or len(admitted) < len(self.flows):
            return [None] * len(self.parameters)
        if self.settled:
            raise IllegalTrainingSetupError(
                f"the gradients of group `{self.flows[0].group.name}` came in two pieces, so no example has its own: "
                "checkpoint with use_reentrant=False, or let a checkpointed segment hold whole groups"
            )
        if len(admitted) == 1:
            gradients, self.flows[0].result = flush(arrivals, *admitted[0])
        else:
            gradients, results = flush_tied(arrivals, self.owners, admitted)
            for flow, result in zip(self.flows, results, strict=True):
                flow.result = result
        ordered = [gradients.get(id(parameter)) for parameter in self.parameters]
        self.settled = True
        if self.fill:
            ordered = [torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters, ordered, strict=True)]
        self._issue(ordered)
        return ordered

    def _issue(self, gradients: list[Tensor | None]) -> None:
        # The address and not the tensor: a reference kept here would make autograd copy.
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            if gradient is not None:
                self.issued[id(parameter)] = (gradient.data_ptr(), gradient._version)  # noqa: SLF001 - torch's own counter


def strands(flows: Sequence[Flow]) -> tuple[Strand, ...]:
    """Return the flows in strands: those that share a parameter, directly or through others, together."""
    parts: list[tuple[set[int], list[Flow]]] = []
    for flow in flows:
        keys = {id(parameter) for parameter in flow.group.parameters}
        touched = [part for part in parts if not keys.isdisjoint(part[0])]
        parts = [part for part in parts if keys.isdisjoint(part[0])]
        members = [member for part in touched for member in part[1]]
        parts.append((keys.union(*(part[0] for part in touched)), [*members, flow]))
    return tuple(Strand(tuple(members)) for _, members in parts)


class _Token(torch.autograd.Function):
    """A scalar that stands for all parameters of a strand."""

    @staticmethod
    def forward(ctx: Any, strand: Strand, *parameters: Tensor) -> Tensor:
        """Make the token."""
        ctx.strand = strand
        return torch.zeros((), dtype=parameters[0].dtype, device=parameters[0].device)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Hand the gated gradients on."""
        return (None, *ctx.strand.settle_within())
