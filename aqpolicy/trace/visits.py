"""All visits of a run: what each wrote, where it stands, and whether the books close on them.

Closure is the condition of every trace: what the visits wrote, carried to the
end, must be the way that the weights really went. What remains may be no more
than rounding what was recorded explains.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from typing import Any, Final

import torch
from torch import Tensor

from aqpolicy.errors import CorruptLogError, TraceError, TrustError
from aqpolicy.gate import SketchPlan
from aqpolicy.gate.records.start import read_start
from aqpolicy.trace.book import Impulse
from aqpolicy.trace.factors import FactorShape, factor_shape
from aqpolicy.trace.forward import Forward
from aqpolicy.trace.run import FACTORS, Run
from aqpolicy.trace.sketches import Shapes, SketchShape, sketch_shape
from aqpolicy.trace.writing import FactorWriting, SketchWriting, Writing
from aqpolicy.trust import decode_base64, sha256

SIGMAS: Final = 6.0
"""Standard deviations beyond the expected size of the rounding that a closing book may be off by."""

SINGLE: Final = 1e-4
"""Relative error of single precision over a run, of all that was booked."""

ROUNDED: Final = {8: 0.05, 4: 0.5}
"""Part of the way that factors of so many bits may leave unexplained."""

CACHED: Final = 256 * 1024 * 1024
"""Most memory that factors which were read may stay in, as recorded."""


@dataclass(frozen=True)
class SketchSpace:
    """The space of a run's sketches.

    Shapes:
        sketches: per group (v, width), the admitted gradient's, the denominator included; scales (v, g).
    """

    plan: SketchPlan
    sketches: tuple[Tensor, ...]
    scales: Tensor

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers per group."""
        return self.plan.widths

    @property
    def shapes(self) -> tuple[Shapes, ...]:
        """The shapes of the trained parameters."""
        return self.plan.shapes

    @cached_property
    def _joined(self) -> Tensor:
        return torch.cat(self.sketches, dim=1)

    def image(self, group: int, flat: Tensor) -> Tensor:
        """Return what a flat gradient of a group is in this space."""
        return self.plan.sketch(group, flat)

    def writing(self, start: int, stop: int) -> Writing:
        """Return what a run of visits wrote."""
        return SketchWriting(self._joined[start:stop].double(), self.widths)


@dataclass(frozen=True)
class FactorSpace:
    """The space of the parameters themselves."""

    shape: FactorShape
    records: Sequence[bytes]
    _read: dict[tuple[int, int], FactorWriting] = field(default_factory=dict, compare=False, repr=False)

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers per group."""
        return self.shape.sizes

    @property
    def shapes(self) -> tuple[Shapes, ...]:
        """The shapes of the trained parameters."""
        return self.shape.shapes

    def image(self, group: int, flat: Tensor) -> Tensor:  # noqa: ARG002 - the same for all groups
        """Return what a flat gradient of a group is in this space: itself."""
        return flat

    def writing(self, start: int, stop: int) -> FactorWriting:
        """Return what a run of visits wrote."""
        known = self._read.get((start, stop))
        if known is None:
            known = FactorWriting(self.shape, self.records[start:stop])
            if sum(map(len, self.records[:1])) * len(self.records) <= CACHED:
                self._read[start, stop] = known
        return known


Space = SketchSpace | FactorSpace


@dataclass(frozen=True)
class Visits:
    """Every visit of a run, in order of the log.

    Shapes:
        step (v,); example (v,), numbered in order of appearance.
    """

    run: Run
    space: Space
    impulses: tuple[Impulse, ...] | None
    """None where the run has no scalar response."""
    step: Tensor
    example: Tensor

    @property
    def count(self) -> int:
        """Number of visits."""
        return int(self.step.numel())

    @property
    def sketches(self) -> tuple[Tensor, ...]:
        """The sketches of a run that recorded some."""
        return self._sketched.sketches

    @property
    def _sketched(self) -> SketchSpace:
        if not isinstance(self.space, SketchSpace):
            raise TraceError("the run recorded no sketches")
        return self.space

    @cached_property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """The visits of each step: the first, and the one behind the last."""
        spans, at = [], 0
        for block in self.run.blocks:
            spans.append((at, at + len(block.rows)))
            at += len(block.rows)
        return tuple(spans)

    @cached_property
    def rho(self) -> Tensor:
        """How far a gradient of each visit's step moves each group's final weights, shape (v, g)."""
        if self.impulses is None:
            raise TraceError("the run has no scalar response")
        table = torch.tensor([response.rho for response in self.impulses], dtype=torch.float64)
        return table[:, self.step].T.contiguous()

    @cached_property
    def rounding(self) -> Tensor:
        """Standard deviation of what rounding to bytes does to one number of what was booked in sketches, shape (g,).

        A rounded number is off by scale / sqrt(12). Visits of one example resemble each other, so their errors are
        added; those of different examples are independent.
        """
        reach = self.rho.abs() * self._sketched.scales.double()
        total = torch.zeros(int(self.example.max()) + 1, reach.shape[1], dtype=torch.float64)
        return (total.index_add_(0, self.example, reach).square().sum(0) / 12).sqrt()

    def take(self, now: Forward, number: int) -> Any:
        """Take a state through a step of the run, and return what the step is made of."""
        return now.step(self.run.blocks[number].book, self.space.writing(*self.spans[number]))


@dataclass(frozen=True, slots=True)
class Closure:
    """Whether the book of one group balances.

    Units:
        All l2 norms in the space of the record; `residual` is relative to the way travelled.
    """

    group: str
    travelled: float
    booked: float
    opening: float
    """What weight decay took of the initial weights; 0 where the steps were taken again, which has it in `booked`."""
    unexplained: float
    tolerance: float
    """What rounding the record and single precision explain."""

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
        travelled: per group (width), the way from the initial weights; opening: per group (width), of sketches; start:
        per group (width), the initial weights, of factors.
    """

    digest: str
    state: dict[str, Any]
    travelled: tuple[Tensor, ...]
    opening: tuple[Tensor, ...] = ()
    start: tuple[Tensor, ...] = ()


def load_visits(run: Run) -> Visits:
    """Decode what the visits of a run wrote.

    Raises:
        TraceError: It recorded none of it, has no steps, or is not linear in its gradients.
        CorruptLogError: A record does not fit the run's plan.
    """
    if run.inexact:
        raise TraceError(f"the run cannot be traced: {run.inexact}")
    records = [row.sketch for _, row in run.rows]
    space = _factor_space(run, records) if run.genesis.get("record") == FACTORS else _sketch_space(run, records)
    step = torch.tensor([block.step for block, _ in run.rows])
    numbers: dict[bytes, int] = {}
    example = torch.tensor([numbers.setdefault(row.example_key, len(numbers)) for _, row in run.rows])
    return Visits(run, space, run.impulses(), step, example)


def _factor_space(run: Run, records: Sequence[bytes]) -> FactorSpace:
    shape = factor_shape(run)
    if not records:
        raise TraceError("the run took no step")
    return FactorSpace(shape, records)


def _sketch_space(run: Run, records: Sequence[bytes]) -> SketchSpace:
    shape = sketch_shape(run)
    if not records:
        raise TraceError("the run took no step")
    if any(len(record) != shape.length for record in records):
        raise CorruptLogError("a sketch does not fit the run's sketch plan")
    plan = SketchPlan(shape.shapes, shape.k, shape.seed)
    return SketchSpace(plan, *_decode(b"".join(records), len(records), shape))


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
    state = read_state(data)
    groups = range(len(run.tables.groups))
    if isinstance(visits.space, FactorSpace):
        begun = read_start(run.folder, run.genesis.get("start"))
        start = tuple(flat_of(visits, group, begun) for group in groups)
        way = tuple(flat_of(visits, group, state) - start[group] for group in groups)
        return Ending(digest, state, way, start=start)
    travelled = tuple(_travelled(published, visits, group) for group in groups)
    opening = tuple(_opening(visits, group, way, state) for group, way in enumerate(travelled))
    return Ending(digest, state, travelled, opening)


def read_state(data: bytes) -> dict[str, Any]:
    """Return published weights.

    Raises:
        TraceError: The bytes hold no plain weights.
    """
    try:
        state = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        raise TraceError(f"the published model cannot be read as plain weights: {error}") from error
    if not isinstance(state, dict):
        raise TraceError("the published model holds no state dict")
    return state


def _travelled(published: dict[str, Any], visits: Visits, group: int) -> Tensor:
    width = visits.space.widths[group]
    try:
        values = struct.unpack(f"<{width}f", decode_base64(published["travelled"][group]))
    except (KeyError, IndexError, TypeError, TrustError, struct.error) as error:
        name = visits.run.tables.groups[group]
        raise TraceError(f"the log does not say how far group `{name}` went, so its book cannot be closed") from error
    return torch.tensor(values, dtype=torch.float64)


def trained_names(run: Run, group: int) -> list[str]:
    """Return the names of a group's trained parameters, in the order in which they are recorded."""
    trained = int(run.genesis["trained"][group], 16)
    return [name for number, (name, _) in enumerate(run.bundle.parameters[group]) if trained >> number & 1]


def flat_of(visits: Visits, group: int, state: dict[str, Any]) -> Tensor:
    """Return a group's trained parameters side by side.

    Raises:
        TraceError: They are not in the file, or other parameters are.
    """
    run = visits.run
    try:
        parts = [state[name].reshape(-1).double() for name in trained_names(run, group)]
    except KeyError as error:
        raise TraceError(f"the published model has no parameter {error}") from error
    flat = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
    if flat.numel() != visits.space.shape.sizes[group] if isinstance(visits.space, FactorSpace) else False:
        raise TraceError(f"group `{run.tables.groups[group]}` holds other parameters than were trained")
    return flat


def _opening(visits: Visits, group: int, travelled: Tensor, state: dict[str, Any]) -> Tensor:
    """Return what weight decay did to the initial weights, which are the final ones less the way travelled."""
    assert visits.impulses is not None, "sketches are traced by scalar responses"  # noqa: S101 - for mypy
    left = visits.impulses[group].opening - 1.0
    if left == 0.0:
        return torch.zeros_like(travelled)
    plan = visits._sketched.plan  # noqa: SLF001 - of this module
    names = [name for name, _ in visits.run.bundle.parameters[group]]
    try:
        flat = torch.cat([state[name].reshape(-1).double() for name in names])
    except KeyError as error:
        raise TraceError(f"the published model has no parameter {error}") from error
    if flat.numel() != plan.sizes[group]:
        raise TraceError(
            f"group `{visits.run.tables.groups[group]}` holds parameters that were not trained or are tied; "
            "its weight decay cannot be booked in this version"
        )
    return left * (plan.sketch(group, flat) - travelled)


def close_books(visits: Visits, ending: Ending) -> tuple[Closure, ...]:
    """Compare, per group, what was booked with the way that the weights went."""
    if isinstance(visits.space, FactorSpace):
        return _close_factors(visits, visits.space, ending)
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


def _close_factors(visits: Visits, space: FactorSpace, ending: Ending) -> tuple[Closure, ...]:
    """Take all steps again from what was recorded, and compare where that leads."""
    now = Forward([value.clone() for value in ending.start])
    lengths = torch.zeros(len(ending.start), dtype=torch.float64)
    for number, block in enumerate(visits.run.blocks):
        visits.take(now, number)
        lengths += torch.tensor(block.book.movement, dtype=torch.float64)
    parts = []
    number_of = {name: number for number, name in enumerate(visits.run.tables.groups)}
    columns = zip(visits.run.tables.groups, now.values, ending.start, ending.travelled, lengths.tolist(), strict=True)
    for name, value, start, way, length in columns:
        booked = value - start
        parts.append(
            Closure(
                group=name,
                travelled=way.norm().item(),
                booked=booked.norm().item(),
                opening=0.0,
                unexplained=(way - booked).norm().item(),
                tolerance=tolerance_of(visits.run, space, number_of[name], way, length),
            )
        )
    return tuple(parts)


def tolerance_of(run: Run, space: FactorSpace, group: int, way: Tensor, length: float) -> float:
    """Return how far the end of a group may be from where its records lead.

    Args:
        run: The run.
        space: Its factors.
        group: Number of the group.
        way: From its initial weights to its final ones.
        length: Sum of the lengths of its steps.
    """
    room = ROUNDED[space.shape.bits] * max(float(way.norm()), SINGLE * length)
    books = [block.book for block in run.blocks]
    # What low precision lost in every step is an account of its own, and known.
    lost = sum(max(book.residual[group], 0.0) * book.proposed[group] for book in books)
    return room + lost


def balanced(run: Run) -> tuple[Visits, Ending, tuple[Closure, ...]]:
    """Return the visits of a run, where they led, and the book of every group, which balances.

    Raises:
        TraceError: The run cannot be traced, or its books do not close.
    """
    visits = load_visits(run)
    ending = load_ending(visits)
    closures = close_books(visits, ending)
    refuse_open_books(closures)
    return visits, ending, closures


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
