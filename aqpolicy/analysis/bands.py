"""AQ307: bands that leave a gap, overlap, or hold nothing. Needs no solver."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from aqpolicy.analysis.prover import Prover
from aqpolicy.analysis.question import Question
from aqpolicy.analysis.settings import CheckSettings
from aqpolicy.diagnostics import Diagnostic, Label
from aqpolicy.model.policy import Band, Bands, Numeric, Policy
from aqpolicy.units import value_text


def questions(policy: Policy, _settings: CheckSettings) -> Iterator[Question]:
    """Ask of every set of bands whether it partitions the range of its attribute."""
    kinds = {attribute.name: attribute.type for attribute in policy.attributes}
    for bands in policy.bands:
        kind = kinds.get(bands.attribute)
        if isinstance(kind, Numeric):
            claim = f"the bands of `{bands.attribute}` partition its range"
            yield Question(claim, bands.span, partial(faults, bands=bands, kind=kind))


def faults(_prover: Prover, bands: Bands, kind: Numeric) -> Iterator[Diagnostic]:
    """Yield a finding per band that holds no value, and one for values that no band holds.

    A band begins where the one before it ends, so a bound that does not ascend makes
    it overlap that one and leaves it nothing.
    """
    start, before = kind.low, None
    for band in bands.bands:
        end = kind.high + 1 if band.below is None else band.below
        if not _values(kind, start, end):
            yield _empty(bands, band, before, kind, start)
        start, before = max(start, end), band
    if _values(kind, start, kind.high + 1) and before is not None:
        yield _gap(bands, before, kind, _first(kind, start))


def _first(kind: Numeric, start: int) -> int:
    return -(-start // kind.step) * kind.step


def _values(kind: Numeric, start: int, end: int) -> bool:
    """Say whether the attribute has a value from `start` up to, but not at, `end`."""
    return _first(kind, max(start, kind.low)) < min(end, kind.high + 1)


def _empty(bands: Bands, band: Band, before: Band | None, kind: Numeric, start: int) -> Diagnostic:
    at = value_text(start, kind.kind)
    overlaps = before is not None and (before.below is None or (band.below or start) <= start)
    others = () if before is None else (Label(before.span, f"`{before.name}` reaches up to {at}"),)
    reason = (
        f"it overlaps `{before.name}`" if before is not None and overlaps else f"`{bands.attribute}` has no value in it"
    )
    return Diagnostic(
        code="AQ307",
        severity="error",
        message=f"band `{band.name}` of `{bands.attribute}` holds nothing: {reason}",
        labels=(Label(band.span, "holds no value"), *others),
        notes=(
            f"`{bands.attribute}` goes from {value_text(kind.low, kind.kind)} to {value_text(kind.high, kind.kind)}",
        ),
        help=("let the bounds ascend, each inside the range, and the last band without a bound",),
    )


def _gap(bands: Bands, last: Band, kind: Numeric, missing: int) -> Diagnostic:
    low, high = value_text(missing, kind.kind), value_text(kind.high, kind.kind)
    return Diagnostic(
        code="AQ307",
        severity="error",
        message=f"no band of `{bands.attribute}` holds the values from {low} to {high}",
        labels=(Label(last.span, "the last band ends here"), Label(bands.span, "should cover the whole range")),
        help=(f"write the last band without a bound: `{last.name}`",),
        witness={bands.attribute: low},
    )
