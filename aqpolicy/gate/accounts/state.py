"""Where a run is: what every visit of one step has in common."""

from __future__ import annotations

from dataclasses import dataclass

from aqpolicy.units import MICRO


@dataclass(frozen=True, slots=True)
class RunState:
    """The state of a run at a step.

    Units:
        `step` and `epoch` count from 0; `today` counts days since 1970.
    """

    step: int = 0
    epoch: int = 0
    phase: str = ""
    stage: str = ""
    today: int = 0

    def attributes(self) -> dict[str, str | int]:
        """Return the attributes that this state gives to every visit, numbers in millionths."""
        return {
            "phase": self.phase,
            "stage": self.stage,
            "step": self.step * MICRO,
            "epoch": self.epoch * MICRO,
            "today": self.today * MICRO,
        }
