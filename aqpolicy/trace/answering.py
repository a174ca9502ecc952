"""Ask a compiled run: what a behaviour came from, to first order, and how much of it the index can tell.

What part of the behaviour's gradient lies outside of the index's basis is said
with every answer, and is not scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from aqpolicy.errors import InputError, TraceError
from aqpolicy.trace.behaviour import Named, build_model, measure_in
from aqpolicy.trace.index import Index
from aqpolicy.trace.index_file import load_index
from aqpolicy.trace.text import plain
from aqpolicy.trace.visits import read_state

_LINES: Final = 20


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
