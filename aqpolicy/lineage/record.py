"""What the gate says of one step: a row per example and a book.

No IO, no bytes (`leaf`, `block`). It judges nothing: that a share follows from the
policy is for `trace.audit` to say. A number that was measured and is not finite is
-1, one that was not measured is -2; NaN does not occur, so every fact has one
encoding.

Layout: docs/formats/lineage-log.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NO_INDEX: Final = 2**32 - 1
"""Manifest index of an example that the manifest does not hold."""

NO_SURPRISAL: Final = 2**32 - 1
"""Surprisal of an example whose loss is no finite number."""

NO_ENTROPY: Final = 2**32 - 1
"""Predictive entropy of an example for which none was given, or no finite one."""

NOT_FINITE: Final = -1.0
"""Norm that is no finite number."""

NOT_BOOKED: Final = -1.0
"""Residual of an optimizer whose steps the book does not reconstruct."""

NOT_MEASURED: Final = -2.0
"""Norm or drift that the run did not measure."""

KEY_BYTES: Final = 16

NORMS: Final = ("float32", "float16")
"""How norms can be kept."""

SKETCH_KIND: Final = "ring-1"
"""The map from gradients to sketches that runs use now; another map gets another name."""

FACTOR_KIND: Final = "outer-1"
"""How factors are laid out (docs/formats/factors.md)."""

LARGEST_SCALE: Final = 2.0**48
"""Of a block of numbers in a factor: so that no sum of products of two of them is beyond single precision."""

ACCOUNTS: Final = ("fresh", "haircut", "carry", "decay")
"""What a change is split into; what is left of it is rounding. The haircut is no part of the change."""

EFFECTS: Final = ("deny", "defer", "modulate", "admit")
CAUSES: Final = ("granted", "denied", "default", "error")
REASONS: Final = (
    "table",
    "unknown_example",
    "refused_example",
    "not_finite",
    "per_update",
    "exhausted",
    "deferred",
    "attenuated",
    "halted",
    "gradient_not_finite",
    "linear",
    "frequency",
    "held",
    "deferral_expired",
)
"""What the reason codes of rows and exceptions stand for."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the encoding of a step depends on: widths, and the names that it gives by number."""

    groups: int
    budgets: int
    phases: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    norms: str = NORMS[0]


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one example in one step.

    Shapes:
        norms (g): l2 norm of the gradient of the example's own loss, unweighted, `NOT_FINITE` or `NOT_MEASURED` where
        there is none; charges (number of budgets): micro-nats.
    """

    example_key: bytes
    manifest_index: int
    route: int
    """Row of the bundle's mask table."""
    effect: str
    cause: str
    reason_code: int
    surprisal: int
    """Micro-nats, `NO_SURPRISAL` where the loss is not finite."""
    norms: tuple[float, ...]
    charges: tuple[int, ...]
    exceptions: tuple[tuple[int, int, int], ...] = ()
    """Where the applied share is not the table's: group, reason code, share in millionths."""
    sketch: bytes = b""
    entropy: int = NO_ENTROPY
    """Micro-nats, `NO_ENTROPY` where it is not known."""


@dataclass(frozen=True, slots=True)
class Book:
    """What the optimizer did in one step, and what was left of it.

    What is left out is nothing special: one part, all factors 1, nothing clipped, no drift measured.

    Shapes:
        movement (g): l2 norm of the change that the group's parameters kept; residual (g): the part of it that the
        recorded gradients do not explain, relative, `NOT_BOOKED` where not reconstructed; closed (g); factors (g),
        proposed (g), drift (g), clip (g); fresh, haircut, carry, decay (g), `NOT_BOOKED` where no accounts were kept;
        movement_charges, drift_charges (number of budgets).
    """

    lr: float
    momentum: float
    """Of Adam its first beta."""
    dampening: float
    weight_decay: float
    nesterov: bool
    optimizer: str
    movement: tuple[float, ...]
    residual: tuple[float, ...]
    closed: tuple[bool, ...]
    denominator: float
    """What the sum of the examples' gradients was divided by."""
    mixed: bool = False
    """Parameter groups of the optimizer had different settings; those given here are of the first."""
    parts: int = 1
    """How many parts the step came in."""
    loss_scale: float = 1.0
    proposed: tuple[float, ...] = ()
    """l2 norm of the change that the optimizer made, before the factors."""
    factors: tuple[float, ...] = ()
    """What a budget of movement or drift left of the change: 1 all of it, 0 the group was put back."""
    drift: tuple[float, ...] = ()
    """Nats by which the group's representation drifted, `NOT_MEASURED` where that was not looked at."""
    clip: tuple[float, ...] = ()
    """What the loop multiplied the admitted gradient by before the optimizer saw it."""
    fresh: tuple[float, ...] = ()
    """l2 norm of the part of the proposed change that the step's own gradient made."""
    haircut: tuple[float, ...] = ()
    """What clipping took away from it; no part of the change."""
    carry: tuple[float, ...] = ()
    """The part that the momentum of earlier steps made."""
    decay: tuple[float, ...] = ()
    """The part that weight decay made."""
    second_momentum: float = 0.0
    """Adam's second beta; 0 where the optimizer keeps no squares of gradients."""
    epsilon: float = 0.0
    amsgrad: bool = False
    decoupled: bool = False
    """Weight decay is no part of the gradient."""
    movement_charges: tuple[int, ...] = ()
    """Millionths of l2."""
    drift_charges: tuple[int, ...] = ()
    """Micro-nats."""
    touched: tuple[tuple[int, int, tuple[int, ...]], ...] = ()
    """Rows of embedding tables that an admitted gradient was written to: depth group, position of the parameter among
    the group's, and the numbers of the rows, without repetition; all in order."""

    def __post_init__(self) -> None:
        """Fill in what was left out, except charges: how many budgets there are is not known here."""
        width = len(self.movement)
        usual = {"proposed": self.movement, "factors": (1.0,) * width, "clip": (1.0,) * width}
        usual |= dict.fromkeys(ACCOUNTS, (NOT_BOOKED,) * width)
        for name, values in (usual | {"drift": (NOT_MEASURED,) * width}).items():
            if not getattr(self, name):
                object.__setattr__(self, name, values)
