"""What the interceptor asks of the router."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from aqpolicy.gate.routing.layers import Use
from aqpolicy.gate.routing.layout import Layout, Place


class Seam(Protocol):
    """The open part, as the router has it."""

    layout: Layout

    def recording(self) -> bool:
        """Return whether uses are to be gated."""

    def arrived(self, x: Tensor, place: Place) -> Tensor:
        """Take note of a tensor with examples."""

    def tokens(self, parameters: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """Return the tokens that a use must depend on."""

    def deliver(self, name: str, parameters: Sequence[Tensor | None], use: Use) -> None:
        """Hand on what came back to a use."""
