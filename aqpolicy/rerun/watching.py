"""A log that keeps nothing but which groups some examples wrote into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from aqpolicy.scribe.columns import StepColumns
from aqpolicy.trace import Run


class Openings:
    """Counts, per depth group, the visits of some examples that wrote into it."""

    def __init__(self, run: Run, names: Collection[str]) -> None:
        """Take the run whose tables decide, and the ids of the examples."""
        self._run, self._names = run, frozenset(names)
        self.opened: Counter[str] = Counter()

    def append_step(self, block: StepColumns) -> None:
        """Count a step."""
        groups = self._run.tables.groups
        for row in block.rows:
            if self._run.name_of(row) in self._names:
                self.opened.update(groups[at] for at, share in enumerate(self._run.applied(row)) if share)

    def append_event(self, facts: Mapping[str, Any]) -> None:
        """Take what happened between two steps."""

    def append_model(self, *facts: Any) -> None:
        """Take a model."""

    def close(self) -> None:
        """End."""
