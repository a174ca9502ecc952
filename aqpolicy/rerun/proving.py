"""The truth beside the estimate: train a run again without somebody's labels, and ask the behaviour of what comes out.

The training is gated as the run's was, from the last checkpoint before the first
visit that is left out; that the recipe makes the run's own model, bit for bit, is
shown first.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aqpolicy.errors import InputError
from aqpolicy.rerun.calibration import scores_of, value_of, without
from aqpolicy.rerun.indirect import baseline
from aqpolicy.rerun.origin import Origin
from aqpolicy.trace.attribution import DEFAULT_DAMP
from aqpolicy.trace.behaviour import Named
from aqpolicy.trace.text import plain


@dataclass(frozen=True, slots=True)
class Proved:
    """What a behaviour is without an example, or without all examples of a credential."""

    name: str
    examples: int
    value: float
    estimate: float
    """What the trace says that they added."""
    seconds: float
    """Of the training."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A behaviour of a run, and of trainings without some of its examples."""

    run: str
    behaviour: str
    value: float
    damp: float
    without: tuple[Proved, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON data."""
        return {"format": "aqpolicy replay of a trace 1", **asdict(self)}

    def lines(self) -> Iterator[str]:
        """Yield it as lines of text."""
        yield f"behaviour {plain(self.behaviour)} = {self.value:.6g} in run {self.run}, and in its recipe, bit for bit"
        for one in self.without:
            change, said = one.value - self.value, -one.estimate
            left_out = f"{plain(one.name)} ({one.examples} examples)"
            yield f"without   {left_out}: {one.value:.6g}, trained in {one.seconds:.1f} s"
            yield f"          it changed by {change:+.4g}; the trace's estimate was {said:+.4g}"
        yield "scope     this run, its order and its seed: the same training, without them"


def prove(
    origin: Origin, recipe: Named, behaviour: Named, names: Sequence[str], *, damp: float = DEFAULT_DAMP
) -> Proof:
    """Train without each name in turn.

    Args:
        origin: A run that can be traced.
        recipe: Its recipe.
        behaviour: Takes the model and returns one number.
        names: Ids of credentials or examples of the run.
        damp: Curvature of the estimates beside it.

    Raises:
        InputError: A name is neither a credential nor an example of the run.
        IllegalTrainingSetupError: The recipe does not make the run's model again.
        TraceError: The run cannot be traced.
    """
    origin.refuse_several()
    chosen = {name: _examples(origin, name) for name in names}
    base = baseline(origin, recipe)
    scores, value = scores_of(origin, base, behaviour, damp), value_of(base.model, behaviour)
    found = []
    for name, examples in chosen.items():
        start = time.perf_counter()
        trained = without(origin, recipe, examples) or base
        estimate = sum(scores.get(each, 0.0) for each in examples)
        took = time.perf_counter() - start
        found.append(Proved(name, len(examples), value_of(trained.model, behaviour), estimate, took))
    return Proof(origin.run.run_id, behaviour.text, value, damp, tuple(found))


def _examples(origin: Origin, name: str) -> tuple[str, ...]:
    run, manifest = origin.run, origin.run.manifest
    visited = dict.fromkeys(run.name_of(row) for _, row in run.rows)
    if name in manifest.credentials:
        known = {each: manifest.index_of(each) for each in visited}
        return tuple(
            each for each, at in known.items() if at is not None and manifest.observation(at).credential == name
        )
    if name in visited:
        return (name,)
    raise InputError(f"`{name}` is neither a credential of the run's manifest nor an example that a step visited")
