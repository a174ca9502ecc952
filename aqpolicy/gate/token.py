"""One scalar token per group, so that autograd itself says when a group's gradients are complete.

Every use of a group's parameters takes the group's token as an input. The
engine counts dependencies, so the token's backward runs exactly once, after the
last use was differentiated and before earlier layers. There the gated gradients
are made and handed to the parameters' ordinary accumulation.

The token is created at the group's first use in a step: created earlier it
would have the lowest priority, and everything would be held to the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aqpolicy.gate.groups import Group
from aqpolicy.gate.layers import Gradients, Use
from aqpolicy.gate.layers.rule import parameter_sizes, sum_of_squares, vector_norm

Arrival = tuple[tuple[Tensor | None, ...], Use]
"""A use, and the parameters that it used, None where not trained."""

DENSE_BYTES: Final = 64 * 1024 * 1024
"""Most memory that the per-example gradients of a group may take at once."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What a group may take from each example of a step.

    Shapes:
        shares (b,), limits (b,): floats; a limit of infinity is none.
    """

    shares: Tensor
    limits: Tensor | None

    @property
    def open(self) -> bool:
        """Whether every example may take all, so that the native kernels will do the sum."""
        return self.limits is None and bool((self.shares == 1).all())

    def factors(self, norms: Tensor) -> Tensor:
        """Return share * min(1, limit / norm) per example; 0 where the norm is not a finite number."""
        admitted = torch.where(norms.isfinite(), self.shares, torch.zeros_like(norms))
        if self.limits is None:
            return admitted
        cut = torch.where(norms > self.limits, self.limits / norms, torch.ones_like(norms))
        return torch.where(admitted > 0, admitted * cut, torch.zeros_like(norms))


@dataclass(frozen=True, slots=True)
class Flushed:
    """What a group's backward found. Norms are of the example's own loss; factors were applied.

    Shapes:
        norms (b,), factors (b,), sketch (b, k) or None.
    """

    norms: Tensor
    factors: Tensor
    sketch: Tensor | None
    closed: bool


@dataclass(slots=True)
class Flow:
    """A group in one step: its token, the uses so far, and what came of them."""

    group: Group
    sketcher: Any = None
    """`SketchPlan.sketch` of this group, or None."""
    admission: Admission | None = None
    token: Tensor | None = None
    uses: list[Arrival] = field(default_factory=list)
    """In the order in which their gradients arrived."""
    issued: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Per parameter, address and version of the one gradient that may reach it."""
    result: Flushed | None = None

    def reset(self) -> None:
        """Forget the step."""
        self.admission, self.token, self.result = None, None, None
        self.uses, self.issued = [], {}

    def ticket(self) -> Tensor:
        """Return the token, creating it at the first use."""
        if self.token is None:
            self.token = _Token.apply(self, *self.group.parameters)  # type: ignore[no-untyped-call]  # torch
        token: Tensor = self.token
        return token

    def flush(self) -> list[Tensor | None]:
        """Return the gated gradient of every parameter of the group."""
        uses, self.uses = self.uses, []
        if not uses or self.admission is None:
            return [None] * len(self.group.parameters)
        reuse = not self.admission.open
        if self.sketcher is not None or _shared(uses):
            norms, sketches, flat = self._measure_whole(uses)
            factors = self.admission.factors(norms)
            whole = reuse and flat is not None
            gradients = self._weigh_whole(uses, flat, factors) if whole else _combine(uses, [], factors)
        else:
            sketches = None
            norms, own = _measure_apart(uses, reuse=reuse)
            factors = self.admission.factors(norms)
            gradients = _combine(uses, own, factors)
        self.result = Flushed(norms, factors, _admitted(sketches, factors), gradients is None)
        ordered = [None if gradients is None else gradients.get(id(parameter)) for parameter in self.group.parameters]
        self._issue(ordered)
        return ordered

    def _issue(self, gradients: list[Tensor | None]) -> None:
        # The address and not the tensor: a reference kept here would make autograd copy.
        for parameter, gradient in zip(self.group.parameters, gradients, strict=True):
            if gradient is not None:
                self.issued[id(parameter)] = (gradient.data_ptr(), gradient._version)  # noqa: SLF001 - torch's own counter

    def _measure_whole(self, uses: list[Arrival]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return norms, sketches and the examples' own gradients over the whole group, the last if memory allows."""
        count = uses[0][1].e.shape[0]
        step = max(1, DENSE_BYTES // (max(1, self.group.numel) * uses[0][1].e.element_size()))
        norms, sketches, flat = [], [], None
        for start in range(0, count, step):
            flat = self._flat(uses, start, min(count, start + step))
            norms.append(_long_norms(flat))
            if self.sketcher is not None:
                sketches.append(self.sketcher(flat))
        return torch.cat(norms) * count, torch.cat(sketches) if sketches else None, flat if step >= count else None

    def _weigh_whole(self, uses: list[Arrival], flat: Tensor | None, factors: Tensor) -> dict[int, Tensor] | None:
        """Return the weighted sum of the gradients of a whole group, by parameter; None where all factors are 0."""
        keep = factors.nonzero().squeeze(1)
        if flat is None or keep.numel() == 0:
            return None
        total = factors.index_select(0, keep) @ (flat if keep.numel() == len(flat) else flat.index_select(0, keep))
        parts = torch.split(total, [parameter.numel() for parameter in self.group.parameters])
        used = {id(parameter) for held, _ in uses for parameter in held}
        # Each its own storage: the optimizer and autograd expect gradients that share nothing. A parameter that was
        # not used has no gradient, rather than 0, as in plain training.
        return {
            id(parameter): part.clone().view_as(parameter)
            for parameter, part in zip(self.group.parameters, parts, strict=True)
            if id(parameter) in used
        }

    def _flat(self, uses: list[Arrival], start: int, stop: int) -> Tensor:
        """Return the gradients of some examples over the whole group, shape (examples, numel)."""
        total: dict[int, Tensor] = {}
        for held, use in uses:
            _add(total, held, use.rule.per_sample(use.between(start, stop)))
        parts = []
        for parameter in self.group.parameters:
            found = total.get(id(parameter))
            empty = parameter.new_zeros(stop - start, parameter.numel())
            parts.append(empty if found is None else found.reshape(stop - start, -1))
        return torch.cat(parts, dim=1)


def _measure_apart(uses: list[Arrival], *, reuse: bool) -> tuple[Tensor, list[Gradients | None]]:
    """Return the norms of the examples' own gradients, use by use.

    With `reuse`, the per-example gradients of layers that must make them for
    their norms are kept for the weighted sum, as far as memory allows.
    """
    squares: list[Tensor] = []
    own: list[Gradients | None] = []
    room = DENSE_BYTES
    for _, use in uses:
        count = use.e.shape[0]
        size = sum(parameter_sizes(use)) * count * use.e.element_size()
        if reuse and use.rule.materialises(use) and size <= room:
            room -= size
            gradients = use.rule.per_sample(use)
            squares.append(sum_of_squares(gradients))
            own.append(gradients)
        else:
            squares.append(use.rule.squared_norms(use))
            own.append(None)
    return torch.stack(squares).sum(0).sqrt() * uses[0][1].e.shape[0], own


def _combine(uses: list[Arrival], own: Sequence[Gradients | None], factors: Tensor) -> dict[int, Tensor] | None:
    """Return the sum over examples of factor times gradient, by parameter; None where all factors are 0.

    Rows of factor 0 are left out rather than multiplied: 0 times infinity is
    no number. Rows of ones go through the native kernels untouched.
    """
    keep = factors.nonzero().squeeze(1)
    if keep.numel() == 0:
        return None
    some = keep.numel() < factors.numel()
    kept = factors.index_select(0, keep) if some else factors
    native = bool((kept == 1).all())
    total: dict[int, Tensor] = {}
    for (held, use), known in zip(uses, own or [None] * len(uses), strict=True):
        if known is not None and not native:
            _add(total, held, tuple(None if part is None else _weigh(part, kept, keep, some=some) for part in known))
            continue
        part = use.rows(keep) if some else use
        part = part if native else part.scaled(kept)
        _add(total, held, part.rule.gradients(part))
    return total


def _weigh(own: Tensor, kept: Tensor, keep: Tensor, *, some: bool) -> Tensor:
    """Return the weighted sum of materialised gradients, (b, ...) -> (...)."""
    rows = own.index_select(0, keep) if some else own
    return (kept @ rows.reshape(rows.shape[0], -1)).view(own.shape[1:])


def _add(total: dict[int, Tensor], held: tuple[Tensor | None, ...], gradients: Gradients) -> None:
    """Add gradients to what other uses of the same parameters gave, in order of arrival, as autograd does."""
    for parameter, gradient in zip(held, gradients, strict=True):
        if gradient is not None:
            before = total.get(id(parameter))
            total[id(parameter)] = gradient if before is None else before + gradient


def _admitted(sketches: Tensor | None, factors: Tensor) -> Tensor | None:
    """Return the sketch of what each example was admitted to contribute; a row of factor 0 is exactly 0."""
    if sketches is None:
        return None
    scaled = sketches * factors.to(sketches.dtype).unsqueeze(1)
    return torch.where((factors != 0).unsqueeze(1), scaled, torch.zeros_like(scaled))


class _Token(torch.autograd.Function):
    """A scalar that stands for all parameters of a group."""

    @staticmethod
    def forward(ctx: Any, flow: Flow, *parameters: Tensor) -> Tensor:
        """Make the token."""
        ctx.flow = flow
        return parameters[0].new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Hand the gated gradients on."""
        return (None, *ctx.flow.flush())


def _shared(uses: list[Arrival]) -> bool:
    """Return whether a parameter was used twice, so that its gradients add before their norm is taken."""
    counts = Counter(id(parameter) for held, _ in uses for parameter in held if parameter is not None)
    return any(count > 1 for count in counts.values())


def _long_norms(flat: Tensor) -> Tensor:
    """Return row norms in two levels, which keeps single precision accurate on long rows."""
    parts = [vector_norm(part, 1) for part in torch.split(flat, 1024, dim=1)]
    return vector_norm(torch.stack(parts, dim=1), 1)
