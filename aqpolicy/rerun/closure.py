"""Which depth groups a run kept closed to which examples, from its log."""

from __future__ import annotations

from aqpolicy.lineage import NO_INDEX
from aqpolicy.trace import Run


def openings(run: Run) -> dict[str, tuple[bool, ...]]:
    """Return, for every example of the manifest that was in a step, which groups ever received anything of it."""
    found: dict[int, list[bool]] = {}
    for _, row in run.rows:
        if row.manifest_index != NO_INDEX:
            seen = found.setdefault(row.manifest_index, [False] * len(run.tables.groups))
            for group, share in enumerate(run.applied(row)):
                seen[group] = seen[group] or share > 0
    return {run.manifest.example_id(index): tuple(seen) for index, seen in sorted(found.items())}


def closed_to(run: Run) -> dict[str, tuple[str, ...]]:
    """Return, per depth group, the examples that it was always closed to and that wrote into another one."""
    seen = openings(run)
    return {
        name: tuple(example for example, opened in seen.items() if any(opened) and not opened[group])
        for group, name in enumerate(run.tables.groups)
    }
