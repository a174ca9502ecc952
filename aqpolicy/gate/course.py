"""Where a run is: its step, epoch, phase, stage and date, and who may move it on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from aqpolicy.bundle.tables import Tables
from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.accounts.state import RunState
from aqpolicy.gate.motion.metrics import Metrics, unmet

_FIRST_DAY = date(1970, 1, 1)


class Course:
    """The state of a run, moved on by the loop, stages only with what certifies them."""

    def __init__(self, tables: Tables, today: date | None) -> None:
        """Begin in the first phase and the first stage, on this date, by default that of UTC."""
        self._phases, self._stages = tables.phases, tables.stages
        day = (today or datetime.now(UTC).date()) - _FIRST_DAY
        first = tables.stages[0].name if tables.stages else ""
        self.state = RunState(phase=tables.phases[0] if tables.phases else "", stage=first, today=day.days)

    def advance(self) -> None:
        """Count a step."""
        self.state = replace(self.state, step=self.state.step + 1)

    def start_epoch(self) -> None:
        """Begin the next epoch."""
        self.state = replace(self.state, epoch=self.state.epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """Return where the run is, but for the date, which is that of each start."""
        state = self.state
        return {"step": state.step, "epoch": state.epoch, "phase": state.phase, "stage": state.stage}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where a run was.

        Raises:
            IllegalTrainingSetupError: It was in a phase or stage that the policy does not have.
        """
        phases, stages = self._phases or ("",), [stage.name for stage in self._stages] or [""]
        step, epoch, phase, stage = (state.get(name) for name in ("step", "epoch", "phase", "stage"))
        if phase not in phases or stage not in stages or not isinstance(step, int) or not isinstance(epoch, int):
            raise IllegalTrainingSetupError("the saved state is in a phase or stage that the policy does not have")
        self.state = replace(self.state, step=step, epoch=epoch, phase=str(phase), stage=str(stage))

    def enter_phase(self, name: str) -> None:
        """Go on to a later phase.

        Raises:
            IllegalTrainingSetupError: There is no such phase, or the run is there or beyond.
        """
        _later("phase", self._phases, self.state.phase, name)
        self.state = replace(self.state, phase=name)

    def enter_stage(self, name: str, metrics: Metrics) -> dict[str, int]:
        """Go on to a later stage, if its certifications and those of the stages before it hold; return the metrics.

        Raises:
            IllegalTrainingSetupError: There is no such stage, there is no way back, or a metric is not good enough.
        """
        names = [stage.name for stage in self._stages]
        before, after = _later("stage", names, self.state.stage, name)
        requires = [one for stage in self._stages[before + 1 : after + 1] for one in stage.requires]
        values = {metric: metrics.value(metric) for metric, _, _ in requires}
        missing = unmet(requires, values.__getitem__)
        if missing:
            raise IllegalTrainingSetupError(f"the run may not enter stage `{name}` yet: {'; '.join(missing)}")
        self.state = replace(self.state, stage=name)
        return values


def _later(kind: str, names: Sequence[str], now: str, name: str) -> tuple[int, int]:
    """Return the positions of where the run is and of where it goes."""
    if name not in names:
        known = ", ".join(names) or "none"
        raise IllegalTrainingSetupError(f"the policy has no {kind} `{name}`; it has {known}")
    before, after = names.index(now), names.index(name)
    if after <= before:
        raise IllegalTrainingSetupError(
            f"the run is in {kind} `{now}`, so it cannot enter `{name}`: there is no way back"
        )
    return before, after
