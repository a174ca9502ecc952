"""What the demo asks of its two models: why is it as wrong as it is, and why is it wrong here."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import torch

from aqpolicy.demo.behaviour import loss_of, margin_of
from aqpolicy.demo.labels import STOLEN, Labels
from aqpolicy.demo.model import NoduleNet, build_model
from aqpolicy.demo.training import Examples, predict
from aqpolicy.report import TraceView, view_of_trace
from aqpolicy.trace import Run
from aqpolicy.trace.behaviour import Named
from aqpolicy.trace.query import trace_behaviour
from aqpolicy.trace.result import Trace
from aqpolicy.trace.visits import load_visits

MODEL: Final = "aqpolicy.demo.model:build_model"
LOSS: Final = "aqpolicy.demo.behaviour:held_out_loss"
MARGIN: Final = "aqpolicy.demo.behaviour:wrong_margin"
FLAGS: Final = {STOLEN: "stolen, planted"}
_BUILD: Final = Named(MODEL, build_model, None)


@dataclass(frozen=True, slots=True)
class Wrong:
    """A held-out nodule that a model is most confidently wrong about."""

    number: int
    nodule: str
    label: int
    margin: float
    errors: int
    """How many held-out nodules the model is wrong about."""

    @property
    def words(self) -> str:
        """What happened, in a few words."""
        said, truth = ("benign", "malignant") if self.label else ("malignant", "benign")
        return f"calls the {truth} nodule {self.nodule} {said}, by {self.margin:.2f} in log-odds"


def load_model(run: Run) -> NoduleNet:
    """Return the network that a run published."""
    model = build_model()
    model.load_state_dict(torch.load(run.folder / "model.pt", weights_only=True))
    return model.eval()


def most_wrong(run: Run, labels: Labels, examples: Examples) -> Wrong:
    """Return the held-out nodule with the largest margin for the wrong answer."""
    margins = predict(load_model(run), examples.held_images) * (1 - 2 * examples.held_labels)
    number = int(margins.argmax())
    nodule = labels.held_out[number]
    return Wrong(number, nodule.example_id, nodule.label, float(margins[number]), int((margins > 0).sum()))


def trace_loss(run: Run, examples: Examples) -> Trace:
    """Trace the mean loss on all held-out nodules."""
    behaviour = Named(LOSS, lambda model: loss_of(model, examples.held_images, examples.held_labels), None)
    return trace_behaviour(run, _BUILD, behaviour)


def trace_wrong(run: Run, wrong: Wrong, examples: Examples) -> Trace:
    """Trace one wrong prediction."""
    image, label = examples.held_images[wrong.number], float(wrong.label)
    behaviour = Named(f"{MARGIN}:{wrong.nodule}", lambda model: margin_of(model, image, label), None)
    return trace_behaviour(run, _BUILD, behaviour)


def written(run: Run, examples: Collection[str]) -> dict[str, float]:
    """Return how far each depth group's end lies from where it began by what some examples wrote there themselves.

    Their admitted gradients, carried to the end by the run's impulse response
    and summed. What they did to other examples' gradients is not in it.
    """
    visits = load_visits(run)
    inside = torch.tensor([run.name_of(row) in examples for _, row in run.rows])
    parts = zip(run.tables.groups, visits.sketches, visits.rho.T, strict=True)
    return {
        group: float((sketch[inside].double() * rho[inside].unsqueeze(1)).sum(0).norm()) for group, sketch, rho in parts
    }


def stands_out(trace: Trace) -> bool:
    """Return whether the stolen credential comes first among all annotators, beyond what chance makes."""
    first = trace.annotators[0]
    return first.name == STOLEN and first.distinguishable is True


def standing(trace: Trace) -> str:
    """Say where the stolen credential stands among all, as the trace ranks them without knowing."""
    ranks = {entry.name: at for at, entry in enumerate(trace.annotators, start=1)}
    by_contribution = sorted(trace.annotators, key=lambda entry: -abs(entry.contribution))
    first = next(at for at, entry in enumerate(by_contribution, start=1) if entry.name == STOLEN)
    entry = trace.annotators[ranks[STOLEN] - 1]
    verdict = {
        True: f"outside of what chance makes ({entry.low:+.3g} to {entry.high:+.3g})",
        False: f"not distinguishable from chance ({entry.low:+.3g} to {entry.high:+.3g})",
        None: "nothing of it was admitted",
    }[entry.distinguishable]
    direction = "raised" if entry.score > 0 else "lowered"
    return (
        f"{STOLEN}'s labels {direction} it: {ranks[STOLEN]} of {len(ranks)} by estimated effect ({entry.score:+.3g}, "
        f"{verdict}), {first} by contribution ({entry.contribution:+.3g})"
    )


def view(trace: Trace, title: str, summary: str) -> TraceView:
    """Return what the report shows of a trace, with the planted credential named."""
    return view_of_trace(trace, title, summary, FLAGS)
