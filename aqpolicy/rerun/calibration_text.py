"""A calibration card, in lines for people."""

from __future__ import annotations

from collections.abc import Iterator

from aqpolicy.rerun.calibration import Calibration
from aqpolicy.trace.text import plain

_KINDS = {"random": "random groups of {size}", "annotator": "one annotator left out"}


def calibration_lines(found: Calibration) -> Iterator[str]:
    """Yield slope, rank correlation and coverage by kind of group."""
    yield f"run          {found.run}, torch {found.torch}, {len(found.groups)} trainings without some examples"
    for behaviour, value in zip(found.behaviours, found.values, strict=True):
        yield f"behaviour    {plain(behaviour)} = {value:.6g}"
    sizes = {one.kind: one.examples for one in found.groups}
    yield "left out                   groups   slope  Spearman  coverage    band"
    for kind, card in found.cards.items():
        name = _KINDS[kind].format(size=sizes[kind])
        ranked = "-" if card.spearman is None else f"{card.spearman:.2f}"
        yield (
            f"  {name:<24} {card.groups:>6}  {card.slope:>6.2f}  {ranked:>8}  {card.coverage:>7.0%}  {card.band:>7.2f}"
        )
    yield "slope        what an estimate is to be multiplied by; 1 where it is what the absence changes"
    yield (
        "coverage     truths that slope and band of the other groups hold; the band is meant for 90%, in units of the "
        "root mean square of the estimates"
    )
