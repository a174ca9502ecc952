"""Where a run was at every step, and whether it was allowed to be there, for the auditor.

Phases follow the declared order. A stage is entered only with metrics that certify
it, and every verification that an admitted update asked for took place in time;
the metrics themselves are the run's word. Nothing of the gate is used.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aqpolicy.bundle.tables import Tables
from aqpolicy.errors import CorruptLogError
from aqpolicy.lineage import StepBlock
from aqpolicy.trace.auditing.checking import Checking
from aqpolicy.trace.auditing.promoting import Promoting
from aqpolicy.trace.words import COMPARE

Event = Mapping[str, Any]


@dataclass(slots=True)
class Course:
    """The state of a run, led by its events from one step to the next."""

    tables: Tables
    models: Mapping[int, Collection[str]] = field(default_factory=dict)
    """By number of steps, the digests of the models that the log has there."""
    epoch: int = 0
    phase: str = ""
    stage: str = ""
    today: int | None = None
    phases_entered: int = 0
    checking: Checking = field(init=False)
    promoting: Promoting = field(init=False)

    def __post_init__(self) -> None:
        """Begin in the first phase and the first stage."""
        self.phase = self.tables.phases[0] if self.tables.phases else ""
        self.stage = self.tables.stages[0].name if self.tables.stages else ""
        self.checking = Checking(self.tables.obligations)
        self.promoting = Promoting(self.tables, self.models)

    def follow(self, steps: int, events: Sequence[Event], *, last: bool) -> None:
        """Follow the events that the log has after so many steps.

        Args:
            steps: How many steps were taken before them.
            events: All events there.
            last: Whether nothing follows, so that a check may be missing because the run broke off.

        Raises:
            CorruptLogError: The run did something that it may not do, or a check is missing; without a place.
        """
        for event in events:
            kind = event.get("event")
            if kind in ("phase", "stage", "verification") and event.get("step") != (
                steps - 1 if kind == "verification" else steps
            ):
                raise CorruptLogError(f"the event `{kind}` names another step than that of its place")
            if kind == "phase":
                self._enter_phase(event)
            elif kind == "stage":
                self._enter_stage(event)
        checks = [event for event in events if event.get("event") == "verification"]
        self.checking.follow(steps, checks, publishing=steps in self.models, last=last)
        promotions = [event for event in events if event.get("event") == "promotion"]
        self.promoting.follow(steps, promotions, self.checking.waiting)

    def arrive(self, block: StepBlock) -> bool:
        """Compare a step's state with that of the run; return whether an epoch has begun.

        Raises:
            CorruptLogError: They differ; without a place.
        """
        if block.epoch < self.epoch:
            raise CorruptLogError("the epoch went back")
        began, self.epoch = block.epoch > self.epoch, block.epoch
        self.today = block.today if self.today is None else self.today
        said = (("phase", block.phase, self.phase), ("stage", block.stage, self.stage))
        for name, logged, derived in said:
            if logged != derived:
                raise CorruptLogError(f"the step is in {name} `{logged}`, the events of the run lead to `{derived}`")
        if block.today != self.today:
            raise CorruptLogError("the date of the run changed")
        return began

    def take(self, step: int, routes: Collection[int]) -> None:
        """Note what the admitted updates of a step ask for, given the rows that decided them."""
        numbers = {number for route in routes for number in self.tables.rows[route].obligations}
        kinds = {number: self.tables.obligations[number].kind for number in numbers}
        self.checking.after_step(step, [number for number in sorted(numbers) if kinds[number] == "verify"])
        self.promoting.owed |= {number for number in numbers if kinds[number] == "promote"}

    def _enter_phase(self, event: Event) -> None:
        self._later("phase", self.tables.phases, self.phase, event)
        self.phase = str(event["phase"])
        self.phases_entered += 1

    def _enter_stage(self, event: Event) -> None:
        names = [stage.name for stage in self.tables.stages]
        before, after = self._later("stage", names, self.stage, event)
        metrics = event.get("metrics")
        values = metrics if isinstance(metrics, dict) else {}
        for stage in self.tables.stages[before + 1 : after + 1]:
            for metric, op, wanted in stage.requires:
                now = values.get(metric)
                if type(now) is not int or not COMPARE[op](now, wanted):
                    raise CorruptLogError(f"stage `{names[after]}` was entered although `{metric}` does not certify it")
        self.stage = names[after]

    def _later(self, kind: str, names: Sequence[str], now: str, event: Event) -> tuple[int, int]:
        """Return the positions of where the run is and of where it goes."""
        name = event.get(kind)
        if name not in names or names.index(str(name)) <= names.index(now):
            raise CorruptLogError(f"the run entered {kind} `{name}` from `{now}`, which the policy does not allow")
        return names.index(now), names.index(str(name))
