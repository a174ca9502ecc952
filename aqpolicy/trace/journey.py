"""How a behaviour came about along the way of the weights: its own book, account by account.

Every step is taken again from the recorded factors. Along each, the change of the
behaviour is the integral of its gradient times the step, by Simpson's rule: the
gradient before, half way and after. A step being the sum of its accounts, so is
the change: the examples' own gradients, momentum's carry, and decay. The examples'
account is divided over visits. All accounts together are the change of the
behaviour from the first weights to the last, but for what the rule leaves over.

Source: the fundamental theorem of calculus along a path; docs/trace.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from aqpolicy.errors import TraceError
from aqpolicy.trace.behaviour import Named, build_model, measure
from aqpolicy.trace.forward import Forward
from aqpolicy.trace.rollup import sources_of
from aqpolicy.trace.run import Run
from aqpolicy.trace.text import plain
from aqpolicy.trace.visits import (
    FactorSpace,
    Visits,
    balanced,
    trained_names,
)
from aqpolicy.trace.writing import split, spread

Progress = Callable[[int, int], None]

_LINES: Final = 12


@dataclass(frozen=True, slots=True)
class Shares:
    """What one part of the model added to the behaviour."""

    name: str
    fresh: float
    carry: float
    decay: float


@dataclass(frozen=True, slots=True)
class Source:
    """What the gradients of one annotator's or example's visits added to the behaviour, in the steps of the visits."""

    name: str
    fresh: float
    visits: int


@dataclass(frozen=True, slots=True)
class Journey:
    """The book of a behaviour.

    `first` plus all accounts, `left_over` and `records` make `last`.
    """

    run: str
    model: str
    behaviour: str
    first: float
    """Of the weights that the run began with."""
    last: float
    """Of the published weights."""
    fresh: float
    carry: float
    decay: float
    left_over: float
    """What the rule of integration leaves unexplained."""
    records: float
    """What rounding the records did to the end of the way."""
    trapezoid: float
    """What the coarser rule, with the gradients before and after each step only, would have left over."""
    groups: tuple[Shares, ...]
    annotators: tuple[Source, ...]
    examples: tuple[Source, ...]
    """The strongest only."""
    curve: tuple[float, ...]
    """The behaviour after every step, the first being that before any."""

    @property
    def way(self) -> float:
        """The sum of all changes along the way, without their signs."""
        pairs = zip(self.curve, self.curve[1:], strict=False)
        return sum(abs(after - before) for before, after in pairs)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON data."""
        return {"format": "aqpolicy behaviour book 1", **asdict(self)}

    def lines(self) -> Iterator[str]:
        """Yield it as lines of text."""
        yield f"behaviour {plain(self.behaviour)}: {self.first:.6g} before the run, {self.last:.6g} after it"
        yield f"run       {self.run}, {len(self.curve) - 1} steps, model sha256:{self.model}"
        yield f"fresh     {self.fresh:+.4g}  the examples' own gradients, in their steps"
        yield f"carry     {self.carry:+.4g}  momentum of earlier gradients"
        yield f"decay     {self.decay:+.4g}  weight decay"
        yield f"records   {self.records:+.4g}  the end of the way, by rounding of the records"
        yield f"left over {self.left_over:+.4g}  by the rule of integration ({self.trapezoid:+.2g} by the coarser one)"
        yield ""
        yield "depth groups              fresh       carry       decay"
        for one in self.groups:
            yield f"  {plain(one.name):<18} {one.fresh:>+10.4g}  {one.carry:>+10.4g}  {one.decay:>+10.4g}"
        for title, sources in (("annotators", self.annotators), ("examples, the strongest", self.examples)):
            yield ""
            yield f"{title:<24} fresh  visits"
            for source in sources[:_LINES]:
                yield f"  {plain(source.name):<18} {source.fresh:>+10.4g}  {source.visits:>6}"
            if len(sources) > _LINES:
                yield f"  and {len(sources) - _LINES} more"
        yield ""
        yield "scope     what moved the behaviour in this run; not what would be missing without it (level 3)"


def follow(run: Run, model: Named, behaviour: Named, *, top: int = 10, progress: Progress = lambda *_: None) -> Journey:
    """Follow a behaviour along a run.

    Args:
        run: A run that recorded factors, from `open_run`.
        model: Builds the untrained model.
        behaviour: Takes the model and returns one number.
        top: Examples listed.
        progress: Is told the steps done and the steps there are.

    Raises:
        TraceError: The run recorded no factors, or its books do not close.
    """
    visits, ending, _ = balanced(run)
    if not isinstance(visits.space, FactorSpace):
        raise TraceError('the way of a behaviour is followed where factors are recorded; train with `record="factors"`')
    built = build_model(model, ending.state)
    last = measure(visits, built, behaviour).value
    walker = _Walker(visits, built, behaviour)
    now, widths, groups = Forward([value.clone() for value in ending.start]), visits.space.widths, run.tables.groups
    fresh_of = torch.zeros(visits.count, len(groups), dtype=torch.float64)
    accounts = torch.zeros(2, len(groups), dtype=torch.float64)
    value, gradient = walker.at(now.values)
    first, curve, trapezoid = value, [value], 0.0
    for number, block in enumerate(run.blocks):
        before, (start, stop) = list(now.values), visits.spans[number]
        made = visits.take(now, number)
        moved = torch.cat(now.values) - torch.cat(before)
        if bool(moved.any()):
            _, middle = walker.at([(a + b) / 2 for a, b in zip(before, now.values, strict=True)])
            value, after = walker.at(now.values)
            mean = (gradient + 4 * middle + after) / 6
            trapezoid += float(((gradient + after) / 2).dot(moved))
            gradient = after
            factors = spread(torch.tensor(block.book.factors, dtype=torch.float64), widths)
            parts = [_whole(made, name, now.values) * factors for name in ("fresh", "carry", "decay")]
            for row, part in enumerate(parts[1:]):
                accounts[row] += _by_group(mean * part, widths)
            clip = torch.tensor(block.book.clip, dtype=torch.float64)
            writing = visits.space.writing(start, stop)
            (total,) = writing.pull(clip.expand(1, stop - start, -1))
            # Of an account that is a multiple of the gradient, number by number, each visit has its own part.
            response = torch.where(total != 0, parts[0] / torch.where(total != 0, total, 1.0), 0.0)
            fresh_of[start:stop] = writing.scores((mean * response).unsqueeze(0))[0] * clip
        curve.append(value)
        progress(number + 1, len(run.blocks))
    sources, fresh = sources_of(visits), fresh_of.sum(0)
    told = fresh.sum().item() + accounts.sum().item()
    return Journey(
        run=run.run_id,
        model=ending.digest,
        behaviour=behaviour.text,
        first=first,
        last=last,
        fresh=fresh.sum().item(),
        carry=accounts[0].sum().item(),
        decay=accounts[1].sum().item(),
        left_over=value - first - told,
        records=last - value,
        trapezoid=value - first - trapezoid,
        groups=tuple(
            Shares(name, *each) for name, *each in zip(groups, fresh.tolist(), *accounts.tolist(), strict=True)
        ),
        annotators=_ranked(fresh_of, [sources.credential[at] for at in visits.example.tolist()]),
        examples=_ranked(fresh_of, [sources.names[at] for at in visits.example.tolist()])[:top],
        curve=tuple(curve),
    )


class _Walker:
    """Measures a behaviour at any weights."""

    def __init__(self, visits: Visits, model: nn.Module, behaviour: Named) -> None:
        self._visits, self._model, self._behaviour = visits, model, behaviour
        known = dict(model.named_parameters(remove_duplicate=False))
        names = range(len(visits.run.tables.groups))
        self._parameters = [[known[name] for name in trained_names(visits.run, group)] for group in names]

    def at(self, values: Sequence[Tensor]) -> tuple[float, Tensor]:
        """Return the behaviour and its flat gradient at some weights."""
        with torch.no_grad():
            for value, parameters in zip(values, self._parameters, strict=True):
                for part, parameter in zip(split(value, [p.numel() for p in parameters]), parameters, strict=True):
                    parameter.copy_(part.view(parameter.shape))
        found = measure(self._visits, self._model, self._behaviour)
        return found.value, torch.cat([part.double() for part in found.gradient])


def _whole(made: Sequence[Any], name: str, values: Sequence[Tensor]) -> Tensor:
    """Return one account of a step as a flat vector; groups that were closed have none of it."""
    pairs = zip(made, values, strict=True)
    return torch.cat([torch.zeros_like(value) if one is None else getattr(one, name) for one, value in pairs])


def _by_group(values: Tensor, widths: Sequence[int]) -> Tensor:
    return torch.stack([part.sum() for part in split(values, widths)])


def _ranked(fresh_of: Tensor, names: Sequence[str]) -> tuple[Source, ...]:
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for name, value in zip(names, fresh_of.sum(1).tolist(), strict=True):
        sums[name] = sums.get(name, 0.0) + value
        counts[name] = counts.get(name, 0) + 1
    ordered = sorted(sums.items(), key=lambda pair: -abs(pair[1]))
    return tuple(Source(name, value, counts[name]) for name, value in ordered)
