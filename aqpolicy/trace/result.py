"""The answer to "why does the model do this?": the chain down to signed observations, with its error statement.

Plain data; `trace_behaviour` in `query` makes it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from aqpolicy.trace.rollup import Entry
from aqpolicy.trace.visits import Closure


@dataclass(frozen=True, slots=True)
class Region:
    """One depth group."""

    name: str
    score: float
    contribution: float
    holds: float
    """Change of the behaviour along the way that the group's weights went, to first order."""


@dataclass(frozen=True, slots=True)
class Part:
    """One row of a parameter: an output of a layer, a channel, a word of an embedding."""

    group: str
    parameter: str
    row: int
    score: float
    contribution: float
    holds: float
    """Change of the behaviour along the way that the row went, to first order."""


@dataclass(frozen=True, slots=True)
class Event:
    """One consensus event of an observation's history."""

    credential: str
    consensus: float
    judgments: int
    observed_at: int


@dataclass(frozen=True, slots=True)
class Signed:
    """The signed observation that a chain ends in. Its signatures were verified when the manifest was loaded."""

    example: str
    credential: str
    holder: str
    authority: str
    leaf_index: int
    leaf: str
    label_digest: str
    observed_at: int
    attributes: dict[str, str | int]
    history: tuple[Event, ...]
    rules: tuple[str, ...]
    """The rules that decided about it."""
    revoked: str
    """The reason why the credential was revoked, or nothing."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One node of the chain: a depth group, an update, an example.

    `share` is the signed part of all that moved at this place, its siblings' magnitudes included.
    """

    kind: str
    name: str
    score: float
    share: float
    example: str = ""
    """The example whose signed observation stands behind the node, or nothing."""
    children: tuple[Hop, ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorStatement:
    """How far to believe the numbers."""

    method: str
    scope: str
    closure: tuple[Closure, ...]
    worst_step_residual: dict[str, float]
    """Per group, the largest part of one step that its gradients did not explain, as the gate measured it."""
    behaviour_booked: float
    """Sum of all contributions and the opening balance."""
    behaviour_travelled: float
    """The same from the weights themselves; equal where the books close."""
    rounding_error: float
    """Standard error of what was booked that rounding sketches to bytes makes."""
    sketch_error: float
    """Standard error of both that sketching makes; 0 where every group was kept whole."""
    null: str


@dataclass(frozen=True, slots=True)
class Trace:
    """A behaviour and everything that the log can say about where it came from."""

    run: str
    policy: str
    model: str
    behaviour: str
    value: float
    level: int
    damp: float
    visits: int
    groups: tuple[str, ...]
    """The depth groups, as the groups of all entries are ordered."""
    total: float
    """Sum of all scores."""
    opening: float
    """What weight decay did to the behaviour through the initial weights; nobody's."""
    regions: tuple[Region, ...]
    rows: tuple[Part, ...]
    """The strongest rows of parameters only; none where sketches were recorded, which know no rows."""
    chain: tuple[Hop, ...]
    epochs: tuple[Entry, ...]
    steps: tuple[Entry, ...]
    """The strongest only."""
    examples: tuple[Entry, ...]
    """The strongest only."""
    annotators: tuple[Entry, ...]
    classes: dict[str, tuple[Entry, ...]]
    """By each category that the policy looks at."""
    consensus: tuple[Entry, ...]
    rules: tuple[Entry, ...]
    observations: tuple[Signed, ...]
    """Of the strongest examples, in their order."""
    statement: ErrorStatement

    def observation(self, example: str) -> Signed | None:
        """Return the signed observation of one of the strongest examples."""
        return next((signed for signed in self.observations if signed.example == example), None)

    def to_json(self) -> dict[str, Any]:
        """Return the trace as plain JSON data."""
        return {"format": "aqpolicy trace 1", **asdict(self)}
