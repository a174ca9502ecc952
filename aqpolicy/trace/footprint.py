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
class Footprint:
    """Everything that depended on one source."""

    run: str
    kind: Literal["credential", "example"]
    source: str
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
    visits: tuple[SourceVisit, ...]

    @property
    def admitted_steps(self) -> tuple[int, ...]:
        """Steps in which something of the source was admitted."""
        return tuple(sorted({visit.step for visit in self.visits if any(visit.shares)}))

    def to_json(self) -> bytes:
        """Return the footprint as a JSON text, the same for the same footprint."""
        facts = {"format": "aqpolicy footprint 1", **asdict(self)}
        return json.dumps(facts, indent=1, sort_keys=True, allow_nan=False).encode("utf-8") + b"\n"


def footprint(run: Run, *, credential: str | None = None, example: str | None = None) -> Footprint:
    """Return what a run learned from a credential, or from one example.

    Raises:
        TraceError: The manifest holds no such credential or example, or not exactly one of the two is given.
    """
    if (credential is None) == (example is None):
        raise TraceError("a footprint is of one credential or of one example; give one of the two")
    if credential is not None:
        wanted, corroborated = _of_credential(run, credential)
        return _collect(run, "credential", credential, wanted, corroborated)
    index = run.manifest.index_of(example or "")
    if index is None:
        raise TraceError(f"the run's manifest has no example `{example}`")
    return _collect(run, "example", str(example), {index}, ())


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


def _collect(
    run: Run,
    kind: Literal["credential", "example"],
    source: str,
    wanted: set[int],
    corroborated: tuple[str, ...],
) -> Footprint:
    found = [(block, row) for block, row in run.rows if row.manifest_index in wanted]
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
        examples=tuple(used),
        unused=len(wanted) - len(used),
        corroborated=corroborated,
        groups=_groups(run, visits, [run.masses(row) for _, row in found]),
        epochs={epoch: tuple(total) for epoch, total in sorted(epochs.items())},
        effects=dict(Counter(visit.effect for visit in visits)),
        charged=charged,
        steps=tuple(sorted({visit.step for visit in visits})),
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


def _groups(run: Run, visits: tuple[SourceVisit, ...], admitted: list[tuple[float, ...]]) -> tuple[GroupPart, ...]:
    everything = [0.0] * len(run.tables.groups)
    for block, row in run.rows:
        for group, mass in enumerate(run.masses(row, block.book)):
            everything[group] += mass
    impulses = run.impulses()
    parts = []
    for group, name in enumerate(run.tables.groups):
        inside = [visit for visit in visits if visit.shares[group]]
        steps = {visit.step for visit in inside}
        mass = sum(visit.mass[group] for visit in inside)
        displacement = None
        if impulses is not None:
            # What was admitted, not what was kept of the step: momentum carries on what a step was put back of.
            reach = [
                abs(rho) / block.book.denominator for rho, block in zip(impulses[group].rho, run.blocks, strict=True)
            ]
            pairs = zip(visits, admitted, strict=True)
            displacement = sum(reach[visit.step - run.first_step] * one[group] for visit, one in pairs)
        movement = sum(run.blocks[step - run.first_step].book.movement[group] for step in steps)
        part = mass / everything[group] if everything[group] else 0.0
        parts.append(GroupPart(name, len(inside), len(steps), mass, part, displacement, movement))
    return tuple(parts)
