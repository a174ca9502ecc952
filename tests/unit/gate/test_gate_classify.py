"""Whole columns are classified as single observations are, however far out their values lie."""

from __future__ import annotations

import pytest
import torch

from aqpolicy.bundle import ERROR_ROW, NO_LIMIT, AttributeTable, Row, Tables
from aqpolicy.errors import BundleError, InternalError
from aqpolicy.gate.accounts import classify
from aqpolicy.gate.accounts.classify import BatchClassifier

ERROR = Row("deny", "error", (0,), (NO_LIMIT,), (), (), "an attribute is missing")
FAR = [-(2**63), -(2**62), -(10**15), -1, 0, 1, 10**15, 2**62, 2**63 - 1]


def tables(*attributes: AttributeTable) -> Tables:
    """Return tables with a row for each combination of intervals; vectors hold a bit per interval."""
    bits = sorted({0} | {vector for table in attributes for vector in table.vectors})
    return Tables(("head",), attributes, (ERROR,) * (len(bits) + 1), {bit: n + 1 for n, bit in enumerate(bits)}, ())


def numeric(name: str, breaks: tuple[int, ...], high: int, step: int = 1) -> AttributeTable:
    vectors = tuple(1 << n for n in range(len(breaks)))
    return AttributeTable(name, "numeric", (), breaks, high, step, vectors)


@pytest.mark.parametrize(
    "table",
    [
        numeric("dense", tuple(range(50)), 49),
        numeric("wide", (0, 1, 2, 499_999, 500_000, 500_001, 2**52), 2**53 - 1),
        numeric("negative", (-5_000_000, -4_999_999, -1, 0), 10),
        numeric("whole", (0, 3_000_000, 7_000_000), 50_000_000, 1_000_000),
        numeric("days", (0, 20_000_000_000, 20_001_000_000), 2_932_896_000_000, 1_000_000),
        numeric("single", (7,), 7),
        AttributeTable("category", "category", tuple("abc"), (), 0, 1, (1, 2, 4)),
    ],
    ids=lambda table: table.name,
)
def test_every_value_finds_its_interval(table: AttributeTable) -> None:
    made = tables(table)
    ends = [*table.breaks, table.high] if table.breaks else list(range(len(table.values)))
    values = [value + off for value in ends for off in (-table.step, -1, 0, 1, table.step)] + FAR
    column = torch.tensor(values)
    names = [table.values[v] if 0 <= v < len(table.values) else None for v in values] if table.values else values
    assert BatchClassifier(made)([column]).tolist() == [made.row_of({table.name: name}) for name in names]


def test_one_bad_value_loses_the_example() -> None:
    both = AttributeTable("a", "category", ("x", "y"), (), 0, 1, (1, 3)), numeric("b", (0, 5), 9)
    made = tables(*both)
    columns = [torch.tensor([0, 1, -1, 1, 2]), torch.tensor([0, 0, 0, 10, 0])]
    rows = BatchClassifier(made)(columns).tolist()
    assert rows == [made.row_of({"a": "x", "b": 0}), made.row_of({"a": "y", "b": 0}), *[ERROR_ROW] * 3]
    assert ERROR_ROW not in rows[:2]


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tables(numeric("b", (0, 5), 9))
    column = torch.arange(-3, 14)
    whole = BatchClassifier(made)([column])
    monkeypatch.setattr(classify, "BLOCK", 4)
    assert torch.equal(BatchClassifier(made)([column]), whole)


def test_a_machine_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classify, "LARGEST_MACHINE", 10)
    with pytest.raises(BundleError, match="too many kinds of observation apart at attribute `b`"):
        BatchClassifier(tables(numeric("a", (0, 5), 9), numeric("b", (0, 5), 9)))


def test_attributes_are_worked_off_one_after_the_other() -> None:
    both = AttributeTable("a", "category", ("x", "y"), (), 0, 1, (1, 3)), numeric("b", (-5, 0, 5), 9, 1)
    made, columns = tables(*both), [torch.tensor([0, 1, -1, 1, 2]), torch.tensor([0, 0, 0, 10, 0])]
    classifier = BatchClassifier(made)
    for done in range(3):
        state = classifier.begin(columns[:done], 5)
        for position in range(done, 2):
            state = classifier.advance(position, state, columns[position])
        assert torch.equal(state, classifier(columns))


@pytest.mark.parametrize("step", [1, 5])
def test_one_value_for_all_examples_is_classified_as_a_column_of_it(step: int) -> None:
    classifier = BatchClassifier(tables(numeric("b", (-5, 0, 5), 10, step)))
    start = classifier.begin([], 2)
    for value in [*range(-12, 17), *FAR]:
        column = torch.full((2,), value)
        assert torch.equal(classifier.advance(0, start, value), classifier([column]))


def test_there_must_be_one_column_per_attribute() -> None:
    classifier = BatchClassifier(tables(numeric("a", (0, 5), 9), numeric("b", (0, 5), 9)))
    with pytest.raises(InternalError, match="1 columns are given for 2 attributes"):
        classifier([torch.tensor([1])])
