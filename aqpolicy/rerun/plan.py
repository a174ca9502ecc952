"""What forgetting means for a run: which steps had the examples, and from where training goes on. It trains nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aqpolicy.errors import InputError, TraceError
from aqpolicy.gate.records.checkpoint import BEGINNING, KIND, SUFFIX
from aqpolicy.lineage import Row, logged_models
from aqpolicy.rerun.origin import Origin
from aqpolicy.trace import Run
from aqpolicy.trace.words import REFUSED_EXAMPLE
from aqpolicy.trust import sha256


@dataclass(frozen=True, slots=True)
class Source:
    """Whose examples are forgotten: all that a credential signed, or one."""

    credential: str
    example: str
    """Empty where it is the credential's."""
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What forgetting means for a run."""

    run: str
    sources: tuple[Source, ...]
    corroborated: tuple[str, ...]
    """Examples of others whose consensus history names a credential; they stay."""
    visits: int
    """Visits in which something of the examples was looked at by more than the table's denial."""
    first: int | None
    """The first such step; None where there is none, so that the run never had them."""
    checkpoint: str
    """Where training goes on from: the last checkpoint before it, or `beginning`."""
    step: int
    """How many steps were taken there."""
    steps: int
    """How many the run has."""
    complete: bool
    """Whether the run has ended, so that there is nothing to finish."""

    @property
    def examples(self) -> tuple[str, ...]:
        """All examples that are to be forgotten."""
        return tuple(sorted({name for source in self.sources for name in source.examples}))

    @property
    def is_needed(self) -> bool:
        """Whether anything must be trained again."""
        return self.first is not None or not self.complete

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON data."""
        return {"format": "aqpolicy forgetting 1", **asdict(self), "is_needed": self.is_needed}


def plan_forgetting(origin: Origin, credentials: Sequence[str], examples: Sequence[str]) -> Plan:
    """Find what must be trained again.

    Args:
        origin: The run.
        credentials: Whose labels are forgotten.
        examples: Ids of single examples that are.

    Raises:
        TraceError: The manifest has no such credential or example.
        InputError: Neither is given.
    """
    run = origin.run
    if not credentials and not examples:
        raise InputError("say what is to be forgotten: a credential or an example")
    signed, corroborated = _by_credential(run, credentials)
    sources = [Source(name, "", tuple(names)) for name, names in signed.items()]
    sources += [Source(_credential_of(run, name), name, (name,)) for name in examples]
    wanted = {name for source in sources for name in source.examples}
    affected = affected_steps(run, wanted)
    first = min(affected, default=None)
    end = run.first_step + len(run.blocks)
    checkpoint, step = checkpoint_before(origin, end if first is None else first)
    return Plan(
        run=run.run_id,
        sources=tuple(sources),
        corroborated=tuple(sorted(set(corroborated) - wanted)),
        visits=len(affected),
        first=first,
        checkpoint=checkpoint,
        step=step,
        steps=end,
        complete=run.verified.ended,
    )


def affected_steps(run: Run, names: Collection[str]) -> list[int]:
    """Return the step of every visit of some examples that could have changed anything, in order."""
    indices = {run.manifest.index_of(name) for name in names}
    return [block.step for block, row in run.rows if row.manifest_index in indices and reaches(run, row)]


def reaches(run: Run, row: Row) -> bool:
    """Return whether a visit could have changed anything: all that was not refused, or denied by the table itself.

    A visit that was deferred or that a budget closed may have cost others their place, or made the loop wait.
    """
    table = run.tables.rows[row.route]
    return row.reason_code != REFUSED_EXAMPLE and (table.effect == "defer" or any(table.shares))


def _by_credential(run: Run, credentials: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Return the examples that each credential signed, and those that it merely corroborated."""
    signed: dict[str, list[str]] = {name: [] for name in credentials}
    corroborated = []
    for index in range(run.manifest.size):
        observation = run.manifest.observation(index)
        if observation.credential in signed:
            signed[observation.credential].append(observation.example_id)
        elif any(event.credential in signed for event in observation.history):
            corroborated.append(observation.example_id)
    if missing := sorted(name for name, names in signed.items() if not names):
        known = ", ".join(f"`{name}`" for name in sorted(run.manifest.credentials)[:8])
        raise TraceError(f"nothing in the run's manifest was signed with `{missing[0]}`; it has {known}")
    return signed, corroborated


def _credential_of(run: Run, example: str) -> str:
    index = run.manifest.index_of(example)
    if index is None:
        raise TraceError(f"the run's manifest has no example `{example}`")
    return run.manifest.observation(index).credential


def checkpoint_before(origin: Origin, step: int) -> tuple[str, int]:
    """Return name and step of the last checkpoint that counts, is there, and is not behind a step; or the beginning."""
    _, models = logged_models(origin.run.folder, origin.keyring)
    known = [model for model in models if model.get("kind") == KIND and model["step"] <= step]
    for model in sorted(known, key=lambda model: (model["step"], model["entry"]), reverse=True):
        path = origin.run.folder / f"{model['name']}{SUFFIX}"
        if path.is_file() and sha256(path.read_bytes()).hex() == model["model"]:
            return str(model["name"]), int(model["step"])
    return BEGINNING, origin.run.first_step
