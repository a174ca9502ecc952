"""Rows made for a whole step at once are, byte for byte and word for word, those made one by one."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gating import MICRO, budget, tables

from aqpolicy.bundle.tables import Row as TableRow
from aqpolicy.bundle.tables import Tables
from aqpolicy.gate.records.verdict import Judge
from aqpolicy.lineage import CAUSES, EFFECTS, Book, Layout, Row
from aqpolicy.lineage.block import StepBlock, encode_block
from aqpolicy.scribe.columns import Exceptions, StepColumns
from aqpolicy.trace.words import reason_of, verdict_of

GROUPS = 3
LAYOUT = Layout(GROUPS, 2, ("tune",))
words = st.integers(0, 2**32 - 1)
norms = st.sampled_from([-1.0, -2.0, -0.0, 1e39, float("nan")]) | st.floats(0.0, 3e38)
rows = st.builds(
    Row,
    example_key=st.binary(min_size=16, max_size=16),
    manifest_index=st.integers(0, 2**40) | st.just(2**64 - 1),
    route=words,
    effect=st.sampled_from(EFFECTS),
    cause=st.sampled_from(CAUSES),
    reason_code=st.integers(0, 13),
    surprisal=words,
    norms=st.tuples(*[norms] * GROUPS),
    charges=st.tuples(*[st.integers(0, 2**59)] * 2),
    exceptions=st.dictionaries(st.integers(0, GROUPS - 1), st.tuples(st.integers(0, 13), words), max_size=GROUPS).map(
        lambda found: tuple((group, *found[group]) for group in sorted(found))
    ),
    sketch=st.binary(max_size=9),
    entropy=words,
)
BOOK = Book(0.1, 0.0, 0.0, 0.0, False, "SGD", (1.0,) * 3, (0.0,) * 3, (False,) * 3, 1.0, movement_charges=(0, 0))
BOOK = Book(**{**{name: getattr(BOOK, name) for name in BOOK.__slots__}, "drift_charges": (3, 4)})


def columns_of(members: list[Row], *, sketches: bool) -> StepColumns:
    """Return rows as columns, marks as -1."""
    listed = [(at, *one) for at, row in enumerate(members) for one in row.exceptions]
    visit, group, reason, share = np.array(listed, np.int64).reshape(-1, 4).T

    def column(name: str, mark: int = -2) -> np.ndarray:
        return np.array([-1 if getattr(row, name) == mark else getattr(row, name) for row in members], np.int64)

    return StepColumns(
        step=3,
        epoch=1,
        phase="tune",
        stage="",
        today=-4,
        time_ns=5,
        book=BOOK,
        example_keys=tuple(row.example_key for row in members),
        index=column("manifest_index", 2**64 - 1),
        route=column("route"),
        effect=np.array([EFFECTS.index(row.effect) for row in members]),
        cause=np.array([CAUSES.index(row.cause) for row in members]),
        reason=column("reason_code"),
        surprisal=column("surprisal", 2**32 - 1),
        entropy=column("entropy", 2**32 - 1),
        norms=np.array([row.norms for row in members], np.float64),
        charges=np.array([row.charges for row in members], np.int64),
        exceptions=Exceptions(visit, group, reason, share) if listed else None,
        sketches=[row.sketch for row in members] if sketches else None,
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(rows, min_size=1, max_size=6), st.booleans())
def test_columns_and_rows_are_the_same_bytes(members: list[Row], sketches: bool) -> None:
    if not sketches:
        members = [Row(**{**{name: getattr(row, name) for name in row.__slots__}, "sketch": b""}) for row in members]
    columns = columns_of(members, sketches=sketches)
    block = StepBlock(0, 3, 1, 5, tuple(members), BOOK, "tune", "", -4)
    assert encode_block(columns, LAYOUT) == encode_block(block, LAYOUT)
    assert (columns.keys, columns.charged(2)) == (block.keys, block.charged(2))
    assert len(columns.rows) == len(members)


def policy() -> Tables:
    made = tables(
        [[1.0, 1.0], [2.0, 0.5], [0.0, 0.0]], norms=[[None, 0.5], [None, None], [None, None]], budgets=[budget()]
    )
    waits = TableRow("defer", "denied", (0, 0), (-1, -1), (0,), (), "waits", (), (0,))
    default = TableRow("deny", "default", (0, 0), (-1, -1), (0,), (), "nothing applies")
    return Tables(made.groups, made.attributes, (*made.rows, waits, default), made.row_of_vector, made.budgets)


TABLES = policy()
visits = st.tuples(
    st.integers(0, len(TABLES.rows) - 1),
    st.tuples(*[st.sampled_from([0, 1, MICRO, 2 * MICRO])] * 2),
    st.tuples(*[st.sampled_from([0, *range(3, 14)])] * 2),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(visits, min_size=1, max_size=8))
def test_verdicts_are_those_of_the_auditor(batch: list[tuple]) -> None:
    route, shares, reasons, deferred, known, refused = zip(*batch, strict=True)
    index = np.where(np.array(known), 7, -1)
    verdict = Judge(TABLES)(
        np.array(route), np.array(shares), np.array(reasons), np.array(deferred), index, np.array(refused)
    )
    found = Counter[int]() if verdict.exceptions is None else Counter(verdict.exceptions.visit.tolist())
    for at, (number, left, why, waits, is_known, is_refused) in enumerate(batch):
        row = TABLES.rows[number]
        reason = reason_of(why, known=is_known, refused=is_refused)
        effect, cause = verdict_of(row, left, reason, expired=row.effect == "defer" and not waits)
        assert verdict.reason[at] == reason
        assert (EFFECTS[verdict.effect[at]], CAUSES[verdict.cause[at]]) == (effect, cause)
        assert found[at] == sum(one != said for one, said in zip(left, row.shares, strict=True))
