"""How much of each example a run may have kept: what it admitted, by what the log says. No model is needed.

These are signals of memorization, not its measure: that would be training again
without the example. Plain loss stands beside them, because it is as good a signal
of a wrong label as any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final, Literal

from aqpolicy.errors import InputError, TraceError
from aqpolicy.lineage import NO_INDEX, NO_SURPRISAL
from aqpolicy.provenance.memorization import LARGEST_AMOUNT, MOST, Class, Over, Report
from aqpolicy.trace.ranking import spearman
from aqpolicy.trace.run import Run
from aqpolicy.trust import digest_text
from aqpolicy.units import MICRO

Signal = Literal["influence", "norm", "loss", "retained"]

SIGNALS: Final[Mapping[Signal, str]] = {
    "influence": "self-influence: over all admitted updates, learning rate * (share * norm)^2 / denominator",
    "norm": "admitted norm: over all admitted updates, share * norm",
    "loss": "plain loss: the mean over the example's visits",
    "retained": "retained: loss at the first admitted visit, less that at the last visit",
}
"""What each signal is. Source of the first: G. Pruthi et al. 2020, arXiv 2002.08484; here of gradients as admitted."""

EVERYBODY: Final = "all"
"""Name of the one class where examples are not told apart."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The signals of one example.

    Shapes:
        norms (g), influences (g): sums over its visits.

    Units:
        losses and retained in nats; influence in nats too, where the optimizer is SGD without momentum: what the
        example's own updates took off its own loss, to first order. Under others it only ranks.
    """

    example: str
    index: int
    visits: int
    exposures: int
    """Visits in which something of it was admitted."""
    norms: tuple[float, ...]
    influences: tuple[float, ...]
    loss: float
    """The mean over its visits with a finite loss; 0 where there are none."""
    last: float
    retained: float
    """0 where it was never admitted."""

    def of(self, signal: Signal) -> float:
        """Return one signal."""
        sums = {"influence": sum(self.influences), "norm": sum(self.norms)}
        return sums[signal] if signal in sums else float(getattr(self, signal))


@dataclass(frozen=True, slots=True)
class Threshold:
    """The quantile of a signal within one class."""

    kind: str
    examples: int
    value: float
    over: int
    """How many examples are above it."""


@dataclass(frozen=True, slots=True)
class Memorized:
    """The examples of a run that stand out of their class."""

    signal: Signal
    within: str
    """Attribute that makes the classes; empty where there is one."""
    quantile: float
    examples: tuple[Kept, ...]
    """All that were in a step, in the order of the manifest."""
    thresholds: tuple[Threshold, ...]
    over: tuple[tuple[str, Kept], ...]
    """Class and signals of those over its threshold, the strongest first."""
    agreement: float | None
    """Rank correlation of the signal with plain loss, over all examples; None where one of them is always the same."""


def kept_of(run: Run) -> tuple[Kept, ...]:
    """Return the signals of every example of the manifest that was in a step.

    Raises:
        TraceError: The run recorded decisions only.
    """
    found: dict[int, _Sums] = {}
    for block, row in run.rows:
        if row.manifest_index == NO_INDEX:
            continue
        sums = found.setdefault(row.manifest_index, _Sums(len(run.tables.groups)))
        loss = None if row.surprisal == NO_SURPRISAL else row.surprisal / MICRO
        sums.add(run.masses(row, block.book), block.book.lr / block.book.denominator, loss)
    return tuple(sums.kept(run.manifest.example_id(index), index) for index, sums in sorted(found.items()))


def memorized(run: Run, signal: Signal = "influence", *, within: str = "", quantile: float = 0.99) -> Memorized:
    """Return the examples of a run whose signal is above a quantile of their class.

    Args:
        run: The run, verified.
        signal: By which they are judged.
        within: An attribute of the manifest whose values are the classes; by default all are one.
        quantile: Part of a class that is not over, above 0 and below 1. A class with fewer than 1 / (1 - quantile)
            examples has none over.

    Raises:
        InputError: There is no such attribute, or it is no quantile.
        TraceError: The run recorded decisions only.
    """
    if not 0 < quantile < 1:
        raise InputError(f"{quantile:g} is no quantile; give a number between 0 and 1")
    examples = kept_of(run)
    classes: dict[str, list[Kept]] = {}
    kind_of = _classes(run, within)
    for one in examples:
        classes.setdefault(kind_of(one), []).append(one)
    thresholds, over = [], []
    for kind, members in sorted(classes.items()):
        value = sorted(one.of(signal) for one in members)[ceil(quantile * len(members)) - 1]
        above = [(kind, one) for one in members if one.of(signal) > value]
        thresholds.append(Threshold(kind, len(members), value, len(above)))
        over += above
    over.sort(key=lambda pair: (-pair[1].of(signal), pair[1].index))
    columns = [one.of(signal) for one in examples], [one.loss for one in examples]
    return Memorized(signal, within, quantile, examples, tuple(thresholds), tuple(over), spearman(*columns))


def _classes(run: Run, within: str) -> Callable[[Kept], str]:
    if not within:
        return lambda _: EVERYBODY
    names = sorted(run.manifest.attributes(0)) if run.manifest.size else []
    if within not in names:
        raise InputError(f"the manifest has no attribute `{within}`; it has {', '.join(names) or 'none'}")
    return lambda one: str(run.manifest.attributes(one.index).get(within, "(not given)"))


class _Sums:
    """Adds up what the log says of one example."""

    def __init__(self, groups: int) -> None:
        self._visits = self._exposures = 0
        self._norms, self._influences = [0.0] * groups, [0.0] * groups
        self._losses: list[float] = []
        self._first: float | None = None

    def add(self, masses: Sequence[float], rate: float, loss: float | None) -> None:
        """Take the next visit."""
        self._visits += 1
        if loss is not None:
            self._losses.append(loss)
        if any(masses):
            self._exposures += 1
            self._first = loss if self._first is None else self._first
        for group, mass in enumerate(masses):
            self._norms[group] += mass
            self._influences[group] += rate * mass * mass

    def kept(self, example: str, index: int) -> Kept:
        """Return what came of it."""
        last = self._losses[-1] if self._losses else 0.0
        return Kept(
            example=example,
            index=index,
            visits=self._visits,
            exposures=self._exposures,
            norms=tuple(self._norms),
            influences=tuple(self._influences),
            loss=sum(self._losses) / len(self._losses) if self._losses else 0.0,
            last=last,
            retained=0.0 if self._first is None else self._first - last,
        )


def report_of(run: Run, found: Memorized) -> Report:
    """Return the report of a run.

    Raises:
        TraceError: The run has published no model.
        InputError: Too many examples are over their thresholds.
    """
    if run.published is None:
        raise TraceError("the run has published no model, so there is nothing that a report could go with")
    if len(found.over) > MOST:
        raise InputError(
            f"{len(found.over)} examples are over their thresholds, a report names {MOST}; give a higher --quantile"
        )
    head = run.verified.checkpoint
    classes = [
        {"kind": one.kind, "examples": one.examples, "threshold": _micro(one.value), "over": one.over}
        for one in found.thresholds
    ]
    return Report.of(
        format="aqpolicy memorization 1",
        origin=head.origin,
        size=head.size,
        root=digest_text(head.root),
        model=f"sha256:{run.published['model']}",
        bundle=digest_text(run.bundle.digest),
        manifest=digest_text(run.manifest.digest),
        optimizer=", ".join(sorted({block.book.optimizer for block in run.blocks})),
        signal=found.signal,
        within=found.within,
        quantile=round(found.quantile * MICRO),
        examples=len(found.examples),
        groups=tuple(run.tables.groups),
        agreement=None if found.agreement is None else _micro(found.agreement),
        classes=tuple(Class.of(**one) for one in classes),
        over=tuple(_over(run, kind, one) for kind, one in found.over),
    )


def _over(run: Run, kind: str, one: Kept) -> Over:
    return Over.of(
        example=one.example,
        credential=run.manifest.observation(one.index).credential,
        kind=kind,
        visits=one.visits,
        exposures=one.exposures,
        influence=_micro(one.of("influence")),
        norm=_micro(one.of("norm")),
        loss=_micro(one.loss),
        last=_micro(one.last),
        retained=_micro(one.retained),
        by_group=tuple(_micro(part) for part in one.influences),
    )


def _micro(value: float) -> int:
    """Return millionths, no more than JSON holds exactly."""
    return round(max(-LARGEST_AMOUNT / MICRO, min(LARGEST_AMOUNT / MICRO, value)) * MICRO)
