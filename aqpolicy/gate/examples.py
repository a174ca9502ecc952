"""Which row of the mask tables each scheduled example gets: looked up once for the whole manifest.

An example that is not in the manifest, or that was refused, gets the error row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from aqpolicy.bundle import ERROR_ROW, Classifier, Tables
from aqpolicy.trust import example_key

UNKNOWN = -1
"""Index of an example that the manifest does not hold."""


class Observations(Protocol):
    """The part of a manifest that the gate reads; `provenance.Manifest` has it."""

    @property
    def size(self) -> int:
        """Number of observations."""

    def index_of(self, example_id: str) -> int | None:
        """Return the number of an example's observation."""

    def attributes(self, index: int) -> Mapping[str, Any]:
        """Return the attributes known of an observation."""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """The examples of one step.

    Shapes:
        keys (b), index (b,), route (b,), refused (b,).
    """

    keys: tuple[bytes, ...]
    index: Tensor
    route: Tensor
    refused: Tensor


class Examples:
    """Routes of all observations."""

    def __init__(self, tables: Tables, manifest: Observations, refused: Iterable[str]) -> None:
        """Classify every observation."""
        self._manifest = manifest
        self._refused = frozenset(refused)
        classify, names = Classifier(tables), [table.name for table in tables.attributes]
        every = (manifest.attributes(index) for index in range(manifest.size))
        self.routes = [classify([attributes.get(name) for name in names]) for attributes in every]
        self._seen: dict[str, tuple[bytes, int, int, bool]] = {}

    def schedule(self, example_ids: Sequence[str]) -> Scheduled:
        """Look up the examples of a step, in order."""
        found = [self._seen.get(name) or self._look_up(name) for name in example_ids]
        keys, index, route, refused = zip(*found, strict=True)
        return Scheduled(keys, torch.tensor(index), torch.tensor(route), torch.tensor(refused))

    def _look_up(self, name: str) -> tuple[bytes, int, int, bool]:
        index = self._manifest.index_of(name)
        refused = name in self._refused
        route = ERROR_ROW if index is None or refused else self.routes[index]
        entry = (example_key(name), UNKNOWN if index is None else index, route, refused)
        if index is not None:  # ids that nobody signed for must not fill the memory
            self._seen[name] = entry
        return entry
