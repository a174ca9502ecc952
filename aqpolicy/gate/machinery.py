"""The parts of one gate, put together by `attach` and used by `Gate`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from aqpolicy.bundle import Tables
from aqpolicy.bundle.tables import EFFECTS
from aqpolicy.gate.accounts.accountant import Accountant
from aqpolicy.gate.accounts.decisions import Decisions
from aqpolicy.gate.course import Course
from aqpolicy.gate.motion.checks import ParameterSets
from aqpolicy.gate.motion.meters import Meters
from aqpolicy.gate.motion.metrics import Metrics
from aqpolicy.gate.motion.mover import Mover
from aqpolicy.gate.motion.verification import Verifier
from aqpolicy.gate.ranks import Ranks
from aqpolicy.gate.records.publication import Publisher
from aqpolicy.gate.records.recorder import Recorder
from aqpolicy.gate.records.size import RecordSize
from aqpolicy.gate.routing.arrival import Plan
from aqpolicy.gate.routing.backward import Backward
from aqpolicy.gate.routing.sketch import SketchPlan
from aqpolicy.gate.view.explain import Explainer
from aqpolicy.gate.view.last_visits import LastVisits
from aqpolicy.gate.view.live import Live
from aqpolicy.gate.view.snapshot import Snapshot, spent_of


@dataclass(frozen=True, slots=True)
class Machinery:
    """Who decides, who differentiates, who moves, who records, who looks."""

    model: nn.Module
    tables: Tables
    ranks: Ranks
    sets: ParameterSets
    mixing: tuple[nn.Module, ...]
    course: Course
    decisions: Decisions
    accountant: Accountant
    backward: Backward
    plan: SketchPlan
    recording: Plan | None
    size: RecordSize
    """How gradients are recorded; None where they are not."""
    mover: Mover
    meters: Meters
    metrics: Metrics
    verifier: Verifier
    recorder: Recorder
    publisher: Publisher
    visits: LastVisits
    explainer: Explainer
    live: Live
    start: tuple[Tensor, ...]
    """The trained parameters as the run began with them."""

    @property
    def started(self) -> dict[str, Tensor]:
        """The same by the parameters' names."""
        return dict(zip(self.mover.shadow.names, self.start, strict=True))

    def snapshot(self) -> Snapshot:
        """Return how the run stands."""
        totals, queue = self.recorder.totals, self.accountant.queue
        measured = self.backward.measures
        return Snapshot(
            state=self.course.state,
            visits=tuple(totals.effects[effect] for effect in EFFECTS),
            mass=tuple(totals.mass.tolist()) if measured else (),
            offered=tuple(totals.offered.tolist()) if measured else (),
            admitted=tuple(totals.admitted.tolist()) if measured else (),
            spent=spent_of(self.accountant, self.meters.accounts),
            waiting=len(queue),
            oldest=queue[:3],
            slow=self.backward.slow,
        )
