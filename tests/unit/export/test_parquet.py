"""Parquet: every row of the log, as the log has it; what is not at hand is empty; memory is that of a row group."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from support.indexed_logs import BUNDLES, ROOTS, IndexedRun, random_log
from support.lineage_runs import GENESIS, KEY, KEYRING, block, row, write_run
from support.proof_logs import ProofLog

from aqpolicy.errors import CorruptLogError, InputError
from aqpolicy.lineage import NO_SURPRISAL, LineageWriter, verify_log
from aqpolicy.lineage.record import NO_ENTROPY, NO_INDEX
from aqpolicy.trust import open_checkpoint

pq = pytest.importorskip("pyarrow.parquet")

from support.exported import derived, export, read  # noqa: E402  # it needs pyarrow

from aqpolicy.export import parquet  # noqa: E402  # likewise
from aqpolicy.export.source import open_verified  # noqa: E402  # likewise

TABLE = [((1_000_000, 500_000), ("first",)), ((750_000, 0), ("second", "third"))]
"""Shares and rules by route."""


def bundle(digest: bytes = BUNDLES[0], rows: Any = TABLE) -> Any:
    tables = SimpleNamespace(rows=[SimpleNamespace(shares=shares, rules=rules) for shares, rules in rows])
    return SimpleNamespace(digest=digest, policy_name="clinic", tables=tables)


class NamedExamples:
    """A manifest of examples `e0`, `e1` and so on, in sessions of two, each signed by another annotator."""

    def __init__(self, size: int, root: bytes = ROOTS[0]) -> None:
        self.root, self._size, self.sessions = root, size, -(-size // 2)

    def __len__(self) -> int:
        return self._size

    def example_id(self, index: int) -> str:
        return f"e{index}"

    def session_labels(self, session: int) -> range:
        return range(2 * session, min(2 * session + 2, self._size))

    def session_credential(self, session: int) -> Any:
        return SimpleNamespace(id=f"reader-{session}")


@pytest.mark.parametrize("seed", range(16))
@pytest.mark.parametrize("superseded", [False, True])
def test_rows_are_those_of_the_log(tmp_path: Path, seed: int, superseded: bool) -> None:
    run = random_log(Random(seed), tmp_path / "run")
    written = export(run, tmp_path / "out", superseded=superseded)
    expected = derived(run, superseded=superseded)
    assert read(tmp_path / "out") == expected
    report = verify_log(run, KEYRING)
    assert written.rows == len(expected)
    assert written.steps == report.steps + superseded * report.superseded


def test_what_was_not_measured_is_empty_and_what_is_not_finite_is_infinite(tmp_path: Path) -> None:
    marked = replace(
        row(1), norms=(-1.0, -2.0), surprisal=NO_SURPRISAL, entropy=NO_ENTROPY, manifest_index=NO_INDEX, exceptions=()
    )
    with ProofLog(tmp_path) as log:
        log.step([marked])
        export(log.copy(), tmp_path / "out")
    (found,) = read(tmp_path / "out")
    assert (found["norm_surface"], found["norm_head"]) == (float("inf"), None)
    assert [found[name] for name in ("surprisal", "entropy", "manifest_index")] == [None] * 3


def test_keys_are_in_order_to_their_last_byte_and_rows_of_one_example_as_in_the_log(tmp_path: Path) -> None:
    keys = [bytes(15) + bytes([number]) for number in (200, 3, 3, 127, 128)]
    rows = [replace(row(number), example_key=key) for number, key in enumerate(keys)]
    with ProofLog(tmp_path) as log:
        log.step(rows[2:], rows[:2])
        export(log.copy(), tmp_path / "out")
    places = [(one["example"][15], one["rank"], one["position"]) for one in read(tmp_path / "out")]
    assert places == [(3, 0, 0), (3, 1, 1), (127, 0, 1), (128, 0, 2), (200, 1, 0)]


def test_numbers_of_any_size_fit(tmp_path: Path) -> None:
    huge = replace(row(1), charges=(2**63 + 1,), norms=(2.0**127, 2.0**-149), route=2**32 - 2)
    facts = {**GENESIS, "first_step": 2**53 - 2}
    writer = LineageWriter.create(tmp_path / "run", facts, KEY, groups=("a.b", "Größe 2"), budgets=("all",))
    writer.append_step(replace(block(0), step=2**53 - 2, rows=(huge,), visits=((1,),), time_ns=2**63 + 5))
    writer.close()
    export(tmp_path / "run", tmp_path / "out")
    (found,) = read(tmp_path / "out")
    assert (found["charge_all"], found["step"], found["time_ns"]) == (2**63 + 1, 2**53 - 2, 2**63 + 5)
    assert (found["norm_a.b"], found["norm_Größe 2"], found["route"]) == (2.0**127, 2.0**-149, 2**32 - 2)


def test_a_log_without_rows_tells_its_columns(tmp_path: Path) -> None:
    assert export(write_run(tmp_path / "run", steps=0), tmp_path / "out") == parquet.Written(0, 0, 1)
    file = tmp_path / "out" / "rows-00000.parquet"
    assert pq.read_table(file).num_rows == 0
    assert {"entry", "norm_surface", "charge_all", "share_head", "lowered_head"} < set(pq.read_schema(file).names)


def test_every_file_says_which_log_and_which_head_its_rows_are_from(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=2)
    export(run, tmp_path / "out")
    metadata = pq.read_schema(tmp_path / "out" / "rows-00000.parquet").metadata
    head = open_checkpoint(metadata[b"aqpolicy.checkpoint"], KEYRING.keys("log"))
    assert head == verify_log(run, KEYRING).checkpoint
    assert metadata[b"aqpolicy.origin"].decode() == head.origin
    assert metadata[b"aqpolicy.groups"] == b'["surface", "head"]'


# ---- what explains rows


def test_a_bundle_tells_rules_and_shares_but_for_what_lowered_them(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=2)  # all rows are of route 1; row 1 of each step is lowered in `head`
    export(run, tmp_path / "out", [bundle()])
    found = read(tmp_path / "out")
    assert {one["rule"] for one in found} == {"second, third"}
    lowered = {one["manifest_index"]: one["lowered_head"] for one in found}
    assert lowered == {number: "per update" if number in {1, 5} else None for number in range(8)}
    assert {one["manifest_index"]: one["share_head"] for one in found} == {
        number: 250_000 if number in {1, 5} else 0 for number in range(8)
    }
    assert {(one["share_surface"], one["lowered_surface"]) for one in found} == {(750_000, None)}


def test_a_bundle_explains_only_the_steps_that_name_it(tmp_path: Path) -> None:
    run = IndexedRun(tmp_path / "run")
    run.step([[row(0)]])
    run.writer.append_policy(BUNDLES[1])
    run.step([[row(1)]])
    export(run.stop(), tmp_path / "out", [bundle(BUNDLES[1])])
    assert [one["rule"] for one in read(tmp_path / "out")] == [None, "second, third"]


@pytest.mark.parametrize("rows", [TABLE[:1], [((1, 2, 3), ("first",))] * 2], ids=["routes", "groups"])
def test_rows_that_do_not_fit_their_bundle_are_refused(tmp_path: Path, rows: Any) -> None:
    run = write_run(tmp_path / "run", steps=1)
    with pytest.raises(CorruptLogError, match="do not fit the bundle"):
        export(run, tmp_path / "out", [bundle(rows=rows)])


def test_a_bundle_or_manifest_of_another_run_is_refused_by_name(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=1)
    with pytest.raises(InputError, match=r"never under the bundle `clinic`.* give one of the digest sha256:1111"):
        export(run, tmp_path / "one", [bundle(bytes(32))])
    with pytest.raises(InputError, match=r"never under the manifest .*sha256:00.* give one with the root sha256:22"):
        export(run, tmp_path / "two", [], [NamedExamples(4, bytes(32))])


def test_a_manifest_names_its_own_examples_and_no_others(tmp_path: Path) -> None:
    stranger, moved = replace(row(9), manifest_index=NO_INDEX), replace(row(2), manifest_index=3)
    with ProofLog(tmp_path) as log:
        log.step([row(1), stranger], [moved, row(7), row(3)])
        export(log.copy(), tmp_path / "out", [], [NamedExamples(5)])
    named = {row(number).example_key: number for number in (1, 2, 3, 7, 9)}
    found = {
        named[one["example"]]: (one["example_id"], one["credential"], one["session"]) for one in read(tmp_path / "out")
    }
    assert found == {
        1: ("e1", "reader-0", 0),
        3: ("e3", "reader-1", 1),
        2: (None, None, None),  # the label that it points to is of another example
        7: (None, None, None),  # it points behind the manifest
        9: (None, None, None),
    }


def test_without_a_manifest_no_name_is_in_the_files(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", steps=1)
    export(run, tmp_path / "without")
    export(run, tmp_path / "with", [], [NamedExamples(4)])
    assert {one["example_id"] for one in read(tmp_path / "with")} == {"e0", "e1", "e2", "e3"}
    for column in ("example_id", "credential", "session"):
        assert {one[column] for one in read(tmp_path / "without")} == {None}


# ---- how it is written


@pytest.mark.parametrize("superseded", [False, True])
def test_the_same_log_makes_the_same_bytes(tmp_path: Path, superseded: bool) -> None:
    run = random_log(Random(3), tmp_path / "run")
    for name in ("one", "two"):
        export(run, tmp_path / name, superseded=superseded)
    one, two = ([file.read_bytes() for file in sorted((tmp_path / name).iterdir())] for name in ("one", "two"))
    assert one == two


def test_row_groups_have_some_steps_each_and_files_some_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", steps=40)
    monkeypatch.setattr(parquet, "GROUPS_PER_FILE", 2)
    assert export(run, tmp_path / "out") == parquet.Written(40, 160, 2)
    files = [pq.ParquetFile(file) for file in sorted((tmp_path / "out").iterdir())]
    sizes = [[file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)] for file in files]
    assert sizes == [[64, 64], [32]]
    assert [column.column_index for column in files[0].metadata.row_group(0).sorting_columns] == [2, 14]
    assert read(tmp_path / "out") == derived(run)


def test_no_more_steps_are_held_than_a_row_group_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, held, most = write_run(tmp_path / "run", steps=30), 0, 0
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(parquet, "MOST_CELLS", 12 * (2 + len(parquet.FIXED)))  # three steps of four rows
    write = parquet._Files.write

    def let_go(self: Any, table: Any) -> None:
        nonlocal held
        write(self, table)
        held -= table.num_rows

    monkeypatch.setattr(parquet._Files, "write", let_go)
    with open_verified(run, KEYRING, verify_log(run, KEYRING)) as source:
        leaves = source.reader.rank_leaves

        def hold(*place: Any) -> Any:
            nonlocal held, most
            found = leaves(*place)
            held += len(found) - 1  # the book is no row
            most = max(most, held)
            return found

        monkeypatch.setattr(source.reader, "rank_leaves", hold)
        assert parquet.write_rows(tmp_path / "out", source).rows == 120
    assert (held, most) == (0, 12)
    assert read(tmp_path / "out") == derived(run)


def test_progress_ends_with_all_steps(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    export(write_run(tmp_path / "run", steps=20), tmp_path / "out", progress=lambda *far: told.append(far))
    assert told == [(16, 20), (20, 20)]
