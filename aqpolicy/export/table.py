"""Columns of numpy as a table of Arrow: words for codes, emptiness for marks, names for numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from aqpolicy.errors import CorruptLogError
from aqpolicy.export.grounds import Decisions, Labels
from aqpolicy.export.rows import Rows
from aqpolicy.export.schema import FIXED
from aqpolicy.export.source import LoggedStep
from aqpolicy.lineage.block import NO_NAME
from aqpolicy.lineage.record import CAUSES, EFFECTS, NO_ENTROPY, NO_INDEX, NO_SURPRISAL, NOT_MEASURED, Layout
from aqpolicy.lineage.stats import reason_name
from aqpolicy.trust import digest_text


@dataclass(frozen=True, slots=True)
class Context:
    """What rows are explained by: bundles by digest, manifests by root."""

    schema: pa.Schema
    layout: Layout
    bundles: Mapping[bytes, Decisions]
    manifests: Mapping[bytes, Labels]


def table_of(context: Context, rows: Rows) -> pa.Table:
    """Return rows as a table.

    Args:
        context: What explains them.
        rows: At least one row, all of one bundle and one manifest.

    Raises:
        CorruptLogError: A row points outside its bundle, or a step names a phase or stage that the run does not have.
    """
    entry, schema = rows.steps[0].entry, context.schema
    facts, at = [_facts(step, context.layout) for step in rows.steps], pa.array(rows.at)
    rules, shares = _decisions(context.bundles.get(entry.bundle), rows)
    names, credentials, sessions = _labels(context.manifests.get(entry.manifest_root), rows)
    keys = pa.py_buffer(rows.column("key").tobytes())
    columns = {
        **{name: pa.array([fact[name] for fact in facts], schema.field(name).type).take(at) for name in facts[0]},
        "rank": rows.rank,
        "position": rows.position,
        "manifest_index": _unless(rows.column("index"), NO_INDEX),
        "example": pa.FixedSizeBinaryArray.from_buffers(schema.field("example").type, len(rows), [None, keys]),
        "example_id": names,
        "credential": credentials,
        "session": sessions,
        "route": rows.column("route"),
        "rule": rules,
        "effect": _words(EFFECTS.__getitem__, rows.column("effect")),
        "cause": _words(CAUSES.__getitem__, rows.column("cause")),
        "reason": _words(reason_name, rows.column("reason")),
        "surprisal": _unless(rows.column("surprisal"), NO_SURPRISAL),
        "entropy": _unless(rows.column("entropy"), NO_ENTROPY),
    }
    found = [*(columns[name] for name, _, _ in FIXED), *_norms(rows.norms), *rows.charges, *shares, *_lowered(rows)]
    arrays = [column if isinstance(column, pa.Array) else pa.array(column) for column in found]
    return pa.Table.from_arrays(arrays, schema=schema)


def _facts(step: LoggedStep, layout: Layout) -> dict[str, object]:
    """Return what holds for all rows of a step."""
    entry = step.entry
    return {
        "entry": step.index,
        "attempt": entry.attempt,
        "step": entry.step,
        "superseded": step.superseded,
        "time_ns": entry.time_ns,
        "today": entry.today,
        "epoch": entry.epoch,
        "phase": _named(entry.phase, layout.phases),
        "stage": _named(entry.stage, layout.stages),
        "bundle": digest_text(entry.bundle),
        "manifest": digest_text(entry.manifest_root),
    }


def _named(number: int, names: Sequence[str]) -> str | None:
    if number == NO_NAME:
        return None
    if number >= len(names):
        raise CorruptLogError("a step names a phase or stage that the run does not have")
    return names[number]


def _decisions(decisions: Decisions | None, rows: Rows) -> tuple[pa.Array, list[Any]]:
    """Return rules and applied shares: those of the table, but for what lowered them."""
    groups, count = len(rows.norms), len(rows)
    row, group, _, share = rows.lowered.T
    if decisions is not None:
        rules, shares = decisions.of(rows.column("route"), groups)
        shares[group, row] = share
        return rules, list(shares)
    shares, absent = np.zeros((groups, count), np.uint32), np.ones((groups, count), np.bool_)
    shares[group, row], absent[group, row] = share, False
    columns = zip(shares, absent, strict=True)
    return pa.nulls(count, pa.string()), [pa.array(values, mask=mask) for values, mask in columns]


def _labels(labels: Labels | None, rows: Rows) -> tuple[pa.Array, pa.Array, pa.Array]:
    if labels is None:
        return (*(pa.nulls(len(rows), kind) for kind in (pa.string(), pa.string(), pa.uint32())),)
    return labels.of(rows.column("index"), rows.column("key"))


def _norms(norms: npt.NDArray[np.float32]) -> Iterator[pa.Array]:
    """Return a column per depth group: empty where not measured, infinite where not finite."""
    for column, marked in zip(norms, norms.min(axis=1, initial=0) < 0, strict=True):
        if marked:
            measured = np.where(column < 0, np.float32(np.inf), column)
            yield pa.array(measured, mask=np.equal(column, NOT_MEASURED))
        else:
            yield pa.array(column)


def _lowered(rows: Rows) -> Iterator[pa.Array]:
    """Return a column per depth group: what lowered the share; empty where nothing did."""
    row, group, reason, _ = rows.lowered[np.argsort(rows.lowered[:, 1], kind="stable")].T
    ends = np.searchsorted(group, np.arange(len(rows.norms) + 1))
    for start, end in pairwise(ends.tolist()):
        which, nothing = np.zeros(len(rows), np.int64), np.ones(len(rows), np.bool_)
        which[row[start:end]], nothing[row[start:end]] = reason[start:end], False
        yield _words(reason_name, which, nothing) if end > start else pa.nulls(len(rows), pa.string())


def _unless(values: npt.NDArray[Any], mark: int) -> pa.Array:
    return pa.array(values, mask=np.equal(values, mark))


def _words(name: Callable[[int], str], codes: npt.NDArray[Any], empty: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Return a column of names, by their codes."""
    distinct, which = np.unique(codes, return_inverse=True)
    return pa.array(map(name, distinct.tolist()), pa.string()).take(pa.array(which, mask=empty))
