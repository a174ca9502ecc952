"""What the demo found, as the parts of its report."""

from __future__ import annotations

from collections.abc import Mapping

from aqpolicy.demo.experiment import Job, Kind, Result, Without, displacement, result_of
from aqpolicy.demo.labels import HIGH_CONSENSUS, STOLEN
from aqpolicy.report import Bars, Comparison, Measured
from aqpolicy.units import MICRO, micro_text

Results = Mapping[Job, Result]
NAMES: Mapping[Kind, str] = {
    "ungoverned": "Ungoverned: every label, every depth",
    "governed": "Governed: the radiology policy",
    "filtered": "Simple alternative: drop low consensus",
}
_COMPARED: tuple[Kind, ...] = ("ungoverned", "governed")
_SAID: Mapping[Without, str] = {
    "low consensus": f"labels with consensus under {micro_text(HIGH_CONSENSUS)}",
    "stolen": f"the labels of {STOLEN}, the stolen credential",
}


def comparison(results: Results, trained_on: Mapping[str, int], held_out: int) -> Comparison:
    """Return the arms side by side."""
    seeds = len({job.seed for job in results})
    rows = tuple(
        (
            NAMES[kind],
            (str(trained_on[kind]), result_of(results, kind, "accuracy"), result_of(results, kind, "area")),
        )
        for kind in NAMES
    )
    return Comparison(
        f"{held_out} held-out nodules that their panels agree on; mean and standard deviation over {seeds} seeds",
        ("Readings", "Accuracy", "AUC"),
        rows,
        (
            "Readings: those from which something may be learned, in the governed arm at some depth.",
            f"One nodule is {1 / held_out:.1%} of the accuracy: differences of that size say nothing.",
        ),
    )


def displacements(results: Results, written: Mapping[str, Mapping[Without, Mapping[str, float]]]) -> tuple[Bars, ...]:
    """Return how far the weights were moved because of low-consensus and of stolen labels.

    Two answers to each: what the labels wrote themselves, by the book of the
    logged run, and where the same training ends without them.

    Args:
        results: All trainings.
        written: By way to train and kind of label, how far each group was moved directly.
    """
    bars = []
    for without, said in _SAID.items():
        retrained = {kind: displacement(results, kind, without) for kind in _COMPARED}
        groups = tuple(retrained["governed"])
        directly = tuple(
            (kind, tuple(Measured((written[kind][without][group],)) for group in groups)) for kind in _COMPARED
        )
        end = tuple((kind, tuple(retrained[kind].values())) for kind in _COMPARED)
        note = f"What {said} wrote into each depth group, carried to the final weights by the book of the run"
        bars.append(Bars(f"Written by {said}", note, "l2 norm, one run", groups, directly))
        note = "Distance to the final weights of the same training without them: every indirect effect is in it"
        bars.append(Bars(f"Training again without {said}", note, "l2 norm, all seeds", groups, end))
    return tuple(bars)


def consensus_class(attributes: Mapping[str, str | int]) -> str:
    """Name the class of an observation for the heat map: its authority, and for panels whether it agrees."""
    if attributes["authority"] != "panel":
        return "single reader"
    agreed = int(attributes["consensus"]) >= HIGH_CONSENSUS
    return f"panel, consensus {'from' if agreed else 'under'} {HIGH_CONSENSUS / MICRO:g}"
