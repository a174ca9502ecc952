"""The step that is going on: its schedule, the parts done so far, and what was decided and found in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.accounts.state import RunState
from aqpolicy.gate.accounts.visits import Spending
from aqpolicy.gate.routing.backward import Found


@dataclass(slots=True)
class OpenStep:
    """A step between its beginning and its end. Spendings are those of all ranks, the rest is this rank's."""

    names: tuple[str, ...]
    state: RunState
    denominator: float
    world: int = 1
    part: tuple[str, ...] = ()
    """The examples of the open part."""
    begun: int = 0
    """How many examples belong to parts that were opened."""
    explicit: bool = False
    """Whether the loop opened parts itself."""
    pending: bool = True
    """Whether the open part still waits for its backward pass."""
    spendings: list[Spending] = field(default_factory=list)
    founds: list[Found] = field(default_factory=list)
    visits: list[tuple[int, ...]] = field(default_factory=list)
    """Examples of every rank, part by part."""
    gradients: list[tuple[tuple[int, int] | None, float]] = field(default_factory=list)
    """Address, version and norm of every gradient as the last backward pass left it."""

    def __post_init__(self) -> None:
        """Open all examples as one part, until the loop opens its own."""
        self.part = self.names

    def open_part(self, names: Sequence[str]) -> None:
        """Go on to the next part.

        Raises:
            IllegalTrainingSetupError: It is not the next stretch of the schedule, or the part before is not done.
        """
        if self.spendings and not self.explicit:
            raise IllegalTrainingSetupError("gate.backward has differentiated the whole step; open parts before it")
        if self.explicit and self.pending:
            raise IllegalTrainingSetupError("a part was opened before gate.backward closed the one before")
        if not names or tuple(names) != self.names[self.begun : self.begun + len(names)]:
            raise IllegalTrainingSetupError(
                "a part holds the next examples of the step, in their order; give gate.step all of them at once"
            )
        self.part, self.begun = tuple(names), self.begun + len(names)
        self.explicit = self.pending = True

    def expect_backward(self) -> None:
        """Refuse a second backward pass over one part.

        Raises:
            IllegalTrainingSetupError: The part is done.
        """
        if not self.pending:
            raise IllegalTrainingSetupError(
                "gate.backward was called twice over the same examples; to accumulate gradients open gate.part(ids)"
            )

    def done(self, spending: Spending, found: Found, counts: Sequence[int]) -> None:
        """Take note of a part, and of how many examples every rank had in it."""
        self.spendings.append(spending)
        self.founds.append(found)
        self.visits.append(tuple(counts))
        self.pending = False

    def refuse_unfinished(self) -> None:
        """Refuse the end of a step that left examples out.

        Raises:
            IllegalTrainingSetupError: It did.
        """
        if not self.spendings or self.pending:
            raise IllegalTrainingSetupError("the step was left without gate.backward; nothing was learned or recorded")
        if self.explicit and self.begun < len(self.names):
            raise IllegalTrainingSetupError(
                f"the step was left after {self.begun} of its {len(self.names)} scheduled examples; "
                "an example that is not to be visited is not scheduled"
            )


def own_rows(rows: Tensor, counts: Sequence[int], rank: int) -> Tensor:
    """Return this rank's rows of what was computed for all ranks."""
    start = sum(counts[:rank])
    return rows[start : start + counts[rank]]
