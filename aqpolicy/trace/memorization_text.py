"""A memorization report as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from aqpolicy.provenance.memorization import Over, Report
from aqpolicy.trace.memorizing import SIGNALS
from aqpolicy.units import MICRO

WHAT_FOLLOWS: Final = (
    "These are signals, not the measure: that is training again without the example (aqpolicy calibrate, forget).",
    "What can be done: bound `exposures` or `surprisal` in the policy, look at the labels, or forget the example.",
)


def report_lines(report: Report, top: int) -> Iterator[str]:
    """Yield a report.

    Args:
        report: The report.
        top: How many examples are shown.
    """
    yield f"model      {report.model}, trained by {report.optimizer}"
    yield f"log        {report.origin}, {report.size} entries"
    yield f"signal     {SIGNALS[report.signal]}"
    if report.optimizer != "SGD" and report.signal == "influence":
        yield f"           under {report.optimizer} it ranks examples; it is no amount"
    classes = f"within each value of `{report.within}`" if report.within else "of all examples"
    yield f"threshold  the {report.quantile / MICRO:g} quantile {classes}"
    for one in report.classes:
        yield f"           {one.kind}: {one.over} of {one.examples} are over {one.threshold / MICRO:.6g}"
    if report.agreement is not None and report.signal != "loss":
        yield f"baseline   the signal ranks as plain loss does by {report.agreement / MICRO:.2f} (rank correlation)"
    yield ""
    if not report.over:
        yield "No example stands out of its class."
        return
    yield (
        f"{'example':24} {'credential':16} {'class':12} {'exposures':>9} {'influence':>10} {'norm':>9} "
        f"{'mean loss':>9} {'last':>8} {'retained':>8}  depth group"
    )
    for example in report.over[:top]:
        yield _line(report, example)
    if len(report.over) > top:
        yield f"... and {len(report.over) - top} more"
    yield ""
    yield from WHAT_FOLLOWS


def _line(report: Report, one: Over) -> str:
    numbers = one.influence, one.norm, one.loss, one.last, one.retained
    influence, norm, loss, last, retained = (number / MICRO for number in numbers)
    total = sum(one.by_group)
    parts = sorted(zip(one.by_group, report.groups, strict=True), reverse=True)
    where = f"{parts[0][1]} {parts[0][0] / total:.0%}" if total else "-"
    return (
        f"{one.example:24} {one.credential:16} {one.kind:12} {one.exposures:9} {influence:10.4g} {norm:9.4g} "
        f"{loss:9.4g} {last:8.4g} {retained:8.4g}  {where}"
    )
