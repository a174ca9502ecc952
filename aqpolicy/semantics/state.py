"""Where a run is, and where it may go: phases by plan, stages by certification."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aqpolicy.bundle.tables import StageTable, Tables
from aqpolicy.units import MICRO

COMPARE: Final = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@dataclass(frozen=True, slots=True)
class RunState:
    """The state of a run at a step.

    Units:
        `today` counts days since 1970.
    """

    step: int = 0
    epoch: int = 0
    phase: str = ""
    stage: str = ""
    today: int = 0

    @property
    def attributes(self) -> Mapping[str, str | int]:
        """The values that conditions compare; numbers are millionths."""
        numbers = {"step": self.step * MICRO, "epoch": self.epoch * MICRO, "today": self.today * MICRO}
        return {**numbers, "phase": self.phase, "stage": self.stage}


def first_state(tables: Tables, today: int = 0) -> RunState:
    """Return where a run begins: in the first phase and the first stage that are declared."""
    phase = tables.phases[0] if tables.phases else ""
    stage = tables.stages[0].name if tables.stages else ""
    return RunState(0, 0, phase, stage, today)


def may_enter_phase(tables: Tables, present: str, name: str) -> bool:
    """Say whether a phase may be entered: only one that is declared after the present one."""
    return name in tables.phases[tables.phases.index(present) + 1 :] if present in tables.phases else False


def missing_certifications(
    tables: Tables, present: str, name: str, metrics: Mapping[str, int]
) -> tuple[tuple[str, str, int], ...] | None:
    """Return what a stage still lacks; None where it is no later stage than the present one.

    Args:
        tables: The tables.
        present: The stage in which the run is.
        name: The stage to be entered.
        metrics: Present values by name; one that is not there fulfils nothing.

    Units:
        Values are millionths.
    """
    passed = _passed(tables.stages, present, name)
    if not passed:
        return None
    asked = (certification for stage in passed for certification in stage.requires)
    return tuple(one for one in asked if not _holds(one, metrics))


def _passed(stages: tuple[StageTable, ...], present: str, name: str) -> tuple[StageTable, ...]:
    """Return the stages between two, without the first and with the last."""
    names = [stage.name for stage in stages]
    if present not in names or name not in names:
        return ()
    return stages[names.index(present) + 1 : names.index(name) + 1]


def _holds(certification: tuple[str, str, int], metrics: Mapping[str, int]) -> bool:
    metric, op, value = certification
    return metric in metrics and bool(COMPARE[op](metrics[metric], value))
