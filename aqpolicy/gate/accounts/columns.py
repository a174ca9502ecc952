"""What attributes are worth to the visits of a step, as columns of integers.

Manifest values are read once, into one tensor per attribute. A slot is an
example's number in the manifest plus 1; slot `NOWHERE` belongs to nobody and its
values are no values. Values of the run come from its state and from the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from aqpolicy.bundle import AttributeTable, Tables
from aqpolicy.errors import BundleError
from aqpolicy.gate.accounts.state import RunState

NOWHERE: Final = 0
"""Slot of an example that the manifest does not hold, or that was refused."""

NO_VALUE: Final = -(2**63)
"""In a column: not known, ill-typed or far out of range."""

OF_THE_STATE: Final = frozenset(RunState().attributes())
OF_THE_VISIT: Final = frozenset({"surprisal", "predictive_entropy"})


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
class Sight:
    """What can be asked about the visits of a batch.

    Shapes:
        slot (b,), surprisal (b,), entropy (b,).
    """

    slot: Tensor
    state: RunState
    surprisal: Tensor
    entropy: Tensor


class Columns:
    """Values of some attributes, by position in the tables."""

    def __init__(self, tables: Tables, manifest: Observations, positions: Iterable[int]) -> None:
        """Read the manifest's values of the attributes at these positions.

        Raises:
            BundleError: The tables ask the run for something that this version does not know.
        """
        self._tables = [tables.attributes[position] for position in range(len(tables.attributes))]
        for table in self._tables:
            if table.origin == "run" and table.name not in OF_THE_STATE | OF_THE_VISIT:
                raise BundleError(f"the bundle decides by `{table.name}`, which no run of this version has")
        signed = [position for position in sorted(set(positions)) if self._tables[position].origin != "run"]
        read = _read(manifest, [self._tables[position] for position in signed]) if signed else []
        self._signed = dict(zip(signed, read, strict=True))

    def signed(self, position: int) -> Tensor:
        """Return the column of the whole manifest, by slot."""
        return self._signed[position]

    def of(self, position: int, sight: Sight) -> Tensor | int:
        """Return what an attribute is worth to each visit; one number where that is the same for all."""
        column = self._signed.get(position)
        if column is not None:
            return column.index_select(0, sight.slot)
        table = self._tables[position]
        if table.name in OF_THE_VISIT:
            return sight.surprisal if table.name == "surprisal" else sight.entropy
        return code(table, sight.state.attributes()[table.name])


def code(table: AttributeTable, value: object) -> int:
    """Return a value as columns hold it: the position of a name, or a number itself."""
    if table.kind == "category":
        return table.values.index(value) if isinstance(value, str) and value in table.values else -1
    known = isinstance(value, int) and not isinstance(value, bool) and abs(value) < -NO_VALUE
    return value if known and isinstance(value, int) else NO_VALUE


def _read(manifest: Observations, tables: list[AttributeTable]) -> list[Tensor]:
    columns: list[list[int]] = [[code(table, None)] for table in tables]
    for index in range(manifest.size):
        attributes = manifest.attributes(index)
        for column, table in zip(columns, tables, strict=True):
            column.append(code(table, attributes.get(table.name)))
    return [torch.tensor(column, dtype=torch.int64, device="cpu") for column in columns]
