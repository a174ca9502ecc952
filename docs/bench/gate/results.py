"""What was measured, as plain data that goes into a JSON file and comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Cell:
    """One thing that was measured, or why it could not be.

    `part` is `core`, `whole`, or the axis of a growth; `subject` is the key of a
    model, or the place on the axis.
    """

    part: str
    subject: str
    mode: str
    values: Mapping[str, float]
    device: str = "cpu"
    error: str = ""


@dataclass
class Results:
    """A run of the benchmark: where and how, and its cells in the order in which they were measured."""

    facts: dict[str, str]
    titles: dict[str, str]
    """Of models, by key."""
    families: dict[str, str]
    cells: list[Cell] = field(default_factory=list)

    def of(self, part: str, device: str = "cpu") -> Iterator[Cell]:
        """Return the cells of a part."""
        return (cell for cell in self.cells if cell.part == part and cell.device == device)

    def find(self, part: str, subject: str, mode: str, device: str = "cpu") -> Cell | None:
        """Return one cell."""
        return next((c for c in self.of(part, device) if (c.subject, c.mode) == (subject, mode)), None)

    @property
    def devices(self) -> list[str]:
        """Where it was measured."""
        return list(dict.fromkeys(cell.device for cell in self.cells))

    def save(self, path: Path) -> None:
        """Write everything."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> Results:
        """Read what `save` wrote."""
        data = json.loads(path.read_text(encoding="utf-8"))
        return Results(**{**data, "cells": [Cell(**cell) for cell in data["cells"]]})
