"""Compile a run into an index: the reverse pass, asked once for every gradient of a basis.

The basis spans what the run's own last gradients have most in common: behaviours
of the model that came of it mostly lie there too. Where the space that the run
recorded is no larger than the basis, it is all of it, and nothing is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from aqpolicy.errors import InputError
from aqpolicy.trace.attribution import DEFAULT_DAMP, Grounds, sweep_all
from aqpolicy.trace.index import WHOLE, Facts, Index, rounded
from aqpolicy.trace.rollup import sources_of
from aqpolicy.trace.run import Run
from aqpolicy.trace.visits import (
    FactorSpace,
    SketchSpace,
    Visits,
    balanced,
)
from aqpolicy.trace.writing import split

DEFAULT_SIZE: Final = 256
SAMPLED: Final = 8
"""Gradients that are looked at for every one that the basis is to have."""

ROOM: Final = 256 * 1024 * 1024
"""Bytes that the gradients which are looked at may take, and the scores of those that are asked at once."""

Progress = Callable[[int, int], None]
"""Told how many gradients of how many were asked."""


def compile_index(
    run: Run, *, size: int = DEFAULT_SIZE, damp: float = DEFAULT_DAMP, progress: Progress = lambda *_: None
) -> Index:
    """Compile a run.

    Args:
        run: A run that recorded sketches or factors, from `open_run`.
        size: Numbers per example; more, to be a multiple of `WHOLE`.
        damp: Weight of the curvature in the estimate; 0 makes it the contribution.
        progress: Is told how far it is.

    Raises:
        TraceError: The run cannot be traced, or its books do not close.
        InputError: The size is none.
    """
    if size < 1 or not damp >= 0:
        raise InputError("an index has at least one number per example, and a damp is not negative")
    visits, ending, _ = balanced(run)
    adaptive = isinstance(visits.space, FactorSpace) and any(block.book.second_momentum for block in run.blocks)
    grounds = Grounds(visits, ending.start) if adaptive else None
    found, captured = _basis(visits, -(-size // WHOLE) * WHOLE)
    # What the space of the record is too small for stays 0, and so do the numbers of examples.
    basis = torch.nn.functional.pad(found, (0, 0, 0, -len(found) % WHOLE))
    sources = sources_of(visits)
    credentials = tuple(dict.fromkeys(sources.credential))
    owners = torch.tensor([credentials.index(name) for name in sources.credential], dtype=torch.int32)
    of_visit = owners.long()[visits.example]
    groups, count = len(run.tables.groups), len(basis)
    rows = torch.zeros(len(sources.names), count)
    sums = torch.zeros(len(credentials), groups, count, dtype=torch.float64)
    once = max(1, ROOM // (8 * (2 * visits.count * groups + 4 * basis.shape[1])))
    for start in range(0, len(found), once):
        asked = [split(one.double(), visits.space.widths) for one in found[start : start + once]]
        for number, answer in enumerate(sweep_all(visits, asked, damp, grounds), start):
            each = torch.zeros(len(sources.names), dtype=torch.float64)
            rows[:, number] = each.index_add_(0, visits.example, answer.scores.sum(1)).float()
            sums[:, :, number].index_add_(0, of_visit, answer.scores)
        progress(min(len(found), start + once), len(found))
    levels, scales = rounded(rows)
    space = visits.space
    facts = Facts(
        run=run.run_id,
        policy=f"{run.bundle.policy_name} {run.bundle.policy_version}",
        model=ending.digest,
        damp=damp,
        groups=tuple(run.tables.groups),
        parameters=tuple(tuple((name, tuple(shape)) for name, shape in group) for group in run.bundle.parameters),
        shapes=tuple(space.shapes),
        sketch=(space.plan.k, space.plan.seed) if isinstance(space, SketchSpace) else None,
        credentials=credentials,
        examples=sources.names,
        captured=captured,
    )
    return Index(facts, basis, levels, scales, owners, sums, torch.bincount(of_visit, minlength=len(credentials)))


def _basis(visits: Visits, size: int) -> tuple[Tensor, float]:
    """Return orthonormal gradients, (k, n), and the mean part of the run's last gradients that lies in their span."""
    width = sum(visits.space.widths)
    if width <= size:
        return torch.eye(width), 1.0
    rows = _last_gradients(visits, min(SAMPLED * size, max(size, ROOM // (4 * width))))
    lengths = rows.norm(dim=1, keepdim=True)
    rows = rows[lengths.squeeze(1) > 0] / lengths[lengths.squeeze(1) > 0]
    if not len(rows):
        raise InputError("no gradient of the run is other than 0; there is nothing to index")
    # By the smaller product: the rows are few, and each is as long as the model.
    squares, vectors = torch.linalg.eigh((rows @ rows.T).double())
    kept = squares > squares[-1] * 1e-6
    kept[: max(0, len(squares) - size)] = False
    found = (vectors[:, kept] / squares[kept].sqrt()).T.flip(0).float() @ rows
    basis, _ = torch.linalg.qr(found.T)  # once more, for what single precision lost
    return basis.T.contiguous(), (squares[kept].sum() / len(rows)).item()


def _last_gradients(visits: Visits, count: int) -> Tensor:
    """Return the gradients of the run's last visits, what was denied among them where it is recorded, (m, n)."""
    parts: list[Tensor] = []
    for number in reversed(range(len(visits.run.blocks))):
        start, stop = visits.spans[number]
        if stop > start and count > 0:
            parts.append(visits.space.writing(start, stop).gradients()[:count].float())
            count -= len(parts[-1])
    return torch.cat(parts)
