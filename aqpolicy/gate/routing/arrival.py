"""What meets in a strand of groups: uses that came back, what each group may take of them, and what came of it.

Plain data; `aqpolicy.gate.routing.flush` computes with it.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import torch
from torch import Tensor

from aqpolicy.gate.routing.layers import Use
from aqpolicy.gate.routing.layout import Place

if TYPE_CHECKING:
    from aqpolicy.gate.routing.groups import Group
    from aqpolicy.gate.routing.sharing import Sharing

NOT_MEASURED: Final = -2.0
"""In place of a norm that nobody asked for."""

Held = tuple[Tensor | None, ...]
"""The parameters of a use, None where no gradient is wanted."""


class Making(Protocol):
    """What records the gradients of one group in one part of a step."""

    def take(self, own: Total) -> None:
        """Look at the gradients that were made for the next run of examples."""

    def finish(self, factors: Tensor, scale: float) -> Any:
        """Return the record of all examples, whose factors are these and whose loss was multiplied by the scale."""


class Maker(Protocol):
    """How the gradients of one group are recorded."""

    def begin(self, sharing: Sharing, group: Group) -> Making:
        """Start with a part of a step."""


class Plan(Protocol):
    """How the gradients of a run are recorded."""

    def maker(self, group: Group) -> Maker:
        """Return what records a group."""

    def empty(self, group: int, examples: int) -> Any:
        """Return the record of a group that no example reached."""

    def encode(self, found: Sequence[Any], world: int = 1) -> list[bytes]:
        """Return one record per example, of what a `Making` made of each group."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A use, the parameters that it used, and where its examples are; no place means that they are first."""

    held: Held
    use: Use
    place: Place | None = None

    def native(self) -> Use:
        """Return the use as autograd would see it."""
        if self.place is None or self.place.kind != "shared":
            return self.use
        saved = tuple(tensor[:1] for tensor in self.use.saved)
        return replace(self.use, x=self.use.x[:1], saved=saved, e=self.use.e.sum(0, keepdim=True))

    def major(self) -> Arrival:
        """Return the arrival with the examples on the first axis."""
        place, use = self.place, self.use
        if place is None or place.kind in {"first", "shared"}:
            return self if place is None else Arrival(self.held, use)
        saved = tuple(place.major(tensor) for tensor in use.saved)
        return Arrival(self.held, replace(use, x=place.major(use.x), saved=saved, e=place.major(use.e)))

    def only(self, wanted: Container[int]) -> Arrival | None:
        """Return the arrival restricted to parameters with these ids, or None where it has none of them."""
        keep = [parameter is not None and id(parameter) in wanted for parameter in self.held]
        if not any(keep):
            return None
        if keep == [parameter is not None for parameter in self.held]:
            return self
        held = tuple(parameter if kept else None for parameter, kept in zip(self.held, keep, strict=True))
        return Arrival(held, replace(self.use, wanted=tuple(keep)), self.place)


@dataclass(frozen=True, slots=True)
class Admission:
    """What a group may take from each example of a part.

    Shapes:
        shares (b,), limits (b,): floats; a limit of infinity is none. keep (n,): integers.
    """

    shares: Tensor
    limits: Tensor | None
    keep: Tensor | None
    """Which examples may take something; None where all may."""
    whole: bool
    """Every example may take all, without a limit."""
    measure: bool
    """Norms are asked for, whether or not a limit needs them."""
    denominator: float
    scale: float = 1.0
    """What the loss was multiplied by, for the sake of short floating point."""

    def factors(self, norms: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Return share * min(1, limit / norm) for a run of examples; 0 where the norm is not a finite number.

        Shapes:
            norms (n,) -> (n,).
        """
        shares = self.shares if stop is None else self.shares[start:stop]
        if self.limits is None:
            return torch.where(norms < torch.inf, shares, 0.0)  # no comparison holds for what is no number
        limits = self.limits if stop is None else self.limits[start:stop]
        # A norm that is no finite number gives no number, or 0; one of 0 gives infinity, so 1.
        return limits.div(norms).clamp_max_(1.0).mul_(shares).nan_to_num_(0.0, 0.0, 0.0)

    def own(self, squares: Tensor) -> Tensor:
        """Return the norms of the examples' own losses from squared norms as the backward pass has them."""
        # Not `sqrt`: on a CPU that wakes threads even for a handful of numbers.
        return squares.rsqrt().reciprocal_().mul_(self.denominator / self.scale)


@dataclass(frozen=True, slots=True)
class Flushed:
    """What a group's backward found. Norms are of the example's own loss; factors were applied.

    Shapes:
        norms (b,), `NOT_MEASURED` where nobody asked, or None where nobody asked at all; factors (b,).
    """

    norms: Tensor | None
    factors: Tensor
    record: Any = None
    """What a `Making` made of the gradients, None where none was asked for."""


Total = dict[int, Tensor]
"""Gradients by the id of their parameter."""
