"""The index, made again from rows alone, for the second verifier (attack A37); see docs/formats/lineage-index.md."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from struct import pack
from typing import Any

from attacks.independent_leaves import Row


@dataclass
class Visited:
    """A step as the index sees it."""

    index: int
    step: int
    attempt: int
    ground: bytes
    ranks: list[list[Row]]
    moved: tuple[float, ...]


def runs_of(steps: list[Visited], groups: int) -> dict[str, bytes]:
    """Return the runs of the index over these steps."""
    ranks = [rank for step in steps for rank in step.ranks]
    rows = [row for rank in ranks for row in rank]
    grounds = list(dict.fromkeys(step.ground for step in steps))
    keys = [int.from_bytes(row.key[:4], "little") for row in rows]
    examples = sorted(zip(keys, range(len(rows)), strict=True))
    shared = sorted(
        {key for key in keys if len({row.key for row, own in zip(rows, keys, strict=True) if own == key}) > 1}
    )
    used = [Counter(row.route for rank in step.ranks for row in rank) for step in steps]
    routes = sorted(set().union(*used))
    pairs = [(at, visits[route]) for route in routes for at, visits in enumerate(used) if visits[route]]
    moved = [sum(1 << at for at, step in enumerate(steps) if step.moved[group]) for group in range(groups)]
    tops = [
        sorted((-row.masses[group], at) for at, row in enumerate(rows) if row.masses[group] > 0)
        for group in range(groups)
    ]
    largest = [top for group in tops for top in group[:16]]
    visits = [sum(1 for visits in used if visits[route]) for route in routes]
    return {
        "step": run("step", "QQIIIIB", [step.index for step in steps], [step.step for step in steps],
                    [step.attempt for step in steps], [grounds.index(step.ground) for step in steps],
                    accumulate((len(step.ranks) for step in steps), initial=0), accumulate(map(len, ranks), initial=0),
                    b"".join(grounds)),
        "example": run("example", "III", [key for key, _ in examples], [at for _, at in examples], shared),
        "route": run("route", "IIII", routes, accumulate(visits, initial=0),
                     [at for at, _ in pairs], [count for _, count in pairs]),
        "group": run("group", "BIfI", b"".join(bits.to_bytes(-(-len(steps) // 8), "little") for bits in moved),
                     accumulate((len(group[:16]) for group in tops), initial=0),
                     [-mass for mass, _ in largest], [at for _, at in largest]),
    }  # fmt: skip


def run(name: str, kinds: str, *columns: Any) -> bytes:
    made = [array(kind, column) for kind, column in zip(kinds, columns, strict=True)]
    heads = [pack("<c3xI", kind.encode(), len(column)) for kind, column in zip(kinds, made, strict=True)]
    return pack("<4s8sI", b"AQI3", name.encode(), len(made)) + b"".join(heads) + b"".join(map(bytes, made))
