"""What a run learned from one source: a credential or an example.

A footprint counts, it does not explain: exactly the visits, steps and groups
that depended on the source, how much was admitted of it, and a bound on how far
it moved the final weights with all other gradients held as they were. That the
source also shaped other examples' gradients is not in it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from aqpolicy.errors import TraceError
from aqpolicy.lineage import NO_INDEX, NO_SURPRISAL, Row, StepBlock
from aqpolicy.trace.run import Run
from aqpolicy.trace.words import REASONS


@dataclass(frozen=True, slots=True)
class SourceVisit:
    """One time that the source's example was in a step.

    Shapes:
        shares (g) in millionths, norms (g), mass (g); charges (number of budgets) in millionths of a nat.
    """

    step: int
    epoch: int
    example: str
    effect: str
    cause: str
    reason: str
    surprisal: int | None
    shares: tuple[int, ...]
    norms: tuple[float, ...]
    mass: tuple[float, ...]
    charges: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GroupPart:
    """What one depth group received of the source."""

    group: str
    visits: int
    """Visits that were admitted into the group."""
    steps: int
    mass: float
    """Sum of the norms that were admitted, less what was clipped or put back."""
    mass_of_run: float
    """Part of all that the group received in the run, 0 to 1."""
    displacement: float | None
    """At most so far did these gradients move the group's final weights; None where the optimizer has no exact book."""
    movement: float
    """Length of the steps of the group that the source took part in, all examples together."""


@dataclass(frozen=True, slots=True)
class Update:
    """What one step wrote of the source into one depth group."""

    step: int
    group: str
    visits: int
    mass: float
    displacement: float | None
    """At most so far did it move the group's final weights; None where the optimizer has no exact book."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Everything that depended on one source."""

    run: str
    kind: Literal["credential", "example"]
    source: str
    since: int
    """First step that was looked at."""
    examples: tuple[str, ...]
    """Examples of the source that were in a step."""
    unused: int
    """Examples of the source that the manifest holds and no step had."""
    corroborated: tuple[str, ...]
    """Examples of others whose consensus history names the credential."""
    groups: tuple[GroupPart, ...]
    epochs: Mapping[int, tuple[float, ...]]
    """Mass per group, by epoch."""
    effects: Mapping[str, int]
    charged: Mapping[str, int]
    steps: tuple[int, ...]
    updates: tuple[Update, ...]
    """Every step and depth group into which something of the source was admitted."""
    visits: tuple[SourceVisit, ...]

    @property
    def admitted_steps(self) -> tuple[int, ...]:
        """Steps in which something of the source was admitted."""
        return tuple(sorted({visit.step for visit in self.visits if any(visit.shares)}))

    def to_json(self) -> bytes:
        """Return the footprint as a JSON text, the same for the same footprint."""
        facts = {"format": "aqpolicy footprint 2", **asdict(self)}
        return json.dumps(facts, indent=1, sort_keys=True, allow_nan=False).encode("utf-8") + b"\n"


def footprint(
    run: Run, *, credential: str | None = None, example: str | None = None, since: int | None = None
) -> Footprint:
    """Return what a run learned from a credential, or from one example.

    Args:
        run: The run, verified.
        credential: Whose labels are looked for.
        example: Or which example.
        since: First step that is looked at; the run's first, by default.

    Raises:
        TraceError: The manifest holds no such credential or example, or not exactly one of the two is given.
    """
    if (credential is None) == (example is None):
        raise TraceError("a footprint is of one credential or of one example; give one of the two")
    if credential is not None:
        wanted, corroborated = _of_credential(run, credential)
        return _collect(run, "credential", credential, wanted, corroborated, since)
    index = run.manifest.index_of(example or "")
    if index is None:
        raise TraceError(f"the run's manifest has no example `{example}`")
    return _collect(run, "example", str(example), {index}, (), since)


def masses_by(run: Run, name: Callable[[Row], str]) -> dict[str, tuple[int, tuple[float, ...]]]:
    """Return number of visits and admitted mass per group of every source, by what `name` calls a row's."""
    visits: Counter[str] = Counter()
    totals: dict[str, list[float]] = {}
    for block, row in run.rows:
        source = name(row)
        visits[source] += 1
        total = totals.setdefault(source, [0.0] * len(run.tables.groups))
        for group, mass in enumerate(run.masses(row, block.book)):
            total[group] += mass
    return {source: (visits[source], tuple(total)) for source, total in totals.items()}


def credentials_of(run: Run) -> Callable[[Row], str]:
    """Return what calls a row by the credential of its observation."""
    known = [run.manifest.observation(index).credential for index in range(run.manifest.size)]
    return lambda row: "(unknown)" if row.manifest_index == NO_INDEX else known[row.manifest_index]


def _of_credential(run: Run, credential: str) -> tuple[set[int], tuple[str, ...]]:
    """Return the observations signed under a credential, and the examples it merely corroborated."""
    signed: set[int] = set()
    corroborated = []
    for index in range(run.manifest.size):
        observation = run.manifest.observation(index)
        if observation.credential == credential:
            signed.add(index)
        elif any(event.credential == credential for event in observation.history):
            corroborated.append(observation.example_id)
    if not signed and not corroborated:
        known = ", ".join(f"`{name}`" for name in sorted(run.manifest.credentials)[:8])
        raise TraceError(f"the run's manifest has no credential `{credential}`; it has {known}")
    return signed, tuple(corroborated)


def _collect(  # noqa: PLR0917  # the order in which the result has them
    run: Run,
    kind: Literal["credential", "example"],
    source: str,
    wanted: set[int],
    corroborated: tuple[str, ...],
    since: int | None,
) -> Footprint:
    first = run.first_step if since is None else since
    found = [(block, row) for block, row in run.rows if row.manifest_index in wanted and block.step >= first]
    admitted, reach = [run.masses(row) for _, row in found], _reach(run)
    visits = tuple(_visit(run, block, row) for block, row in found)
    used = sorted({visit.example for visit in visits})
    epochs: dict[int, list[float]] = {}
    for visit in visits:
        total = epochs.setdefault(visit.epoch, [0.0] * len(run.tables.groups))
        for group, mass in enumerate(visit.mass):
            total[group] += mass
    budgets = [budget.name for budget in run.tables.budgets]
    charged = {name: sum(visit.charges[at] for visit in visits) for at, name in enumerate(budgets)}
    return Footprint(
        run=run.run_id,
        kind=kind,
        source=source,
        since=first,
        examples=tuple(used),
        unused=len(wanted) - len(used),
        corroborated=corroborated,
        groups=_groups(run, visits, admitted, reach),
        epochs={epoch: tuple(total) for epoch, total in sorted(epochs.items())},
        effects=dict(Counter(visit.effect for visit in visits)),
        charged=charged,
        steps=tuple(sorted({visit.step for visit in visits})),
        updates=_updates(run, visits, admitted, reach),
        visits=visits,
    )


def _visit(run: Run, block: StepBlock, row: Row) -> SourceVisit:
    return SourceVisit(
        step=block.step,
        epoch=block.epoch,
        example=run.name_of(row),
        effect=row.effect,
        cause=row.cause,
        reason=REASONS[row.reason_code] if row.reason_code < len(REASONS) else f"code {row.reason_code}",
        surprisal=None if row.surprisal == NO_SURPRISAL else row.surprisal,
        shares=run.applied(row),
        norms=row.norms,
        mass=run.masses(row, block.book),
        charges=row.charges,
    )


def _reach(run: Run) -> tuple[tuple[float, ...], ...] | None:
    """Return by how much a gradient of norm 1 in a step moved each group's end; None where that is not exact.

    Shapes:
        (g, steps).
    """
    impulses = run.impulses()
    if impulses is None:
        return None
    # What was admitted, not what was kept of the step: momentum carries on what a step was put back of.
    return tuple(
        tuple(abs(rho) / block.book.denominator for rho, block in zip(group.rho, run.blocks, strict=True))
        for group in impulses
    )


def _groups(
    run: Run,
    visits: tuple[SourceVisit, ...],
    admitted: list[tuple[float, ...]],
    reach: tuple[tuple[float, ...], ...] | None,
) -> tuple[GroupPart, ...]:
    everything = [0.0] * len(run.tables.groups)
    for block, row in run.rows:
        for group, mass in enumerate(run.masses(row, block.book)):
            everything[group] += mass
    parts = []
    for group, name in enumerate(run.tables.groups):
        inside = [visit for visit in visits if visit.shares[group]]
        steps = {visit.step for visit in inside}
        mass = sum(visit.mass[group] for visit in inside)
        displacement = None
        if reach is not None:
            pairs = zip(visits, admitted, strict=True)
            displacement = sum(reach[group][visit.step - run.first_step] * one[group] for visit, one in pairs)
        movement = sum(run.blocks[step - run.first_step].book.movement[group] for step in steps)
        part = mass / everything[group] if everything[group] else 0.0
        parts.append(GroupPart(name, len(inside), len(steps), mass, part, displacement, movement))
    return tuple(parts)


def _updates(
    run: Run,
    visits: tuple[SourceVisit, ...],
    admitted: list[tuple[float, ...]],
    reach: tuple[tuple[float, ...], ...] | None,
) -> tuple[Update, ...]:
    found: dict[tuple[int, int], tuple[int, float, float]] = {}
    for visit, one in zip(visits, admitted, strict=True):
        for group, share in enumerate(visit.shares):
            if share:
                count, mass, moved = found.get((visit.step, group), (0, 0.0, 0.0))
                way = 0.0 if reach is None else reach[group][visit.step - run.first_step] * one[group]
                found[visit.step, group] = (count + 1, mass + visit.mass[group], moved + way)
    return tuple(
        Update(step, run.tables.groups[group], count, mass, None if reach is None else moved)
        for (step, group), (count, mass, moved) in sorted(found.items())
    )
