"""Rows made for a whole step at once are, byte for byte and word for word, those made one by one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gating import MICRO, budget, tables
from support.step_columns import columns_of

from aqpolicy.bundle.tables import Row as TableRow
from aqpolicy.bundle.tables import Tables
from aqpolicy.gate.records.verdict import Judge
from aqpolicy.lineage import CAUSES, EFFECTS, Book, Layout, Row
from aqpolicy.lineage.block import StepBlock, encode_blocks
from aqpolicy.lineage.record import NORMS
from aqpolicy.trace.words import reason_of, verdict_of

GROUPS = 3
LAYOUT = Layout(GROUPS, 2, ("tune",))
words = st.integers(0, 2**32 - 1)
norms = st.sampled_from([-1.0, -2.0, -0.0, 1e39, float("nan")]) | st.floats(0.0, 3e38)
rows = st.builds(
    Row,
    example_key=st.binary(min_size=16, max_size=16),
    manifest_index=words,
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
CHARGES = {"movement_charges": (0, 0), "drift_charges": (3, 4)}
BOOK = Book(0.1, 0.0, 0.0, 0.0, False, "SGD", (1.0,) * 3, (0.0,) * 3, (False,) * 3, 1.0, **CHARGES)


@settings(max_examples=150, deadline=None)
@given(st.lists(rows, min_size=1, max_size=6), st.booleans(), st.sampled_from(NORMS), st.data())
def test_columns_and_rows_are_the_same_bytes(
    members: list[Row], sketches: bool, kept: str, data: st.DataObject
) -> None:
    layout = replace(LAYOUT, norms=kept)
    if not sketches:
        members = [replace(row, sketch=b"") for row in members]
    first = data.draw(st.integers(0, len(members)))
    visits = data.draw(st.sampled_from([(), ((first, len(members) - first),), ((first,), (len(members) - first,))]))
    block = StepBlock(0, 3, 1, 5, tuple(members), BOOK, "tune", "", -4, visits)
    columns = columns_of(block) if sketches else columns_of(block, sketches=None)
    assert encode_blocks(columns, layout, 7) == encode_blocks(block, layout, 7)
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
