"""All parts of the benchmark, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .compiled import compiled
from .medical import medical
from .parts import Size, agreement, annotators, mislabels, published
from .recording import recording
from .results import Finding

PARTS: dict[str, Callable[[Size], Iterator[Finding]]] = {
    "agreement": agreement,
    "annotators": annotators,
    "mislabels": mislabels,
    "published": published,
    "medical": medical,
    "compiled": compiled,
    "recording": recording,
}
