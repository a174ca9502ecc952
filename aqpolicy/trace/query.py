"""Trace one behaviour of a finished run: from a number that the model makes to signed observations.

It opens nothing that was not verified, refuses books that do not close, and
moves nothing. Entry: `trace_behaviour`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Final

import torch
from torch import Tensor

from aqpolicy.errors import InputError
from aqpolicy.lineage import NO_INDEX
from aqpolicy.trace.attribution import DEFAULT_DAMP, Scores, score
from aqpolicy.trace.behaviour import Behaviour, Named, build_model, measure
from aqpolicy.trace.result import ErrorStatement, Event, Hop, Part, Region, Signed, Trace
from aqpolicy.trace.rollup import (
    BAND,
    DRAWS,
    Sources,
    by_attribute,
    by_consensus,
    by_example,
    by_rule,
    roll_up,
    sources_of,
    with_null,
)
from aqpolicy.trace.run import Run
from aqpolicy.trace.visits import (
    Closure,
    Ending,
    SketchSpace,
    Visits,
    balanced,
    trained_names,
)
from aqpolicy.units import MICRO

METHODS: Final = {
    0: "contribution: what each admitted gradient added along the way; not what its absence would change",
    3: "estimate: what the absence of each visit would change, to first order, by a reverse pass with damped "
    "curvature; not a retraining",
}
SCOPE: Final = (
    "this run, its order and its seed; confirm claims about whole classes, or about more than a tenth of the data, "
    "by training again without them"
)
BREADTH: Final = (3, 3, 2)
"""Depth groups, updates per group and examples per update that the chain shows."""


def trace_behaviour(
    run: Run, model: Named, behaviour: Named, *, level: int = 3, damp: float = DEFAULT_DAMP, top: int = 10
) -> Trace:
    """Trace a behaviour.

    Args:
        run: A run that recorded sketches, from `open_run`.
        model: Builds the untrained model.
        behaviour: Takes the model and returns one number.
        level: 3 for the estimate, 0 for the plain contribution.
        damp: Weight of the curvature in the estimate; 0 makes it the contribution.
        top: How many updates and examples are listed.

    Raises:
        TraceError: The run cannot be traced, or its books do not close.
        InputError: The functions cannot be used, or the level is none.
    """
    if level not in METHODS or not damp >= 0 or top < 1:
        raise InputError("a level is 0 or 3, a damp is not negative, and at least one line is listed")
    visits, ending, closures = balanced(run)
    measured = measure(visits, build_model(model, ending.state), behaviour)
    return explain(visits, ending, closures, measured, level=level, damp=damp, top=top)


def explain(
    visits: Visits,
    ending: Ending,
    closures: tuple[Closure, ...],
    behaviour: Behaviour,
    *,
    level: int = 3,
    damp: float = DEFAULT_DAMP,
    top: int = 10,
) -> Trace:
    """Score every visit for a measured behaviour and roll the scores up."""
    run = visits.run
    scores = score(visits, behaviour.gradient, ending, level=level, damp=damp)
    sources = sources_of(visits)
    examples = roll_up(scores, by_example(sources, [(name,) for name in sources.names]))[:top]
    annotators = roll_up(scores, by_example(sources, [(name,) for name in sources.credential]))
    chain = _chain(visits, scores, sources)
    shown = dict.fromkeys([entry.name for entry in examples] + _examples_in(chain))
    return Trace(
        run=run.run_id,
        policy=f"{run.bundle.policy_name} {run.bundle.policy_version}",
        model=ending.digest,
        behaviour=behaviour.name,
        value=behaviour.value,
        level=level,
        damp=damp,
        visits=visits.count,
        groups=run.tables.groups,
        total=scores.chosen.sum().item(),
        opening=scores.opening.sum().item(),
        regions=_regions(run, scores, behaviour, ending),
        rows=_rows(visits, scores, behaviour, ending, top),
        chain=chain,
        epochs=roll_up(scores, [(str(block.epoch),) for block, _ in run.rows]),
        steps=roll_up(scores, [(str(block.step),) for block, _ in run.rows])[:top],
        examples=examples,
        annotators=with_null(annotators, scores, sources),
        classes={name: roll_up(scores, labels) for name, labels in by_attribute(run, sources).items()},
        consensus=roll_up(scores, by_consensus(run, sources)),
        rules=roll_up(scores, by_rule(run)),
        observations=_signed(run, sources, list(shown)),
        statement=_statement(visits, scores, ending, closures, behaviour, level=level),
    )


def _regions(run: Run, scores: Scores, behaviour: Behaviour, ending: Ending) -> tuple[Region, ...]:
    columns = zip(
        run.tables.groups,
        scores.chosen.sum(0).tolist(),
        scores.contribution.sum(0).tolist(),
        behaviour.gradient,
        ending.travelled,
        strict=True,
    )
    regions = (Region(name, chosen, l0, part.double().dot(way).item()) for name, chosen, l0, part, way in columns)
    return tuple(sorted(regions, key=lambda region: -abs(region.score)))


def _rows(visits: Visits, scores: Scores, behaviour: Behaviour, ending: Ending, top: int) -> tuple[Part, ...]:
    """Return the rows of parameters with the largest scores."""
    if scores.places is None:
        return ()
    run, space = visits.run, visits.space
    way = torch.cat([part.double() * gone for part, gone in zip(behaviour.gradient, ending.travelled, strict=True)])
    columns, at = (scores.places.chosen, scores.places.contribution, way), 0
    found: list[Part] = []
    for group, name in enumerate(run.tables.groups):
        for parameter, shape in zip(trained_names(run, group), space.shapes[group], strict=True):
            # A vector is one row: its numbers belong to the rows of a matrix beside it, or to no row at all.
            rows = shape[0] if len(shape) > 1 else 1
            size = prod(shape)
            chosen, contribution, holds = (part[at : at + size].view(rows, -1).sum(1) for part in columns)
            for row in _strongest(chosen, top):
                values = chosen[row].item(), contribution[row].item(), holds[row].item()
                found.append(Part(name, parameter, row, *values))
            at += size
    return tuple(sorted(found, key=lambda part: -abs(part.score))[:top])


def _chain(visits: Visits, scores: Scores, sources: Sources) -> tuple[Hop, ...]:
    """Return the strongest groups, in each the strongest updates, in each the strongest examples."""
    table, (wide, deep, few) = scores.chosen, BREADTH
    hops = []
    for group in _strongest(table.sum(0), wide):
        column = table[:, group]
        by_step = torch.zeros(len(visits.run.blocks), dtype=torch.float64).index_add_(0, visits.step, column)
        updates = []
        for step in _strongest(by_step, deep):
            inside = (visits.step == step).nonzero().squeeze(1)
            names = [sources.names[number] for number in sources.example[inside].tolist()]
            parts = column[inside]
            leaves = (
                Hop("example", names[at], parts[at].item(), _part(parts, at), example=names[at])
                for at in _strongest(parts, few)
            )
            updates.append(Hop("update", f"step {step}", by_step[step].item(), _part(by_step, step), "", tuple(leaves)))
        name, sums = visits.run.tables.groups[group], table.sum(0)
        hops.append(Hop("group", name, sums[group].item(), _part(sums, group), "", tuple(updates)))
    return tuple(hops)


def _strongest(values: Tensor, count: int) -> list[int]:
    """Return where the largest magnitudes are, zeros left out."""
    order = values.abs().argsort(descending=True, stable=True)[:count].tolist()
    return [at for at in order if values[at] != 0]


def _part(values: Tensor, at: int) -> float:
    total = values.abs().sum().item()
    return values[at].item() / total if total else 0.0


def _examples_in(hops: Sequence[Hop]) -> list[str]:
    return [name for hop in hops for name in ([hop.example] if hop.example else _examples_in(hop.children))]


def _signed(run: Run, sources: Sources, examples: Sequence[str]) -> tuple[Signed, ...]:
    """Return the signed observations of examples; an unknown example has none."""
    index = {name: at for name, at in zip(sources.names, sources.index, strict=True) if at != NO_INDEX}
    wanted: dict[int, dict[str, None]] = {index[name]: {} for name in examples if name in index}
    for _, row in run.rows:
        if row.manifest_index in wanted:
            wanted[row.manifest_index].update(dict.fromkeys(run.tables.rows[row.route].rules))
    return tuple(_observation(run, at, tuple(rules)) for at, rules in wanted.items())


def _observation(run: Run, index: int, rules: tuple[str, ...]) -> Signed:
    manifest = run.manifest
    said = manifest.observation(index)
    credential = manifest.credentials[said.credential]
    events = (Event(one.credential, one.consensus / MICRO, one.judgments, one.observed_at) for one in said.history)
    return Signed(
        example=said.example_id,
        credential=said.credential,
        holder=credential.holder,
        authority=credential.authority,
        leaf_index=index,
        leaf=manifest.leaf(index).hex(),
        label_digest=said.label_digest.hex(),
        observed_at=said.observed_at,
        attributes=dict(said.attributes),
        history=tuple(events),
        rules=rules,
        revoked=run.revoked.get(said.credential, ""),
    )


def _statement(
    visits: Visits,
    scores: Scores,
    ending: Ending,
    closures: tuple[Closure, ...],
    behaviour: Behaviour,
    *,
    level: int,
) -> ErrorStatement:
    run = visits.run
    worst = dict.fromkeys(run.tables.groups, 0.0)
    for block in run.blocks:
        for name, residual in zip(run.tables.groups, block.book.residual, strict=True):
            worst[name] = max(worst[name], residual)
    ways = zip(behaviour.gradient, ending.travelled, strict=True)
    booked = (scores.contribution.sum() + scores.opening.sum()).item()
    travelled = sum(part.double().dot(way).item() for part, way in ways)
    sketched = isinstance(visits.space, SketchSpace)
    return ErrorStatement(
        method=METHODS[level],
        scope=SCOPE,
        closure=closures,
        worst_step_residual=worst,
        behaviour_booked=booked,
        behaviour_travelled=travelled,
        # Sketches have a bound; of factors it is measured, what the weights did being known.
        rounding_error=_rounding_error(visits, behaviour) if sketched else abs(booked - travelled),
        sketch_error=_sketch_error(visits.space, behaviour, ending) if isinstance(visits.space, SketchSpace) else 0.0,
        null=f"annotators dealt anew over the admitted examples, {DRAWS} times; the band holds {BAND:.0%} of the draws",
    )


def _rounding_error(visits: Visits, behaviour: Behaviour) -> float:
    """Return the standard error of <q, sum of rho * g> that rounding to bytes makes."""
    lengths = torch.stack([part.double().norm() for part in behaviour.gradient])
    return float((visits.rounding * lengths).norm())


def _sketch_error(space: SketchSpace, behaviour: Behaviour, ending: Ending) -> float:
    """Return the standard error of <q, way> that sketching makes; groups that were kept whole make none.

    Source: variance of a count-sketch inner product, (|q|^2 |u|^2 + <q, u>^2) / k; the numbers of a row or column of a
    matrix share a sign, which at most doubles it in what was measured (docs/adr).
    """
    variance = 0.0
    for group, (part, way) in enumerate(zip(behaviour.gradient, ending.travelled, strict=True)):
        width = space.widths[group]
        if width < space.plan.sizes[group]:
            q, u = part.double(), way
            variance += 2 * (q.square().sum() * u.square().sum() + q.dot(u).square()).item() / width
    return float(variance**0.5)
