"""Indirect influence: how far a depth group moves because of examples that it is closed to.

Their contents are exchanged among themselves, and nothing else: ids, labels' signers,
order and policy stay. What a group that is closed to all of them does otherwise then,
it does through the gradients of other examples. A gate closes the direct path only;
this measures the rest, and says so beside the claim.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from aqpolicy.errors import IllegalTrainingSetupError, TraceError
from aqpolicy.rerun.closure import closed_to
from aqpolicy.rerun.origin import Origin
from aqpolicy.rerun.recipe import Trained, train_again
from aqpolicy.rerun.retraining import part, published_state
from aqpolicy.rerun.watching import Openings
from aqpolicy.trace.behaviour import Named
from aqpolicy.trust import replace_file

FILE: Final = "indirect.json"
CLAIM: Final = (
    "a closed group receives no gradient of these examples: the direct path is closed, exactly. Through the gradients "
    "of other examples it moves as measured here; only an example that is denied everywhere moves nothing"
)


@dataclass(frozen=True, slots=True)
class Moved:
    """One depth group that was closed to some examples."""

    group: str
    examples: int
    """How many wrote elsewhere and never here; their contents were exchanged."""
    moved: float
    """How far the group's final weights are from those of the run, l2."""
    displacement: float
    """How far the run moved them from where they began, l2."""
    part: float | None
    """The first as a part of the second; None where the run did not move them."""
    control: float
    """The same where these examples are denied everywhere: exactly 0, or something is wrong."""
    opened: int
    """Visits of theirs that the exchange opened to the group, as where a policy looks at the loss; 0 if indirect."""


@dataclass(frozen=True, slots=True)
class Indirect:
    """The measurement of a run."""

    run: str
    model: str
    seed: int
    groups: tuple[Moved, ...]
    everywhere: tuple[str, ...]
    """Groups that were closed to no example that wrote elsewhere; there is nothing to measure."""
    trainings: int
    claim: str = CLAIM

    @property
    def control_holds(self) -> bool:
        """Whether the denied examples moved nothing."""
        return all(one.control == 0.0 for one in self.groups)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON data."""
        return {"format": "aqpolicy indirect 1", **asdict(self), "control_holds": self.control_holds}


def measure_indirect(origin: Origin, recipe: Named, seed: int = 0) -> Indirect:
    """Measure how far closed groups move through other examples, and write it into the run's folder.

    Args:
        origin: The run.
        recipe: Its recipe; it asks `rerun.content` for everything that it reads of an example.
        seed: Of the exchange.

    Raises:
        TraceError: No group is closed to two examples that wrote elsewhere.
        IllegalTrainingSetupError: The recipe does not make the run again, or the exchange changes nothing.
    """
    origin.refuse_several()
    closed = {group: names for group, names in closed_to(origin.run).items() if len(names) > 1}
    if not closed:
        raise TraceError("no depth group is closed to two examples that wrote elsewhere; there is nothing to exchange")
    base = baseline(origin, recipe)
    found: dict[tuple[str, ...], dict[str, Moved]] = {}
    for names in dict.fromkeys(closed.values()):
        found[names] = _exchange(origin, recipe, base, names, seed)
    groups = tuple(found[names][group] for group, names in closed.items())
    measured = Indirect(
        run=origin.run.run_id,
        model=str((origin.run.published or {}).get("model", "")),
        seed=seed,
        groups=groups,
        everywhere=tuple(name for name in origin.run.tables.groups if name not in closed),
        trainings=1 + 3 * len(found),
    )
    replace_file(origin.run.folder / FILE, json.dumps(measured.to_json(), indent=1, allow_nan=False).encode() + b"\n")
    return measured


def baseline(origin: Origin, recipe: Named) -> Trained:
    """Train a run again as it was, without a log.

    Raises:
        IllegalTrainingSetupError: What comes out is not the model that the run published.
    """
    base = train_again(recipe, origin.unrecorded(refused=origin.refused))
    state = published_state(origin.run)
    if state is None:
        raise IllegalTrainingSetupError("the run has no published model to compare with; let it end, or restore it")
    now = base.gate.machinery.model.state_dict()
    if now.keys() != state.keys() or not all(bool((now[name].cpu() == state[name]).all()) for name in state):
        others = "; ".join(origin.differences())
        raise IllegalTrainingSetupError(
            "the recipe does not make the run's model again; let it read the same data in the same order, on the same "
            "machine, versions and threads" + (f" ({others})" if others else "")
        )
    return base


def exchanged(names: Sequence[str], seed: int) -> dict[str, str]:
    """Return whose content each example gets: everybody another's, in one circle."""
    order = list(names)
    random.Random(seed).shuffle(order)  # noqa: S311  # no secret; the same on every machine
    return dict(zip(order, [*order[1:], *order[:1]], strict=True))


def _exchange(origin: Origin, recipe: Named, base: Trained, names: tuple[str, ...], seed: int) -> dict[str, Moved]:
    """Return what an exchange among some examples does to every group, and what it does where they are denied."""
    contents, watch = exchanged(names, seed), Openings(origin.run, names)
    swapped = train_again(recipe, origin.unrecorded(refused=origin.refused, log=watch), contents)
    if swapped.digest == base.digest:
        raise IllegalTrainingSetupError(
            "nothing changed although contents were exchanged; let the recipe read rerun.content(example_id)"
        )
    refused = {*origin.refused, *names}
    without = train_again(recipe, origin.unrecorded(refused=refused))
    control = train_again(recipe, origin.unrecorded(refused=refused), contents)
    found, zero = _apart(base, swapped), _apart(without, control)
    ways = {
        group.name: now - then for group, (then, now) in zip(base.gate.machinery.mover.groups, base.ends(), strict=True)
    }
    return {
        group: Moved(
            group,
            len(names),
            float(moved.norm()),
            float(ways[group].norm()),
            part(moved, ways[group]),
            float(zero[group].norm()),
            watch.opened[group],
        )
        for group, moved in found.items()
    }


def _apart(one: Trained, other: Trained) -> Mapping[str, Any]:
    """Return, per group, how the ends of two trainings differ."""
    groups = one.gate.machinery.mover.groups
    ends = zip(groups, one.ends(), other.ends(), strict=True)
    return {group.name: now - then for group, (_, then), (_, now) in ends}
