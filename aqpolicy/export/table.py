"""Columns of numpy as a table of Arrow: words for codes, emptiness for marks, names for numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from aqpolicy.errors import CorruptLogError
from aqpolicy.export.grounds import Decisions, Labels
from aqpolicy.export.rows import Rows
from aqpolicy.export.schema import FIXED
from aqpolicy.export.source import LoggedStep
from aqpolicy.lineage.record import CAUSES, EFFECTS, NO_ENTROPY, NO_INDEX, NO_SURPRISAL, NOT_MEASURED
from aqpolicy.lineage.stats import reason_name
from aqpolicy.trust import digest_text

_REASONS: Final = tuple(reason_name(code) for code in range(256))


@dataclass(frozen=True, slots=True)
class Context:
    """What rows are explained by: bundles by digest, manifests by root."""

    schema: pa.Schema
    bundles: Mapping[bytes, Decisions]
    manifests: Mapping[bytes, Labels]


def table_of(context: Context, first: LoggedStep, rows: Rows) -> pa.Table:
    """Return rows as a table.

    Args:
        context: What explains them.
        first: The step of the first one; bundle, manifest and attempt are the same for all.
        rows: At least one row.

    Raises:
        CorruptLogError: A row points outside its bundle.
    """
    entry, fixed, count = first.entry, rows.fixed, len(rows)
    decisions = context.bundles.get(entry.bundle)
    if decisions is not None and int(fixed["route"].max()) >= decisions.shares.shape[1]:
        raise CorruptLogError("a row points outside the bundle", f"steps from {entry.step}")
    names = {
        "log_index": rows.log_index,
        "attempt": _same(entry.attempt, pa.uint32(), count),
        "step": rows.step,
        "rank": rows.rank,
        "inner_index": rows.inner_index,
        "superseded": _same(first.superseded, pa.bool_(), count),
        "epoch": rows.epoch,
        "example": pa.FixedSizeBinaryArray.from_buffers(
            context.schema.field("example").type, count, [None, pa.py_buffer(rows.keys.tobytes())]
        ),
        **_labels(context.manifests.get(entry.manifest_root), rows),
        "manifest": _same(digest_text(entry.manifest_root), pa.string(), count),
        "manifest_index": _unless(fixed["index"], NO_INDEX),
        "bundle": _same(digest_text(entry.bundle), pa.string(), count),
        "route": fixed["route"],
        "rule": pa.nulls(count, pa.string()) if decisions is None else decisions.rules(fixed["route"]),
        "effect": _words(EFFECTS, fixed["effect"]),
        "cause": _words(CAUSES, fixed["cause"]),
        "reason": _words(_REASONS, fixed["reason"]),
        "surprisal": _unless(fixed["surprisal"], NO_SURPRISAL),
        "entropy": _unless(fixed["entropy"], NO_ENTROPY),
    }
    columns = [*(names[name] for name, _, _ in FIXED), *_norms(rows.norms), *rows.charges, *_shares(decisions, rows)]
    arrays = [column if isinstance(column, pa.Array) else pa.array(np.ascontiguousarray(column)) for column in columns]
    return pa.Table.from_arrays(arrays, schema=context.schema)


def _labels(labels: Labels | None, rows: Rows) -> dict[str, pa.Array]:
    if labels is None:
        names, credentials, sessions = (pa.nulls(len(rows), kind) for kind in (pa.string(), pa.string(), pa.uint32()))
    else:
        names, credentials, sessions = labels.of(rows.fixed["index"], rows.keys)
    return {"example_id": names, "credential": credentials, "session": sessions}


def _norms(norms: npt.NDArray[np.float32]) -> Iterator[pa.Array]:
    """Return a column per depth group: empty where not measured, infinite where not finite."""
    has_marks = norms.min(axis=1) < 0 if norms.size else ()
    for column, marked in zip(norms, has_marks, strict=True):
        if not marked:
            yield pa.array(column)
            continue
        empty = np.equal(column, NOT_MEASURED)
        yield pa.array(np.where(column < 0, np.float32(np.inf), column), mask=empty)


def _shares(decisions: Decisions | None, rows: Rows) -> Iterator[Any]:
    """Return a column per depth group: the table's share, but for what lowered it."""
    if decisions is None:
        yield from [pa.nulls(len(rows), pa.uint32())] * len(rows.norms)
        return
    shares = decisions.shares[:, rows.fixed["route"]]
    shares[rows.lowered[:, 1], rows.lowered[:, 0]] = rows.lowered[:, 2]
    yield from shares


def _same(value: object, kind: pa.DataType, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, kind), count)


def _unless(values: npt.NDArray[Any], mark: int) -> pa.Array:
    empty = np.equal(values, mark)
    return pa.array(np.ascontiguousarray(values), mask=empty if empty.any() else None)


def _words(names: tuple[str, ...], codes: npt.NDArray[Any]) -> pa.Array:
    return pa.array(names, pa.string()).take(pa.array(np.ascontiguousarray(codes)))
