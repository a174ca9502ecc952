"""What a group's uses wrote, as sketches: from inputs and output gradients, or from gradients that were made anyway.

A sketch is linear, so it does not matter how many uses share a parameter: their
sketches add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from aqpolicy.gate.routing.arrival import Arrival, Total
from aqpolicy.gate.routing.groups import Group
from aqpolicy.gate.routing.images import Image
from aqpolicy.gate.routing.layers.rule import add_up, joined
from aqpolicy.gate.routing.sharing import Sharing


@dataclass(frozen=True, slots=True)
class SketchMaker:
    """Makes the sketches of one group, the sums of the images of its parameters."""

    images: tuple[Image, ...]

    def begin(self, sharing: Sharing, group: Group) -> Sketching:
        """Start with a part."""
        return Sketching(sharing, group, self.images)


class Sketching:
    """The sketches of one group in one part of a step."""

    def __init__(self, sharing: Sharing, group: Group, images: Sequence[Image]) -> None:
        """Decide, per use, where its sketches come from."""
        self._images = {id(parameter): image for parameter, image in zip(group.parameters, images, strict=True)}
        made = [a for a in sharing.dense if not a.use.rule.sketches_apart(a.use)]
        rest = [a for a in sharing.uses if not any(a is other for other in made)]
        if not _keys(made).isdisjoint(_keys(rest)):  # what was made of shared parameters holds all of their uses
            made, rest = [], list(sharing.uses)
        self._made, self._rest = _keys(made), rest
        self._runs: list[Tensor] = []

    def take(self, own: Total) -> None:
        """Sketch the gradients that were made for the next run of examples."""
        parts = [self._images[key].of(gradient) for key, gradient in own.items() if key in self._made]
        if parts:
            self._runs.append(add_up(parts))

    def finish(self, factors: Tensor, scale: float) -> Tensor:
        """Return the sketches of what each example was admitted to contribute; those of factor 0 are exactly 0.

        Args:
            factors: One per example.
            scale: What the loss was multiplied by.

        Shapes:
            factors (b,) -> (b, width).
        """
        parts = [joined(self._runs)] if self._runs else []
        for arrival in self._rest:
            images = [None if p is None else self._images[id(p)] for p in arrival.held]
            parts.append(arrival.use.rule.sketched(arrival.use, images))
        sketches = add_up(parts)
        weighed = sketches * (factors.to(sketches.dtype) / scale).unsqueeze(1)
        # Not multiplied by 0: that would leave what is no finite number.
        return weighed.index_fill_(0, (factors == 0).nonzero().squeeze(1), 0.0)


def _keys(arrivals: Sequence[Arrival]) -> set[int]:
    return {id(parameter) for arrival in arrivals for parameter in arrival.held if parameter is not None}
