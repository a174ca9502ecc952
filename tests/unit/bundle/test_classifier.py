"""The classifier for single observations finds the same row as the tables, and remembers within a bound."""

from __future__ import annotations

import pytest

from aqpolicy.bundle import ERROR_ROW, NO_LIMIT, AttributeTable, Classifier, Row, Tables, classify

ERROR = Row("deny", "error", (0,), (NO_LIMIT,), (), (), "an attribute is missing")
TABLES = Tables(
    groups=("head",),
    attributes=(
        AttributeTable("authority", "category", ("crowd", "board"), (), 0, 1, (0b01, 0b11)),
        AttributeTable("judgments", "numeric", (), (0, 3_000_000), 9_000_000, 1_000_000, (0b01, 0b11)),
    ),
    rows=(ERROR, Row("deny", "default", (0,), (NO_LIMIT,), (), (), "no"), ERROR),
    row_of_vector={0b01: 1, 0b11: 2},
    budgets=(),
)
NAMES = [table.name for table in TABLES.attributes]


@pytest.mark.parametrize("authority", ["crowd", "board", "nobody", None, 3])
@pytest.mark.parametrize("judgments", [0, 2_000_000, 3_000_000, 9_000_000, 9_000_001, 10_000_000, -1, 1, None, "3"])
def test_a_classifier_finds_the_row_of_the_tables(authority: str | int | None, judgments: str | int | None) -> None:
    classifier = Classifier(TABLES)
    expected = TABLES.row_of(dict(zip(NAMES, (authority, judgments), strict=True)))
    assert [classifier((authority, judgments)) for _ in range(2)] == [expected] * 2


def test_a_vector_that_no_row_has_is_an_error() -> None:
    tables = Tables(TABLES.groups, TABLES.attributes, TABLES.rows, {0b11: 2}, ())
    assert Classifier(tables)(("crowd", 0)) == ERROR_ROW


def test_numbers_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classify, "REMEMBERED", 2)
    classifier = Classifier(TABLES)
    found = [classifier(("board", count * 1_000_000)) for count in (*range(10), *range(10))]
    assert found == ([1] * 3 + [2] * 7) * 2
    assert len(classifier._maps[1]) == 2
