"""`aqpolicy log find`: from examples, annotators, rules and depth groups to steps, and from a step to its rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.bundles import ALICE, compiled
from support.lineage_runs import GENESIS, KEY, KEYRING, block, edit, row
from support.trials import CLINIC

from aqpolicy.bundle import load_bundle
from aqpolicy.cli.main import main
from aqpolicy.lineage import LineageReader, LineageWriter
from aqpolicy.lineage.record import ACCOUNTS
from aqpolicy.lineage.store import run_key
from aqpolicy.provenance import (
    Credential,
    Field,
    Observation,
    Session,
    encode_manifest,
    example_digest,
    label_digest,
    load_manifest,
)
from aqpolicy.trust import SigningKey, digest_text, example_key

READERS = [SigningKey.from_seed(f"reader-{number}", bytes([number]) * 32) for number in (1, 2)]
ISSUER = SigningKey.from_seed("issuer", bytes([8]) * 32)
TRUSTED = KEYRING.with_key("manifest-issuer", ISSUER.verify_key).with_key("policy-author", ALICE.verify_key)
for reader in READERS:
    TRUSTED = TRUSTED.with_key("annotator", reader.verify_key)


ROUTES = (5, 7)
"""Rows of the mask table: rules `hint` and `gentle` decide the first one, rule `truth` the second one."""


def session(reader: SigningKey, names: list[str]) -> Session:
    observations = [
        Observation(name, example_digest(name.encode()), label_digest(name, b"yes"), reader.name, 1_700_000_000, {})
        for name in names
    ]
    return Session(Credential(reader.name, reader.verify_key.text, f"dr-{reader.name}"), reader, observations)


def take_step(writer: LineageWriter, groups: tuple[str, ...], first: int) -> None:
    """Log a step of four rows, those from `first` on; row n is of example e(n % 8), its route ROUTES[n % 2]."""
    step, wide = writer.steps, (1.0,) * len(groups)
    columns = dict.fromkeys(("residual", "proposed", "factors", "drift", "clip", *ACCOUNTS), wide)
    rows = [
        replace(row(n % 8), route=ROUTES[n % 2], norms=(float(n + 1), *wide[1:]), exceptions=())
        for n in range(first, first + 4)
    ]
    movement = (float(step % 2), *wide[1:])
    book = replace(block(step).book, movement=movement, closed=(False,) * len(groups), **columns)
    writer.append_step(replace(block(step), attempt=writer.attempt, phase="", stage="", rows=tuple(rows), book=book))


@pytest.fixture
def begun(tmp_path: Path) -> tuple[LineageWriter, tuple[str, ...]]:
    """Return a run with its bundle and manifest, before the first step, and its depth groups."""
    folder = tmp_path / "run"
    bundle = load_bundle(compiled(tmp_path), TRUSTED)
    sessions = [session(READERS[0], ["e0", "e1"]), session(READERS[1], ["e2"]), session(READERS[0], ["e3", "e4", "e5"])]
    schema = (Field("tier", "category", ("hint", "gold")),)
    (tmp_path / "labels.aqm").write_bytes(encode_manifest("pilot", "lidc@1", schema, sessions, ISSUER))
    root = load_manifest(tmp_path / "labels.aqm", TRUSTED).root
    groups = bundle.tables.groups
    said = {"bundle": digest_text(bundle.digest), "manifest_root": digest_text(root), "phases": [], "stages": []}
    facts = {**GENESIS, **said, "seal_every": 2}
    writer = LineageWriter.create(folder, facts, KEY, groups=groups, budgets=("everything",))
    (tmp_path / "labels.aqm").rename(folder / "manifest.aqm")
    (tmp_path / "clinic.aqb").rename(folder / "bundle.aqb")
    TRUSTED.save(tmp_path / "trusted.json")
    return writer, groups


@pytest.fixture
def run(begun: tuple[LineageWriter, tuple[str, ...]], tmp_path: Path) -> Path:
    """Return a run of five steps of four rows."""
    writer, groups = begun
    for step in range(5):
        take_step(writer, groups, 4 * step)
    writer.close()
    return tmp_path / "run"


@pytest.fixture
def back(begun: tuple[LineageWriter, tuple[str, ...]], tmp_path: Path) -> Path:
    """Return a run that went back to its model of three steps, and took two steps again with the rows after theirs."""
    writer, groups = begun
    for step in range(3):
        take_step(writer, groups, 4 * step)
    model = writer.append_model(3, bytes(32), {})
    for step in (3, 4):
        take_step(writer, groups, 4 * step)
    writer.barrier()
    writer.abandon()
    writer = LineageWriter.resume(tmp_path / "run", KEY, TRUSTED, entry=model, reason="the machine stopped")
    for step in (3, 4):
        take_step(writer, groups, 4 * (step + 1))
    writer.close()
    return tmp_path / "run"


def find(run: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[Any]:
    """Return what is found, as JSON has it."""
    capsys.readouterr()
    assert main(["log", "find", str(run), "--keyring", str(run.parent / "trusted.json"), "--json", *words]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def refused(run: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["log", "find", str(run), "--keyring", str(run.parent / "trusted.json"), *words]) == 2
    return capsys.readouterr().err


def test_an_example_is_found_in_all_its_steps(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = find(run, capsys, "--example", "e5")
    assert [(visit["step"], visit["attempt"], visit["rank"], visit["row"]) for visit in found] == [
        (1, 0, 0, 1),
        (3, 0, 0, 1),
    ]
    assert find(run, capsys, "--example", "e9") == []


def test_an_example_is_found_by_its_key(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert find(run, capsys, "--key", example_key("e5").hex()) == find(run, capsys, "--example", "e5")


def test_a_person_reads_places_rows_and_a_sum(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keyring = str(run.parent / "trusted.json")
    assert main(["log", "find", str(run), "--keyring", keyring, "--example", "e5", "--rows"]) == 0
    *lines, total = capsys.readouterr().out.splitlines()
    assert total == "2 visits in 2 steps"
    assert lines[1].startswith("step 3 attempt 0 entry ")
    assert f"rank 0 row 1  {example_key('e5').hex()} admit" in lines[1]


def test_rows_say_what_the_log_says(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (_, found) = find(run, capsys, "--example", "e5", "--rows")
    assert found["says"]["example"] == example_key("e5").hex()
    assert found["says"]["norms"]["surface"] == 14.0


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        (["--session", "1"], {0: 1, 2: 1, 4: 1}),
        (["--session", "2"], {0: 1, 1: 2, 2: 1, 3: 2, 4: 1}),
        (["--annotator", "reader-1"], {0: 3, 1: 2, 2: 3, 3: 2, 4: 3}),
        (["--annotator", "reader-2"], {0: 1, 2: 1, 4: 1}),
        (["--annotator", "dr-reader-1"], {0: 3, 1: 2, 2: 3, 3: 2, 4: 3}),
    ],
)
def test_labels_are_found_by_session_and_by_annotator(
    run: Path, capsys: pytest.CaptureFixture[str], words: list[str], steps: dict[int, int]
) -> None:
    assert {step["step"]: step["visits"] for step in find(run, capsys, *words)} == steps


@pytest.mark.parametrize(("name", "visits"), [("hint", 2), ("gentle", 2), ("truth", 2), ("rejected", 0)])
def test_a_rule_is_found_where_it_decided(
    run: Path, capsys: pytest.CaptureFixture[str], name: str, visits: int
) -> None:
    tables = load_bundle(run / "bundle.aqb", TRUSTED).tables
    assert visits == 2 * sum(name in tables.rows[route].rules for route in ROUTES)
    found = find(run, capsys, "--rule", name)
    assert [(step["step"], step["visits"]) for step in found] == [(step, visits) for step in range(5) if visits]


def test_a_row_of_the_mask_table_is_found_where_it_was_used(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [(step["step"], step["visits"]) for step in find(run, capsys, "--route", "7")] == [(n, 2) for n in range(5)]
    assert find(run, capsys, "--route", "2") == []


ALL = {
    ("--example", "e5"): ([(1, 0), (4, 1)], [(1, 0), (3, 0), (4, 1)]),
    ("--session", "1"): ([(0, 0), (2, 0), (3, 1)], [(0, 0), (2, 0), (4, 0), (3, 1)]),
    ("--route", "5"): (
        [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1)],
        [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (3, 1), (4, 1)],
    ),
    ("--rule", "hint"): (
        [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1)],
        [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (3, 1), (4, 1)],
    ),
    ("--group", "surface"): ([(1, 0), (3, 1)], [(1, 0), (3, 0), (3, 1)]),
    ("--group", "surface", "--top", "5"): ([(4, 1)] * 4 + [(3, 1)], [(4, 1)] * 4 + [(4, 0)]),
    ("--step", "3"): ([(3, 1)] * 4, [(3, 0)] * 4 + [(3, 1)] * 4),
}
"""Per question the steps that count, with their attempts, and those with the superseded ones."""


@pytest.mark.parametrize("words", ALL)
def test_steps_that_were_taken_again_are_left_out_unless_asked_for(
    back: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    counts, all_of_them = ALL[words]
    assert [(found["step"], found["attempt"]) for found in find(back, capsys, *words)] == counts
    assert [(found["step"], found["attempt"]) for found in find(back, capsys, *words, "--superseded")] == all_of_them


@pytest.mark.parametrize("name", [f"e{number}" for number in range(9)])
@pytest.mark.parametrize("written", ["run", "back"])
def test_the_rows_of_an_example_are_those_that_the_log_shows(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], written: str, name: str
) -> None:
    folder = request.getfixturevalue(written)
    found = [
        {"step": visit["step"], "attempt": visit["attempt"], **visit["says"]}
        for visit in find(folder, capsys, "--example", name, "--rows")
    ]
    assert main(
        ["log", "show", str(folder), "--keyring", str(folder.parent / "trusted.json"), "--json", "--example", name]
    ) == (0 if found else 2)
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found == [{part: value for part, value in row.items() if part != "epoch"} for row in shown]


def test_a_run_that_did_not_end_is_searched_to_its_last_step(
    begun: tuple[LineageWriter, tuple[str, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer, groups = begun
    for step in range(3):
        take_step(writer, groups, 4 * step)
    writer.barrier()
    writer.abandon()
    *_, last, sealed, rest = find(tmp_path / "run", capsys, "--example", "e1", "--evidence")
    assert last["step"] == 2
    assert sealed["evidence"]["seal"] > 0 > rest["evidence"]["seal"]


def test_a_group_is_found_where_it_moved(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [step["step"] for step in find(run, capsys, "--group", "surface")] == [1, 3]
    assert len(find(run, capsys, "--group", "head")) == 5


def test_the_largest_visits_of_a_group_are_found(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = find(run, capsys, "--group", "surface", "--top", "2")
    assert (first["mass"], first["step"], first["row"], first["example"]) == (20.0, 4, 3, example_key("e3").hex())
    assert second["mass"] == 19.0


def test_the_rows_of_a_step_are_found(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [visit["row"] for visit in find(run, capsys, "--step", "2")] == [0, 1, 2, 3]


def test_evidence_names_the_seal_and_the_records(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, _, *present = find(run, capsys, "--example", "e5", "--evidence")
    absent = find(run, capsys, "--example", "e9", "--evidence")
    assert [found["evidence"]["end"] - found["evidence"]["start"] for found in present] == [1, 1, 0]
    assert [found["evidence"]["end"] - found["evidence"]["start"] for found in absent] == [0, 0, 0]
    seals = [found["evidence"]["seal"] for found in absent]
    assert seals == [found["evidence"]["seal"] for found in present] == sorted(set(seals))
    assert (
        main(["log", "find", str(run), "--example", "e9", "--evidence", "--keyring", str(run.parent / "trusted.json")])
        == 0
    )
    assert "no record, the gap is before record" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--session", "3"], "has 3 sessions"),
        (["--annotator", "reader-9"], "no labels of a credential or holder `reader-9`"),
        (
            ["--rule", "nobody"],
            "no row of the run's mask table was decided by a rule `nobody`; there are gentle, hint,",
        ),
        (["--route", "99"], "rows, counted from 0"),
        (["--route", "-1"], "rows, counted from 0"),
        (["--step", "5"], "the log has no step 5"),
        (["--step", "-1"], "the log has no step -1"),
        (["--group", "surface", "--rows"], "--rows goes with"),
        (["--group", "surface", "--evidence"], "--evidence goes with"),
        (["--group", "z"], "no depth group `z`"),
        (["--example", "e5", "--top", "3"], "goes with --group"),
        (["--group", "surface", "--top", "0"], "a number from 1 on"),
    ],
)
def test_what_the_run_does_not_have_is_said(
    run: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert says in refused(run, capsys, *words)


@pytest.mark.parametrize("key", ["", "e5", "00" * 15, "zz" * 16, "00" * 17])
def test_what_is_no_key_is_refused(run: Path, capsys: pytest.CaptureFixture[str], key: str) -> None:
    with pytest.raises(SystemExit):
        main(["log", "find", str(run), "--key", key])
    assert "invalid example key of 32 hexadecimal digits value" in capsys.readouterr().err


def test_a_manifest_or_bundle_of_another_run_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = encode_manifest("pilot", "lidc@1", (), [session(READERS[0], ["e7"])], ISSUER)
    (run / "manifest.aqm").write_bytes(other)
    assert "not the one that the steps of the run were taken under" in refused(run, capsys, "--session", "0")
    (tmp_path / "other").mkdir()
    bundle = compiled(tmp_path / "other", CLINIC.replace("Only a hint", "No more than a hint"))
    (run / "bundle.aqb").write_bytes(Path(bundle).read_bytes())
    assert "not the one that the steps of the run were taken under" in refused(run, capsys, "--route", "0")


def test_steps_under_another_manifest_are_not_looked_at_and_that_is_said(
    begun: tuple[LineageWriter, tuple[str, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer, groups = begun
    take_step(writer, groups, 0)
    writer.append_manifest(b"n" * 32, bytes(32))
    take_step(writer, groups, 0)
    writer.close()
    run, keyring = tmp_path / "run", str(tmp_path / "trusted.json")
    assert main(["log", "find", str(run), "--keyring", keyring, "--session", "0"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == "2 visits in 1 steps"
    assert "some steps were taken under another one than `manifest.aqm`" in said.err


def test_a_visit_that_a_changed_index_hides_is_not_missed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LineageReader(run, TRUSTED) as log:
        seal = next(log.seals())
    edit(run, b"run", run_key(seal, "example"), lambda data: data[:-1] + b"\1")
    assert "the run `example` is not the one that was sealed" in refused(run, capsys, "--example", "e5")
