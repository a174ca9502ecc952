"""The null calls chance what chance makes, also when an example's visits resemble each other."""

from __future__ import annotations

import torch

from aqpolicy.trace.attribution import Scores
from aqpolicy.trace.rollup import Sources, roll_up, with_null

EPOCHS, EXAMPLES, READERS = 8, 120, 6


def entries_of(totals: torch.Tensor, seed: int, admitted: torch.Tensor | None = None):
    """Deal examples to readers at random; each example scores the same in every epoch."""
    generator = torch.Generator().manual_seed(seed)
    owner = torch.randint(READERS, (EXAMPLES,), generator=generator).tolist()
    example = torch.arange(EXAMPLES).repeat(EPOCHS)
    used = torch.ones(EXAMPLES, dtype=torch.bool) if admitted is None else admitted
    scores = Scores(totals[example].unsqueeze(1), None, torch.zeros(1))
    names = tuple(f"r{number}" for number in owner)
    sources = Sources(example, tuple(map(str, range(EXAMPLES))), tuple(range(EXAMPLES)), names, used[example])
    return with_null(roll_up(scores, [(names[at],) for at in example.tolist()]), scores, sources)


def test_readers_dealt_at_random_are_rarely_distinguished() -> None:
    flagged = drawn = 0
    for seed in range(20):
        totals = torch.randn(EXAMPLES, generator=torch.Generator().manual_seed(900 + seed), dtype=torch.float64)
        for entry in entries_of(totals, seed):
            flagged += bool(entry.distinguishable)
            drawn += 1
    # 5% by design; exchanging single visits instead of examples would flag about half of them.
    assert flagged / drawn < 0.12


def test_a_reader_who_is_different_is_distinguished() -> None:
    totals = torch.randn(EXAMPLES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    owner = torch.randint(READERS, (EXAMPLES,), generator=torch.Generator().manual_seed(3))
    totals[owner == 2] += 3.0
    entries = {entry.name: entry for entry in entries_of(totals, 3)}
    assert entries["r2"].distinguishable
    assert next(iter(entries)) == "r2"


def test_a_reader_of_whom_nothing_was_admitted_has_no_band() -> None:
    owner = torch.randint(READERS, (EXAMPLES,), generator=torch.Generator().manual_seed(3))
    totals = torch.where(owner == 4, 0.0, 1.0).double()
    entries = {entry.name: entry for entry in entries_of(totals, 3, admitted=owner != 4)}
    assert entries["r4"].distinguishable is None
    assert entries["r1"].low is not None


def test_a_run_that_admitted_nothing_is_not_judged() -> None:
    entries = entries_of(torch.zeros(EXAMPLES).double(), 0, admitted=torch.zeros(EXAMPLES, dtype=torch.bool))
    assert all(entry.distinguishable is None for entry in entries)
