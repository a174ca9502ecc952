"""A run compiled for questions: one row of bytes per example, so that a behaviour costs one backward pass, one product.

The estimate of `attribution` is linear in the behaviour's gradient. Its answers
to an orthonormal basis of `k` gradients therefore answer every gradient within
their span; what part of a gradient lies outside is said with every answer, and
is not scored. Rows are rounded to bytes; sums by credential and depth group are
kept exactly.

Trust:
    An index is unsigned and read as numbers only; every part of it has a digest
    in its header, so what was damaged on the way is found.

Layout: docs/formats/trace-index.md.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch
from torch import Tensor

from aqpolicy.errors import InputError, TraceError
from aqpolicy.gate import SketchPlan
from aqpolicy.trace.behaviour import Named, build_model, measure_in
from aqpolicy.trace.text import plain
from aqpolicy.trace.visits import read_state

MAGIC: Final = b"aqpolicy trace index 1\n"
ROUNDED: Final = 127
"""Levels on either side of zero."""

WHOLE: Final = 64
"""Numbers that a processor takes at once, or a multiple of them: rows are that long, or a multiple."""

_ALIGNED: Final = 64
_LENGTH: Final = struct.Struct("<Q")
_LARGEST_HEADER: Final = 64 * 1024 * 1024
_LINES: Final = 20
_ROUGH: Final = 2.0**-6
"""Largest part that a score of short numbers may be off by: two roundings to 8 bits, and room."""

_BLOCK: Final = 16384
"""Rows that are multiplied at once: they stay in a processor's cache."""

_TYPES: Final = {"basis": torch.float32, "levels": torch.int8, "scales": torch.float32, "owners": torch.int32}
_TYPES_OF_SUMS: Final = {"sums": torch.float64, "visits": torch.int64}
_DAMAGED: Final = "is damaged or no trace index of this version; make it again (aqpolicy index)"

Parameters = tuple[tuple[tuple[str, tuple[int, ...]], ...], ...]
"""Per group, name and shape of each parameter that the bundle governs."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What an index is of."""

    run: str
    policy: str
    model: str
    """Digest of the published model."""
    damp: float
    groups: tuple[str, ...]
    parameters: Parameters
    shapes: tuple[tuple[tuple[int, ...], ...], ...]
    """Per group, the shapes of its trained parameters."""
    sketch: tuple[int, int] | None
    """Numbers per group and seed of the run's sketches; None where it recorded factors."""
    credentials: tuple[str, ...]
    examples: tuple[str, ...]
    captured: float
    """Part of the run's own last gradients that lies in the basis: mean squared cosine."""

    def image(self, group: int, flat: Tensor) -> Tensor:
        """Return what a flat gradient of a group is in the space that the run recorded."""
        if self.sketch is None:
            return flat
        return SketchPlan(self.shapes, *self.sketch).sketch(group, flat)

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers per group in that space."""
        sizes = [sum(prod(shape) for shape in shapes) for shapes in self.shapes]
        return tuple(sizes if self.sketch is None else (min(self.sketch[0], size) for size in sizes))


@dataclass(frozen=True)
class Index:
    """A compiled run.

    Shapes:
        basis (k, n), orthonormal rows; levels (e, k), bytes; scales (e,); owners (e,), positions in `credentials`;
        sums (c, g, k); visits (c,).
    """

    facts: Facts
    basis: Tensor
    levels: Tensor
    scales: Tensor
    owners: Tensor
    sums: Tensor
    visits: Tensor

    def scores(self, known: Tensor) -> Tensor:
        """Return every example's score for a behaviour of these coefficients, (k,) -> (e,)."""
        found = torch.empty(len(self.levels))
        room, wanted = torch.empty(_BLOCK, self.levels.shape[1]), known.float()
        for start in range(0, len(found), _BLOCK):
            rows = self.levels[start : start + _BLOCK]
            torch.mv(room[: len(rows)].copy_(rows), wanted, out=found[start : start + len(rows)])
        return found.mul_(self.scales)

    def strongest(self, known: Tensor, count: int) -> tuple[list[int], list[float]]:
        """Return the examples with the largest scores, whatever their sign, and these.

        All rows are first multiplied in short floating point, which is as fast as they come out of memory; those that
        this cannot rule out are multiplied again.

        Shapes:
            known (k,).
        """
        count = min(count, len(self.levels))
        rough = self._roughly(known.float()) if count else torch.empty(0)
        if rough is None:
            rough, chosen = self.scores(known), None
        else:
            least = rough.abs().topk(count).values[-1] if count else torch.zeros(())
            chosen = (rough.abs() >= least * (1 - _ROUGH)).nonzero().squeeze(1)
            rough = (self.levels[chosen].float() @ known.float()) * self.scales[chosen]
        best = rough.abs().topk(count).indices
        found = best if chosen is None else chosen[best]
        return found.tolist(), rough[best].tolist()

    def _roughly(self, known: Tensor) -> Tensor | None:
        """Return all scores to one part in a hundred, or None where torch has no such product."""
        # It reads whole registers, also behind the end of a row.
        product = getattr(torch, "_weight_int8pack_mm", None) if self.levels.shape[1] % WHOLE == 0 else None
        largest = known.abs().max() if len(known) else torch.zeros(())
        if product is None or not largest > 0 or not bool(largest.isfinite()):
            return None
        # What the first short number of a coefficient leaves over is the second one.
        whole = known / largest
        high = whole.bfloat16()
        pair = torch.stack([high, (whole - high.float()).bfloat16()])
        try:
            found: Tensor = product(pair, self.levels, torch.ones(len(self.levels), dtype=torch.bfloat16))
        except RuntimeError:
            return None
        return found.float().sum(0).mul_(self.scales).mul_(largest)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an index says of a behaviour. Positive raises it."""

    run: str
    model: str
    behaviour: str
    value: float
    damp: float
    held: float
    """Part of the behaviour's gradient that lies in the basis: squared cosine. What is outside is not scored."""
    rounding: float
    """Standard deviation of what rounding to bytes does to one example's score."""
    groups: tuple[tuple[str, float], ...]
    annotators: tuple[tuple[str, float, int], ...]
    """Credential, score, visits; the strongest first."""
    examples: tuple[tuple[str, str, float], ...]
    """Example, credential, score; the strongest first, some only."""
    size: int
    """How many examples there are."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON data."""
        return {"format": "aqpolicy trace answer 1", **asdict(self)}

    def lines(self) -> Iterator[str]:
        """Yield it as lines of text."""
        yield f"behaviour {plain(self.behaviour)} = {self.value:.6g}, of run {self.run}"
        yield f"model     sha256:{self.model}"
        yield "depth groups: what their gradients' absence would change, to first order"
        for name, score in self.groups:
            yield f"  {plain(name):<24} {score:+.4g}"
        yield "annotators"
        for name, score, visits in self.annotators[:_LINES]:
            yield f"  {plain(name):<24} {score:+.4g}  {visits} visits"
        if len(self.annotators) > _LINES:
            yield f"  and {len(self.annotators) - _LINES} more"
        yield f"examples, the strongest of {self.size}"
        for name, credential, score in self.examples:
            yield f"  {plain(name):<24} {score:+.4g}  by {plain(credential)}"
        yield f"held      {self.held:.1%} of the behaviour's gradient lies in the index; the rest is not scored"
        yield f"rounding  an example's score is off by about {self.rounding:.2g}"
        yield "scope     this run; an index is unsigned, and no log was verified: trace without --index to have that"


def trace_by_index(folder: Path, path: Path, model: Named, behaviour: Named, top: int = 10) -> Answer:
    """Answer a behaviour of a run's published model by an index of the run; the log is not opened.

    Args:
        folder: The run's folder, with the model.
        path: The index.
        model: Builds the untrained model.
        behaviour: Takes the model and returns one number.
        top: Examples listed.

    Raises:
        InputError: A file cannot be read, or the functions cannot be used.
        TraceError: The index is damaged, or of another model.
    """
    index = load_index(path)
    facts = index.facts
    published = folder / "model.pt"
    try:
        data = published.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read `{published}`: {error.strerror}") from error
    if sha256(data).hexdigest() != facts.model:
        raise TraceError(f"`{path}` is of another model than `{published}`; make it again (aqpolicy index)")
    built = build_model(model, read_state(data))
    found = measure_in(built, behaviour, facts.groups, facts.parameters, facts.shapes, facts.image)
    return ask(index, found.name, found.value, found.gradient, top)


def ask(index: Index, name: str, value: float, gradient: Sequence[Tensor], top: int = 10) -> Answer:
    """Answer a behaviour.

    Args:
        index: The index.
        name: The behaviour's.
        value: The number that the model makes.
        gradient: Per group, in the space that the run recorded.
        top: Examples listed.
    """
    q = torch.cat([part.reshape(-1).double() for part in gradient])
    known = index.basis.double() @ q if index.basis.numel() < 1 << 22 else (index.basis @ q.float()).double()
    best, scores = index.strongest(known, top)
    by_source = index.sums @ known  # (c, g)
    facts, credentials = index.facts, index.facts.credentials
    totals = by_source.sum(1)
    order = totals.abs().argsort(descending=True, stable=True).tolist()
    by_group = sorted(zip(facts.groups, by_source.sum(0).tolist(), strict=True), key=lambda one: -abs(one[1]))
    length = q.square().sum()
    size = len(index.levels)
    off = index.scales.square().mean().div(12).sqrt() * known.norm() if size else torch.zeros(())
    return Answer(
        run=facts.run,
        model=facts.model,
        behaviour=name,
        value=value,
        damp=facts.damp,
        held=(known.square().sum() / length).clamp(max=1.0).item() if length > 0 else 1.0,
        rounding=float(off),
        groups=tuple(by_group),
        annotators=tuple((credentials[at], totals[at].item(), int(index.visits[at])) for at in order),
        examples=tuple(
            (facts.examples[at], credentials[int(index.owners[at])], score)
            for at, score in zip(best, scores, strict=True)
        ),
        size=size,
    )


def rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return levels and scales of rows, each rounded by its own largest number.

    Shapes:
        rows (e, k) -> (e, k), (e,).
    """
    largest = rows.abs().amax(1) if rows.shape[1] else rows.new_zeros(len(rows))
    scales = torch.where(largest > 0, largest / ROUNDED, 0.0).float()
    levels = (rows / torch.where(scales > 0, scales, 1.0).unsqueeze(1)).round_().clamp_(-ROUNDED, ROUNDED)
    return levels.to(torch.int8), scales


def write_index(path: Path, index: Index) -> None:
    """Write an index into a file, replacing what is there once it is whole.

    Raises:
        InputError: The file cannot be written.
    """
    parts = {name: getattr(index, name) for name in (*_TYPES, *_TYPES_OF_SUMS)}
    placed, at = {}, 0
    for name, tensor in parts.items():
        data = _bytes_of(tensor)
        placed[name] = [at, list(tensor.shape), sha256(data).hexdigest()]
        at += -(-len(data) // _ALIGNED) * _ALIGNED
    facts = {name: getattr(index.facts, name) for name in Facts.__slots__}
    header = json.dumps({"facts": facts, "parts": placed}, separators=(",", ":"), allow_nan=False).encode()
    front = MAGIC + _LENGTH.pack(len(header)) + header + sha256(header).digest()
    beside = path.with_name(path.name + ".part")
    try:
        with beside.open("wb") as file:
            file.write(front)
            for tensor in parts.values():
                file.write(b"\0" * (-file.tell() % _ALIGNED))
                file.write(_bytes_of(tensor))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise InputError(f"cannot write `{path}`: {error.strerror}") from error


def load_index(path: Path, *, check: bool = True) -> Index:
    """Open an index; its rows stay on disk and are read when they are asked.

    Args:
        path: The file.
        check: Hash all of it first. Whoever asks many questions needs that once.

    Raises:
        InputError: The file cannot be read.
        TraceError: It is damaged, or no index of this version.
    """
    try:
        with path.open("rb") as file:
            facts, placed, start = _read_header(path, file)
            size = os.fstat(file.fileno()).st_size
            # Copied where written to, which nobody does: torch would warn of memory that it may not write.
            held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read `{path}`: {error}") from error
    tensors = {}
    for name, kind in (_TYPES | _TYPES_OF_SUMS).items():
        at, shape, digest = _place(path, placed, name)
        length = prod(shape) * kind.itemsize
        if start + at + length > size:
            raise TraceError(f"`{path}` {_DAMAGED}")
        if check and sha256(memoryview(held)[start + at : start + at + length]).hexdigest() != digest:
            raise TraceError(f"`{path}` {_DAMAGED}: its {name} are others than were written")
        flat = torch.frombuffer(held, dtype=kind, count=prod(shape), offset=start + at) if length else torch.empty(0)
        tensors[name] = flat.to(kind).view(shape)
    index = Index(facts, **tensors)
    _refuse_misfits(path, index)
    return index


def _read_header(path: Path, file: BinaryIO) -> tuple[Facts, Mapping[str, Any], int]:
    head = file.read(len(MAGIC) + _LENGTH.size)
    if len(head) != len(MAGIC) + _LENGTH.size or not head.startswith(MAGIC):
        raise TraceError(f"`{path}` {_DAMAGED}")
    (length,) = _LENGTH.unpack(head[len(MAGIC) :])
    if length > _LARGEST_HEADER:
        raise TraceError(f"`{path}` {_DAMAGED}")
    header, digest = file.read(length), file.read(32)
    if sha256(header).digest() != digest:
        raise TraceError(f"`{path}` {_DAMAGED}")
    try:
        read = json.loads(header)
        facts = _facts(read["facts"])
        placed = dict(read["parts"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TraceError(f"`{path}` {_DAMAGED}") from error
    return facts, placed, -(-file.tell() // _ALIGNED) * _ALIGNED


def _facts(read: Mapping[str, Any]) -> Facts:
    sketch = read["sketch"]
    return Facts(
        run=str(read["run"]),
        policy=str(read["policy"]),
        model=str(read["model"]),
        damp=float(read["damp"]),
        groups=tuple(map(str, read["groups"])),
        parameters=tuple(
            tuple((str(name), tuple(map(int, shape))) for name, shape in group) for group in read["parameters"]
        ),
        shapes=tuple(tuple(tuple(map(int, shape)) for shape in group) for group in read["shapes"]),
        sketch=None if sketch is None else (int(sketch[0]), int(sketch[1])),
        credentials=tuple(map(str, read["credentials"])),
        examples=tuple(map(str, read["examples"])),
        captured=float(read["captured"]),
    )


def _place(path: Path, placed: Mapping[str, Any], name: str) -> tuple[int, tuple[int, ...], str]:
    try:
        at, shape, digest = placed[name]
        found = int(at), tuple(map(int, shape)), str(digest)
    except (KeyError, TypeError, ValueError) as error:
        raise TraceError(f"`{path}` {_DAMAGED}") from error
    if found[0] < 0 or any(side < 0 for side in found[1]):
        raise TraceError(f"`{path}` {_DAMAGED}")
    return found


def _refuse_misfits(path: Path, index: Index) -> None:
    """Refuse parts that do not fit each other."""
    facts, k = index.facts, index.basis.shape[:1]
    e, c = len(facts.examples), len(facts.credentials)
    expected = {
        "basis": (*k, sum(facts.widths)),
        "levels": (e, *k),
        "scales": (e,),
        "owners": (e,),
        "sums": (c, len(facts.groups), *k),
        "visits": (c,),
    }
    fits = all(tuple(getattr(index, name).shape) == shape for name, shape in expected.items())
    owned = not e or (int(index.owners.min()) >= 0 and int(index.owners.max()) < c)
    if not fits or not owned or len(facts.shapes) != len(facts.groups):
        raise TraceError(f"`{path}` {_DAMAGED}")


def _bytes_of(tensor: Tensor) -> memoryview:
    if not tensor.numel():
        return memoryview(b"")
    data: Any = tensor.contiguous().view(-1).view(torch.uint8).numpy()
    return memoryview(data)
