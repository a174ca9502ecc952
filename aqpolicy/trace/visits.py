"""All visits of a run as tensors: what each wrote, where it stands, and whether the books close on them.

Closure is the condition of every trace: what the visits wrote, carried to the
end by the impulse responses, must be the way that the weights really went. What
remains may be no more than rounding to a byte explains.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any, Final

import torch
from torch import Tensor

from aqpolicy.errors import CorruptLogError, TraceError, TrustError
from aqpolicy.gate import SketchPlan
from aqpolicy.trace.book import Impulse
from aqpolicy.trace.run import Run
from aqpolicy.trace.sketches import SketchShape, sketch_shape
from aqpolicy.trust import decode_base64, sha256

SIGMAS: Final = 6.0
"""Standard deviations beyond the expected size of the rounding that a closing book may be off by."""

SINGLE: Final = 1e-4
"""Relative error of single precision over a run, of all that was booked."""


@dataclass(frozen=True)
class Visits:
    """Every visit of a run, in order of the log.

    Shapes:
        sketches: per group (v, width), the admitted gradient's, the denominator included; scales (v, g);
        step (v,); example (v,), numbered in order of appearance.
    """

    run: Run
    plan: SketchPlan
    impulses: tuple[Impulse, ...]
    sketches: tuple[Tensor, ...]
    scales: Tensor
    step: Tensor
    example: Tensor

    @property
    def count(self) -> int:
        """Number of visits."""
        return int(self.step.numel())

    @cached_property
    def rho(self) -> Tensor:
        """How far a gradient of each visit's step moves each group's final weights, shape (v, g)."""
        table = torch.tensor([response.rho for response in self.impulses], dtype=torch.float64)
        return table[:, self.step].T.contiguous()

    @cached_property
    def rounding(self) -> Tensor:
        """Standard deviation of what rounding to bytes does to one number of what was booked, shape (g,).

        A rounded number is off by scale / sqrt(12). Visits of one example resemble each other, so their errors are
        added; those of different examples are independent.
        """
        reach = self.rho.abs() * self.scales.double()
        total = torch.zeros(int(self.example.max()) + 1, reach.shape[1], dtype=torch.float64)
        return (total.index_add_(0, self.example, reach).square().sum(0) / 12).sqrt()


@dataclass(frozen=True, slots=True)
class Closure:
    """Whether the book of one group balances.

    Units:
        All l2 norms in the sketch space; `residual` is relative to the way travelled.
    """

    group: str
    travelled: float
    booked: float
    opening: float
    """What weight decay took of the initial weights."""
    unexplained: float
    tolerance: float
    """What rounding to a byte and single precision explain."""

    @property
    def residual(self) -> float:
        """The unexplained part of the way travelled."""
        return self.unexplained / self.travelled if self.travelled else self.unexplained

    @property
    def closes(self) -> bool:
        """Whether the unexplained part is within the tolerance."""
        return self.unexplained <= self.tolerance


@dataclass(frozen=True)
class Ending:
    """Where the run ended.

    Shapes:
        travelled: per group (width), sketch of the way from the initial weights; opening: per group (width).
    """

    digest: str
    state: dict[str, Any]
    travelled: tuple[Tensor, ...]
    opening: tuple[Tensor, ...]


def load_visits(run: Run) -> Visits:
    """Decode the sketches of a run.

    Raises:
        TraceError: It recorded none, has no steps, or is not linear in its gradients.
        CorruptLogError: A sketch does not fit the run's plan.
    """
    impulses = run.impulses()
    if impulses is None:
        raise TraceError(f"the run cannot be traced: {run.inexact}")
    shape = sketch_shape(run)
    records = [row.sketch for _, row in run.rows]
    if not records:
        raise TraceError("the run took no step")
    if any(len(record) != shape.length for record in records):
        raise CorruptLogError("a sketch does not fit the run's sketch plan")
    sketches, scales = _decode(b"".join(records), len(records), shape)
    step = torch.tensor([block.step for block, _ in run.rows])
    numbers: dict[bytes, int] = {}
    example = torch.tensor([numbers.setdefault(row.example_key, len(numbers)) for _, row in run.rows])
    plan = SketchPlan(shape.shapes, shape.k, shape.seed)
    return Visits(run, plan, impulses, sketches, scales, step, example)


def _decode(data: bytes, count: int, shape: SketchShape) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return the sketches per group, and the scales.

    Raises:
        CorruptLogError: A scale is no finite number.
    """
    raw = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(count, shape.length)
    sketches, scales, at = [], [], 0
    for width in shape.widths:
        scale = raw[:, at : at + 4].contiguous().view(torch.float32)
        levels = raw[:, at + 4 : at + 4 + width].contiguous().view(torch.int8)
        if not bool((scale.isfinite() & (scale >= 0)).all()):
            raise CorruptLogError("a sketch has a scale that is no finite number")
        sketches.append(levels * scale)
        scales.append(scale)
        at += 4 + width
    return tuple(sketches), torch.cat(scales, dim=1)


def load_ending(visits: Visits) -> Ending:
    """Read the published model, and where it stands from where it began.

    Raises:
        TraceError: The run published no model, its file is missing or another one, or the way there is not logged.
    """
    run = visits.run
    path = run.folder / "model.pt"
    published = run.published
    if published is None or not path.is_file():
        raise TraceError(f"the run has no published model; `{path}` is written when the gate is closed")
    data = path.read_bytes()
    digest = sha256(data).hex()
    if digest != published.get("model"):
        raise TraceError(f"`{path}` is not the model that the log published; restore it")
    state = _read_state(data)
    travelled = tuple(_travelled(published, visits, group) for group in range(len(run.tables.groups)))
    opening = tuple(_opening(visits, group, way, state) for group, way in enumerate(travelled))
    return Ending(digest, state, travelled, opening)


def _read_state(data: bytes) -> dict[str, Any]:
    try:
        state = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        raise TraceError(f"the published model cannot be read as plain weights: {error}") from error
    if not isinstance(state, dict):
        raise TraceError("the published model holds no state dict")
    return state


def _travelled(published: dict[str, Any], visits: Visits, group: int) -> Tensor:
    width = visits.plan.widths[group]
    try:
        values = struct.unpack(f"<{width}f", decode_base64(published["travelled"][group]))
    except (KeyError, IndexError, TypeError, TrustError, struct.error) as error:
        name = visits.run.tables.groups[group]
        raise TraceError(f"the log does not say how far group `{name}` went, so its book cannot be closed") from error
    return torch.tensor(values, dtype=torch.float64)


def _opening(visits: Visits, group: int, travelled: Tensor, state: dict[str, Any]) -> Tensor:
    """Return what weight decay did to the initial weights, which are the final ones less the way travelled."""
    left = visits.impulses[group].opening - 1.0
    if left == 0.0:
        return torch.zeros_like(travelled)
    names = [name for name, _ in visits.run.bundle.parameters[group]]
    try:
        flat = torch.cat([state[name].reshape(-1).double() for name in names])
    except KeyError as error:
        raise TraceError(f"the published model has no parameter {error}") from error
    if flat.numel() != visits.plan.sizes[group]:
        raise TraceError(
            f"group `{visits.run.tables.groups[group]}` holds parameters that were not trained or are tied; "
            "its weight decay cannot be booked in this version"
        )
    return left * (visits.plan.sketch(group, flat) - travelled)


def close_books(visits: Visits, ending: Ending) -> tuple[Closure, ...]:
    """Compare, per group, what was booked with the way that the weights went."""
    parts = []
    for group, name in enumerate(visits.run.tables.groups):
        rho, sketches = visits.rho[:, group], visits.sketches[group]
        booked = (rho.unsqueeze(1) * sketches).sum(0) if sketches.shape[1] else torch.zeros(0, dtype=torch.float64)
        unexplained = ending.travelled[group] - booked - ending.opening[group]
        width = sketches.shape[1]
        rounding = visits.rounding[group] * (width**0.5 + SIGMAS) if width else torch.zeros(())
        moved = (rho.abs() * sketches.norm(dim=1).double()).sum()
        parts.append(
            Closure(
                group=name,
                travelled=ending.travelled[group].norm().item(),
                booked=booked.norm().item(),
                opening=ending.opening[group].norm().item(),
                unexplained=unexplained.norm().item(),
                tolerance=(rounding + SINGLE * moved).item(),
            )
        )
    return tuple(parts)


def refuse_open_books(closures: tuple[Closure, ...]) -> None:
    """Refuse a trace on books that do not balance.

    Raises:
        TraceError: A group went further than the log explains.
    """
    for part in closures:
        if not part.closes:
            raise TraceError(
                f"the book of group `{part.group}` does not close: {part.residual:.1%} of its way is not explained by "
                f"the log; nothing is traced on it"
            )
