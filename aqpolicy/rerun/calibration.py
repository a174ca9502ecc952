"""Hold a run's traces to the truth: train it again without random groups of examples, and without each annotator."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import nn

from aqpolicy.errors import AqpolicyError, InputError
from aqpolicy.rerun.applying import CARD as ANNOTATOR
from aqpolicy.rerun.applying import FILE
from aqpolicy.rerun.card import Card, card
from aqpolicy.rerun.closure import openings
from aqpolicy.rerun.indirect import baseline
from aqpolicy.rerun.origin import Origin
from aqpolicy.rerun.plan import affected_steps, checkpoint_before
from aqpolicy.rerun.recipe import Trained, train_again
from aqpolicy.trace.attribution import DEFAULT_DAMP
from aqpolicy.trace.behaviour import Named
from aqpolicy.trace.query import trace_behaviour
from aqpolicy.trust import replace_file

RANDOM: Final = "random"
FEWEST: Final = 3
"""Groups that a card needs."""

Progress = Callable[[int, int], None]
"""Called with the trainings done and the trainings there are."""


@dataclass(frozen=True, slots=True)
class Left:
    """A group of examples that was left out.

    Shapes:
        estimates, truths (number of behaviours).
    """

    kind: str
    name: str
    examples: int
    estimates: tuple[float, ...]
    """What the trace says that they add."""
    truths: tuple[float, ...]
    """What the behaviours lost when they were absent."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The calibration card of a run, with what it was made of."""

    run: str
    model: str
    torch: str
    damp: float
    seed: int
    part: float
    """Of the examples that ever wrote, how many are in a random group."""
    behaviours: tuple[str, ...]
    values: tuple[float, ...]
    groups: tuple[Left, ...]
    cards: dict[str, Card]
    """By kind of group; a kind with fewer than three has none."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON data."""
        return {"format": "aqpolicy calibration 1", **asdict(self)}


def calibrate(
    origin: Origin,
    recipe: Named,
    behaviours: Sequence[Named],
    count: int = 24,
    *,
    part: float = 0.1,
    seed: int = 0,
    damp: float = DEFAULT_DAMP,
    annotators: bool = True,
    progress: Progress | None = None,
) -> Calibration:
    """Compare the trace's estimates with trainings without the examples, and write the card into the run's folder.

    Args:
        origin: A run that can be traced.
        recipe: Its recipe.
        behaviours: Each takes the model and returns one number.
        count: How many random groups; of annotators no more than as many.
        part: Of the examples that ever wrote, how many are in a random group.
        seed: Of the groups.
        damp: Curvature of the estimates.
        annotators: Whether to leave out annotators, too.
        progress: Is told after every training.

    Raises:
        IllegalTrainingSetupError: The recipe does not make the run's model again.
        TraceError: The run cannot be traced.
        InputError: There are too few groups, or a behaviour returns no number.
    """
    if count < FEWEST or not 0 < part < 1 or not behaviours:
        raise InputError(
            f"a calibration needs {FEWEST} groups, a part of the examples between 0 and 1, and a behaviour"
        )
    origin.refuse_several()
    base = baseline(origin, recipe)
    groups = _groups(origin, count, part, random.Random(seed), annotators=annotators)  # noqa: S311  # no secret
    scores = [scores_of(origin, base, behaviour, damp) for behaviour in behaviours]
    values = tuple(value_of(base.model, behaviour) for behaviour in behaviours)
    found = []
    for number, (kind, name, names) in enumerate(groups):
        trained = without(origin, recipe, names) or base
        now = [value_of(trained.model, behaviour) for behaviour in behaviours]
        truths = tuple(then - one for then, one in zip(values, now, strict=True))
        estimates = tuple(sum(score.get(each, 0.0) for each in names) for score in scores)
        found.append(Left(kind, name, len(names), estimates, truths))
        if progress is not None:
            progress(number + 1, len(groups))
    made = Calibration(
        run=origin.run.run_id,
        model=str((origin.run.published or {}).get("model", "")),
        torch=torch.__version__,
        damp=damp,
        seed=seed,
        part=part,
        behaviours=tuple(behaviour.text for behaviour in behaviours),
        values=values,
        groups=tuple(found),
        cards={kind: made for kind in (RANDOM, ANNOTATOR) if (made := _card(found, kind)) is not None},
    )
    replace_file(origin.run.folder / FILE, json.dumps(made.to_json(), indent=1, allow_nan=False).encode() + b"\n")
    return made


def without(origin: Origin, recipe: Named, names: Collection[str]) -> Trained | None:
    """Train a run without some examples, from the last checkpoint before them; None where it never had them."""
    affected = affected_steps(origin.run, names)
    if not affected:
        return None
    name, _ = checkpoint_before(origin, affected[0])
    refused = {*origin.refused, *names}
    return train_again(recipe, origin.unrecorded(refused=refused, checkpoint=origin.checkpoint(name)))


def value_of(model: nn.Module, behaviour: Named) -> float:
    """Return a behaviour of a model in evaluation mode.

    Raises:
        InputError: The function fails or returns no single finite number.
    """
    model.eval()
    try:
        value = behaviour.call(model, *(() if behaviour.argument is None else (behaviour.argument,)))
        found = float(value.detach() if isinstance(value, torch.Tensor) else value)
    except AqpolicyError:
        raise
    except Exception as error:
        raise InputError(f"`{behaviour.text}` failed: {type(error).__name__}: {error}") from error
    if not float("-inf") < found < float("inf"):
        raise InputError(f"`{behaviour.text}` returned {found}; a behaviour is one finite number")
    return found


def scores_of(origin: Origin, base: Trained, behaviour: Named, damp: float) -> dict[str, float]:
    """Return what the trace says that each example adds to a behaviour."""
    built = Named("the recipe's model", lambda: copy.deepcopy(base.model), None)
    most = max(origin.run.manifest.size, 1) + sum(len(block.rows) for block in origin.run.blocks)
    found = trace_behaviour(origin.run, built, behaviour, damp=damp, top=most)
    return {entry.name: entry.score for entry in found.examples}


def _groups(
    origin: Origin, count: int, part: float, chance: random.Random, *, annotators: bool
) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return kind, name and examples of the groups to leave out."""
    wrote = [name for name, opened in openings(origin.run).items() if any(opened)]
    size = round(part * len(wrote))
    if not 0 < size < len(wrote):
        raise InputError(f"{part:g} of the {len(wrote)} examples that wrote anything is no group; give another --part")
    found = [(RANDOM, str(number), tuple(chance.sample(wrote, size))) for number in range(count)]
    if annotators:
        owners: dict[str, list[str]] = {}
        for name in wrote:
            index = origin.run.manifest.index_of(name)
            if index is not None:
                owners.setdefault(origin.run.manifest.observation(index).credential, []).append(name)
        chosen = sorted(owners) if len(owners) <= count else sorted(chance.sample(sorted(owners), count))
        found += [(ANNOTATOR, owner, tuple(owners[owner])) for owner in chosen]
    return found


def _card(groups: Sequence[Left], kind: str) -> Card | None:
    chosen = [one for one in groups if one.kind == kind]
    if len(chosen) < FEWEST:
        return None
    columns = range(len(chosen[0].truths))
    said = [[one.estimates[at] for one in chosen] for at in columns]
    true = [[one.truths[at] for one in chosen] for at in columns]
    return card(said, true)
