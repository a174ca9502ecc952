"""What another policy would make of a behaviour, by the recorded prices of every visit: an estimate, to rank policies.

A visit that gets another factor adds (other factor - factor) times its price, the
score that it would have if all of it were admitted. So what was denied can be let
in. It is first order and holds later visits as they were: choose candidates by
it, and train again under the one that is chosen (`replay --train`).

Source: the policy what-if of the reverse pass, docs/trace.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor

from aqpolicy.bundle import Bundle
from aqpolicy.bundle.tables import NO_LIMIT
from aqpolicy.errors import TraceError
from aqpolicy.rerun.deciding import Decision, decisions, recorded
from aqpolicy.trace.attribution import DEFAULT_DAMP, score
from aqpolicy.trace.behaviour import Named, build_model, measure
from aqpolicy.trace.footprint import credentials_of
from aqpolicy.trace.run import Run
from aqpolicy.trace.visits import balanced
from aqpolicy.units import MICRO

LARGE: Final = 0.1
"""Part of all that was admitted beyond which a change is no small one."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a policy would make of a behaviour."""

    run: str
    policy: str
    other: str
    behaviour: str
    value: float
    change: float
    """Of the behaviour, to first order."""
    groups: dict[str, float]
    """The same by depth group."""
    credentials: dict[str, float]
    """The same by credential of the visits' labels, those that change it."""
    visits: int
    changed: int
    """Visits whose factors are others."""
    part: float
    """How much of what was offered gets another factor: the sum of |other factor - factor| over groups and visits."""

    @property
    def sure(self) -> str:
        """How sure it is, in words."""
        if not self.changed:
            return "the policy decides every visit as the run's own did"
        large = f"{self.part:.0%} of all factors change; " if self.part > LARGE else ""
        return large + "first order, one run: good for ranking policies; train again under the one that you choose"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON data."""
        return {"format": "aqpolicy what-if 1", "sure": self.sure, **asdict(self)}

    def lines(self) -> Iterator[str]:
        """Yield it as lines of text."""
        yield f"what if   run {self.run} had been trained under {self.other} instead of {self.policy}"
        then = f"{self.value + self.change:.6g} foreseen ({self.change:+.4g})"
        yield f"behaviour {self.behaviour}: {self.value:.6g} now, {then}"
        yield f"visits    {self.changed} of {self.visits} get other factors, {self.part:.1%} of all there are to give"
        for title, sums in (("group", self.groups), ("annotator", self.credentials)):
            for name, change in sorted(sums.items(), key=lambda pair: -abs(pair[1]))[:10]:
                yield f"{title:9} {name}: {change:+.4g}"
        yield f"sure      {self.sure}"


def foresee(run: Run, bundle: Bundle, model: Named, behaviour: Named, *, damp: float = DEFAULT_DAMP) -> Foreseen:
    """Say what another policy would make of a behaviour of the run's model.

    Args:
        run: A run that recorded factors.
        bundle: The other policy, verified; of the same depth groups.
        model: Builds the untrained model.
        behaviour: Takes the model and returns one number.
        damp: Weight of the curvature in the estimate.

    Raises:
        TraceError: The run recorded no factors, its books do not close, or the policy cannot be asked about it.
    """
    if bundle.tables.groups != run.tables.groups:
        raise TraceError("the other policy has other depth groups; what each of them received is not in the log")
    steps, halted = decisions(run, bundle)
    if halted:
        raise TraceError(f"budget `{halted}` of the other policy would have halted the run; there is no end to foresee")
    visits, ending, _ = balanced(run)
    measured = measure(visits, build_model(model, ending.state), behaviour)
    prices = score(visits, measured.gradient, ending, level=3, damp=damp).prices
    if prices is None:
        raise TraceError('what was denied has a price only where it is recorded; train with `record="factors"`')
    now = factors_of(run, [[recorded(run, row) for row in block.rows] for block in run.blocks])
    other = factors_of(run, [step or () for step in steps]) - now
    effect = prices * other
    credential_of, credentials = credentials_of(run), dict[str, float]()
    for (_, row), change in zip(run.rows, effect.sum(1).tolist(), strict=True):
        if change:
            name = credential_of(row)
            credentials[name] = credentials.get(name, 0.0) + change
    return Foreseen(
        run=run.run_id,
        policy=f"{run.bundle.policy_name} {run.bundle.policy_version}",
        other=f"{bundle.policy_name} {bundle.policy_version}",
        behaviour=measured.name,
        value=measured.value,
        change=effect.sum().item(),
        groups=dict(zip(run.tables.groups, effect.sum(0).tolist(), strict=True)),
        credentials=credentials,
        visits=visits.count,
        changed=int((other.abs() > 1e-9).any(1).sum()),
        part=(other.abs().sum() / max(1, other.numel())).item(),
    )


def factors_of(run: Run, steps: Sequence[Sequence[Decision]]) -> Tensor:
    """Return what of each visit's gradient every group receives under some decisions.

    Shapes:
        (v, g).
    """
    rows = []
    for block, decided in zip(run.blocks, steps, strict=True):
        for row, one in zip(block.rows, decided, strict=True):
            rows.append([_factor(*each) for each in zip(one.shares, one.norms, row.norms, strict=True)])
    return torch.tensor(rows, dtype=torch.float64)


def _factor(share: int, limit: int, norm: float) -> float:
    if norm < 0:  # no finite number, or none was measured: nothing was written
        return 0.0
    cut = 1.0 if limit == NO_LIMIT or norm == 0 else min(1.0, limit / MICRO / norm)
    return share / MICRO * cut
