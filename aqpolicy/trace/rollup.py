"""Sum visits up to whoever or whatever they belong to, and say which sums chance would also make.

Every roll-up has the same total: each visit is split evenly over its labels, and
a visit without a label goes to `(none)`. Sums are of signed scores, so opposite
effects cancel. The null exchanges whole examples, not single visits: an
example's visits resemble each other, and exchanging them one by one would call
differences real that are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from aqpolicy.lineage import NO_INDEX
from aqpolicy.trace.attribution import Scores
from aqpolicy.trace.run import Run
from aqpolicy.trace.visits import Visits

NONE: Final = "(none)"
DRAWS: Final = 1000
BAND: Final = 0.95
"""Part of the draws that the null's band holds."""

Labels = Sequence[tuple[str, ...]]
"""Per visit, the names that it is split over."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a roll-up.

    Shapes:
        groups (g): the score by depth group.
    """

    name: str
    visits: int
    contribution: float
    estimate: float | None
    groups: tuple[float, ...]
    low: float | None = None
    high: float | None = None
    """The band of what chance makes of as many examples; None where it was not drawn."""

    @property
    def score(self) -> float:
        """The estimate where there is one, else the contribution."""
        return self.contribution if self.estimate is None else self.estimate

    @property
    def mean(self) -> float:
        """The score per visit."""
        return self.score / self.visits if self.visits else 0.0

    @property
    def distinguishable(self) -> bool | None:
        """Whether the score is outside of what chance makes; None where that was not drawn."""
        if self.low is None or self.high is None:
            return None
        return not self.low <= self.score <= self.high


@dataclass(frozen=True, slots=True)
class Sources:
    """What the visits of a run belong to.

    Shapes:
        example (v,): number of the visit's example, in order of appearance; admitted (v,).
    """

    example: Tensor
    names: tuple[str, ...]
    """Id of every example."""
    index: tuple[int, ...]
    """Manifest index of every example."""
    credential: tuple[str, ...]
    """Credential of every example's observation."""
    admitted: Tensor


def sources_of(visits: Visits) -> Sources:
    """Look every example of a run up in its manifest, once."""
    run, seen, admitted = visits.run, set[bytes](), list[bool]()
    names, index, credential = list[str](), list[int](), list[str]()
    for _, row in run.rows:
        if row.example_key not in seen:
            seen.add(row.example_key)
            known = row.manifest_index != NO_INDEX
            names.append(run.name_of(row))
            index.append(row.manifest_index)
            credential.append(run.manifest.observation(row.manifest_index).credential if known else NONE)
        admitted.append(any(run.applied(row)))
    flags = torch.tensor(admitted, dtype=torch.bool)
    return Sources(visits.example, tuple(names), tuple(index), tuple(credential), flags)


def by_example(sources: Sources, labels: Sequence[tuple[str, ...]]) -> Labels:
    """Return labels of visits from labels of examples."""
    return [labels[number] for number in sources.example.tolist()]


def by_rule(run: Run) -> Labels:
    """Label every visit with the rules that decided it, taken together."""
    names = [(" + ".join(row.rules) or f"({row.cause})",) for row in run.tables.rows]
    return [names[row.route] for _, row in run.rows]


def by_attribute(run: Run, sources: Sources) -> dict[str, Labels]:
    """Label every visit by each category that the policy looks at, such as the authority class."""
    known = [{} if number == NO_INDEX else run.manifest.attributes(number) for number in sources.index]
    categories = [table.name for table in run.tables.attributes if table.kind == "category"]
    return {
        name: by_example(sources, [(str(attributes.get(name, NONE)),) for attributes in known]) for name in categories
    }


def by_consensus(run: Run, sources: Sources) -> Labels:
    """Split every visit over those whose consensus events its observation's history holds."""
    histories = [() if number == NO_INDEX else run.manifest.observation(number).history for number in sources.index]
    return by_example(sources, [tuple(event.credential for event in history) or (NONE,) for history in histories])


def roll_up(scores: Scores, labels: Labels) -> tuple[Entry, ...]:
    """Sum scores by label, the strongest first."""
    names: dict[str, int] = {}
    visit, label, weight = list[int](), list[int](), list[float]()
    for number, several in enumerate(labels):
        for name in several:
            visit.append(number)
            label.append(names.setdefault(name, len(names)))
            weight.append(1.0 / len(several))
    at, to, part = torch.tensor(visit), torch.tensor(label), torch.tensor(weight, dtype=torch.float64)
    count = torch.zeros(len(names), dtype=torch.int64)
    # A visit that one name labels twice is still one visit of it.
    pairs = {(a, b) for a, b in zip(visit, label, strict=True)}
    count.index_add_(0, torch.tensor([b for _, b in pairs]), torch.ones(len(pairs), dtype=torch.int64))

    def summed(values: Tensor) -> Tensor:
        total = torch.zeros(len(names), values.shape[1], dtype=torch.float64)
        return total.index_add_(0, to, values[at] * part.unsqueeze(1))

    contribution = summed(scores.contribution)
    estimate = None if scores.estimate is None else summed(scores.estimate)
    chosen = contribution if estimate is None else estimate
    entries = (
        Entry(
            name,
            int(count[number]),
            contribution[number].sum().item(),
            None if estimate is None else estimate[number].sum().item(),
            tuple(chosen[number].tolist()),
        )
        for name, number in names.items()
    )
    return tuple(sorted(entries, key=lambda entry: -abs(entry.score)))


def with_null(entries: Sequence[Entry], scores: Scores, sources: Sources) -> tuple[Entry, ...]:
    """Give every credential the band of what chance makes of as many admitted examples.

    The credentials are dealt anew over the admitted examples, `DRAWS` times; a
    credential of which nothing was admitted gets no band.
    """
    totals = torch.zeros(len(sources.names), dtype=torch.float64)
    totals.index_add_(0, sources.example, scores.chosen.sum(1))
    used = torch.zeros(len(sources.names), dtype=torch.bool)
    used[sources.example[sources.admitted]] = True
    names = sorted({name for name, inside in zip(sources.credential, used.tolist(), strict=True) if inside})
    owner = torch.tensor([names.index(sources.credential[at]) for at in used.nonzero().squeeze(1).tolist()])
    drawn = _draws(totals[used], owner, len(names))
    if drawn is None:
        return tuple(entries)
    tail = (1 - BAND) / 2
    low, high = torch.quantile(drawn, tail, dim=0).tolist(), torch.quantile(drawn, 1 - tail, dim=0).tolist()
    bands = {name: (low[at], high[at]) for at, name in enumerate(names)}
    return tuple(_banded(entry, bands.get(entry.name, (None, None))) for entry in entries)


def _draws(totals: Tensor, owner: Tensor, count: int) -> Tensor | None:
    """Return the totals per owner of `DRAWS` random deals, shape (draws, owners)."""
    if totals.numel() == 0:
        return None
    generator = torch.Generator().manual_seed(0)
    drawn = torch.zeros(DRAWS, count, dtype=torch.float64)
    for draw in range(DRAWS):
        order = torch.randperm(totals.numel(), generator=generator)
        drawn[draw].index_add_(0, owner, totals[order])
    return drawn


def _banded(entry: Entry, band: tuple[float | None, float | None]) -> Entry:
    low, high = band
    return Entry(entry.name, entry.visits, entry.contribution, entry.estimate, entry.groups, low, high)
