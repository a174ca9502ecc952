"""Names, types and encodings of the exported columns.

Layout: docs/formats/export.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from aqpolicy.errors import InputError
from aqpolicy.lineage.record import KEY_BYTES

FORMAT: Final = 1
"""Version of the columns, in the metadata of every file."""

FIXED: Final = (
    ("entry", pa.uint64(), False),
    ("attempt", pa.uint32(), False),
    ("step", pa.uint64(), False),
    ("rank", pa.uint32(), False),
    ("position", pa.uint32(), False),
    ("superseded", pa.bool_(), False),
    ("time_ns", pa.uint64(), False),
    ("today", pa.date32(), False),
    ("epoch", pa.uint32(), False),
    ("phase", pa.string(), True),
    ("stage", pa.string(), True),
    ("bundle", pa.string(), False),
    ("manifest", pa.string(), False),
    ("manifest_index", pa.uint32(), True),
    ("example", pa.binary(KEY_BYTES), False),
    ("example_id", pa.string(), True),
    ("credential", pa.string(), True),
    ("session", pa.uint32(), True),
    ("route", pa.uint32(), False),
    ("rule", pa.string(), True),
    ("effect", pa.string(), False),
    ("cause", pa.string(), False),
    ("reason", pa.string(), False),
    ("surprisal", pa.uint32(), True),
    ("entropy", pa.uint32(), True),
)
"""Name, type, and whether it can be empty."""

NORM, CHARGE, SHARE, LOWERED = "norm_", "charge_", "share_", "lowered_"
"""What the names of columns begin with, of which there is one per depth group or budget."""

SORTED_BY: Final = ("step", "example")

_DELTA: Final = ("entry", "step", "position", "time_ns", "session", "manifest_index", "surprisal", "entropy")
"""Numbers that are near each other, or small."""

_REPEATED: Final = ("attempt", "rank", "today", "epoch", "phase", "stage", "bundle", "manifest", "credential", "route")
_WORDS: Final = ("rule", "effect", "cause", "reason")


def schema_of(groups: Sequence[str], budgets: Sequence[str], metadata: dict[str, str]) -> pa.Schema:
    """Return the columns of a run.

    Raises:
        InputError: Two depth groups or budgets have one name.
    """
    fields = [pa.field(name, kind, nullable=optional) for name, kind, optional in FIXED]
    fields += [pa.field(NORM + group, pa.float32()) for group in groups]
    fields += [pa.field(CHARGE + budget, pa.uint64(), nullable=False) for budget in budgets]
    fields += [pa.field(SHARE + group, pa.uint32()) for group in groups]
    fields += [pa.field(LOWERED + group, pa.string()) for group in groups]
    if len({field.name for field in fields}) < len(fields):
        raise InputError("two depth groups or two budgets of the run have one name; its rows have no columns")
    return pa.schema(fields, {f"aqpolicy.{name}": text for name, text in metadata.items()})


def metadata_of(genesis: dict[str, Any], note: bytes) -> dict[str, str]:
    """Return what every file says of the log that its rows are from."""
    names = {name: json.dumps(genesis[name], ensure_ascii=True) for name in ("groups", "budgets")}
    return {"export": str(FORMAT), "origin": str(genesis["origin"]), **names, "checkpoint": note.decode("utf-8")}


def encodings_of(schema: pa.Schema) -> dict[str, Any]:
    """Return how columns are written."""
    names = schema.names
    delta = dict.fromkeys([*_DELTA, *_beginning(names, CHARGE)], "DELTA_BINARY_PACKED")
    split = dict.fromkeys(_beginning(names, NORM), "BYTE_STREAM_SPLIT")
    return {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": [*_REPEATED, *_WORDS, *_beginning(names, SHARE), *_beginning(names, LOWERED)],
        "column_encoding": delta | split,
        "sorting_columns": [pq.SortingColumn(names.index(name)) for name in SORTED_BY],
    }


def _beginning(names: Sequence[str], prefix: str) -> list[str]:
    return [name for name in names[len(FIXED) :] if name.startswith(prefix)]
