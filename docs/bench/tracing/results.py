"""What was found, as plain data, and as tables."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from aqpolicy.report.data import Table

Aim = float | tuple[float, float] | None


@dataclass(frozen=True)
class Finding:
    """One number, and what it was to be."""

    part: str
    subject: str
    method: str
    what: str
    value: float
    must: Aim = None
    sense: str = ">="
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether it is what it was to be; None where nothing was said."""
        if self.must is None:
            return None
        if not isinstance(self.must, float | int):
            return self.must[0] <= self.value <= self.must[1]
        return self.value >= self.must if self.sense == ">=" else self.value <= self.must

    def cells(self) -> tuple[str, ...]:
        """Return it as a line of a table."""
        aim = ""
        if isinstance(self.must, float | int):
            aim = f"{self.sense} {self.must:g}"
        elif self.must is not None:
            aim = f"{self.must[0]:g} to {self.must[1]:g}"
        said = "–" if math.isnan(self.value) else f"{self.value:.4g}" if abs(self.value) < 1 else f"{self.value:.2f}"
        return (self.method, self.what, said, aim, {True: "yes", False: "NO", None: ""}[self.met], self.note)


@dataclass
class Results:
    """A run of the benchmark."""

    facts: dict[str, str]
    findings: list[Finding] = field(default_factory=list)

    def tables(self) -> Iterator[Table]:
        """Yield a table per part and subject, in order."""
        columns = ("method", "what", "found", "to be", "met", "note")
        for part, subject in dict.fromkeys((one.part, one.subject) for one in self.findings):
            rows = [one.cells() for one in self.findings if (one.part, one.subject) == (part, subject)]
            noted = any(row[-1] for row in rows)
            shown = [row if noted else row[:-1] for row in rows]
            yield Table(f"{part}: {subject}", columns if noted else columns[:-1], tuple(shown), "")

    def save(self, path: Path) -> None:
        """Write everything."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> Results:
        """Read what `save` wrote."""
        data = json.loads(path.read_text(encoding="utf-8"))
        return Results(data["facts"], [Finding(**one) for one in data["findings"]])
