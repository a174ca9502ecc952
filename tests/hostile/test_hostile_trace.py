"""A log that is signed correctly and lies: the audit names the first step and example that differ."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.gating import budget, tables
from support.tracing import AUTHOR, KEYRING, LOG, Story, train, write_manifest

from aqpolicy.errors import AqpolicyError, CorruptLogError
from aqpolicy.lineage import NO_INDEX, LineageReader, LineageWriter, StepBlock
from aqpolicy.trace import audit_run, open_run
from aqpolicy.trust import Keyring, SigningKey

TABLE = tables(
    [[1.0, 1.0], [0.5, 0.0], [0.0, 0.0]],
    norms=[[None, 0.05], [None, None], [None, None]],
    budgets=[budget("b", (0, 1), per_update=300_000, per_epoch=3_000_000, on_exhaust="attenuate")],
)
OWNERS = {f"{1 + number % 3}-{number}": f"reader{number % 4}" for number in range(10)}
STORY = Story(OWNERS, TABLE, refused=["1-3"], extra=["9-stranger"])
MICRO = 1_000_000


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("honest"), STORY)


def relog(run: Path, folder: Path, change: Callable[[list[StepBlock]], None]) -> Path:
    """Return a copy of a run whose log says something else, under the log's own key."""
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("lineage", "head.note"))
    with LineageReader(run, KEYRING) as reader:
        genesis, blocks, models = reader.genesis, list(reader.steps()), reader.models
    change(blocks)
    names = ("groups", "budgets")
    facts = {name: value for name, value in genesis.items() if name not in names}
    writer = LineageWriter.create(folder, facts, LOG, groups=genesis["groups"], budgets=genesis["budgets"])
    for block in blocks:
        writer.append_step(block)
    body = {name: value for name, value in models[-1].items() if name not in ("model", "step")}
    writer.append_model(len(blocks), bytes.fromhex(models[-1]["model"]), body)
    writer.close()
    return folder


def row_of(step: int, number: int, **fields: object) -> Callable[[list[StepBlock]], None]:
    def change(blocks: list[StepBlock]) -> None:
        rows = list(blocks[step].rows)
        rows[number] = replace(rows[number], **fields)
        blocks[step] = replace(blocks[step], rows=tuple(rows))

    return change


def book_of(step: int, **fields: object) -> Callable[[list[StepBlock]], None]:
    def change(blocks: list[StepBlock]) -> None:
        blocks[step] = replace(blocks[step], book=replace(blocks[step].book, **fields))

    return change


def longer(blocks: list[StepBlock]) -> None:
    """Write ten times as much as was admitted into the sketch of the example in step 1 that is admitted in part."""
    import struct

    rows = list(blocks[1].rows)
    (scale,) = struct.unpack_from("<f", rows[0].sketch)
    rows[0] = replace(rows[0], sketch=struct.pack("<f", scale * 10) + rows[0].sketch[4:])
    blocks[1] = replace(blocks[1], rows=tuple(rows))


LIES = {
    "the table's row": (row_of(0, 1, route=1), "step 0, example `2-1`: row 1 of the mask table was applied"),
    "an unexplained share": (row_of(0, 2, exceptions=((0, 7, MICRO),)), "step 0, example `3-2`: the applied shares"),
    "a reason": (row_of(1, 0, reason_code=5), "step 1, example `2-4`: the reason"),
    "a charge": (row_of(0, 0, charges=(1,)), "step 0, example `1-0`: the charges"),
    "a surprisal": (row_of(0, 0, surprisal=1), "step 0, example `1-0`: the "),
    "an effect": (row_of(0, 2, effect="admit"), "step 0, example `3-2`: the effect and cause"),
    "a cause": (row_of(0, 2, cause="granted"), "step 0, example `3-2`: the effect and cause"),
    "who it was": (row_of(0, 2, example_key=bytes(16)), "step 0, example `3-2`: the example is not that"),
    "that it was unknown": (row_of(0, 2, manifest_index=NO_INDEX), "step 0, example `.unknown"),
    "that it was refused": (row_of(0, 0, reason_code=2), "step 0, example `1-0`: row 1"),
    "what it wrote": (longer, "step 1, example `2-4`: .* was written to group `g0`"),
    "that a closed group stood still": (
        book_of(1, closed=(True, True), movement=(0.5, 0.0)),
        "step 1, book: group `g0` moved although it was closed",
    ),
    "a denominator that is too large": (book_of(1, denominator=400.0), "was written to group"),
    "a row beyond the tables": (row_of(1, 1, route=99), "step 1, row 1: the row points outside"),
    "an observation beyond the manifest": (row_of(1, 1, manifest_index=12_345), "step 1, row 1: the row points"),
    "the epoch": (lambda blocks: blocks.__setitem__(4, replace(blocks[4], epoch=0)), "entry 7: the epochs go back"),
    "a sketch of another length": (row_of(1, 0, sketch=b"abc"), "step 1, example `2-4`: a sketch of 3 bytes"),
}


def test_an_honest_log_passes_and_is_counted(honest: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = audit_run(honest, KEYRING, lambda *at: seen.append(at))
    assert (report.steps, report.rows, report.examples, report.epochs) == (6, 22, 11, 2)
    assert report.exceptions["refused example"] == 2
    assert report.exceptions["unknown example"] == 2
    assert report.largest_epoch["b"] <= 3_000_000
    assert seen[-1] == (6, 6)
    assert len(list(report.lines())) == 5


def test_the_same_log_written_again_passes_too(honest: Path, tmp_path: Path) -> None:
    assert audit_run(relog(honest, tmp_path / "copy", lambda _: None), KEYRING).rows == 22


def test_a_denominator_that_is_not_the_number_of_examples_is_told(honest: Path, tmp_path: Path) -> None:
    report = audit_run(relog(honest, tmp_path / "given", book_of(2, denominator=1.0)), KEYRING)
    assert report.denominators == 1
    assert "the denominator of 1 steps" in "\n".join(report.lines())


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_a_lie_is_located(honest: Path, tmp_path: Path, lie: str) -> None:
    change, message = LIES[lie]
    with pytest.raises(CorruptLogError, match=message):
        audit_run(relog(honest, tmp_path / "lie", change), KEYRING)


def test_a_step_left_out_is_noticed_by_its_budget_or_its_book(honest: Path, tmp_path: Path) -> None:
    def drop(blocks: list[StepBlock]) -> None:
        blocks[:] = [replace(block, step=at) for at, block in enumerate(blocks[1:])]

    from aqpolicy.errors import TraceError
    from aqpolicy.trace.visits import close_books, load_ending, load_visits, refuse_open_books

    run = open_run(relog(honest, tmp_path / "short", drop), KEYRING)
    visits = load_visits(run)
    with pytest.raises(TraceError, match="does not close"):
        refuse_open_books(close_books(visits, load_ending(visits)))


def test_another_manifest_is_not_that_of_the_log(honest: Path, tmp_path: Path) -> None:
    shutil.copytree(honest, tmp_path / "run")
    write_manifest(tmp_path / "run" / "manifest.aqm", STORY)
    with pytest.raises(CorruptLogError, match="was not written with this `manifest`"):
        audit_run(tmp_path / "run", KEYRING)


def test_another_model_is_not_the_published_one(honest: Path, tmp_path: Path) -> None:
    shutil.copytree(honest, tmp_path / "run")
    with (tmp_path / "run" / "model.pt").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(CorruptLogError, match="not the one that the log published"):
        audit_run(tmp_path / "run", KEYRING)


@pytest.mark.parametrize("role", ["log", "policy-author", "manifest-issuer"])
def test_every_signature_is_asked_for(honest: Path, role: str) -> None:
    stranger = SigningKey.generate("stranger").verify_key
    roles = {name: KEYRING.keys(name) for name in ("log", "policy-author", "manifest-issuer")}
    with pytest.raises(AqpolicyError):
        audit_run(honest, Keyring({**roles, role: (stranger,)}))
    assert AUTHOR.verify_key in KEYRING.keys("policy-author")


@pytest.mark.parametrize("name", ["bundle.aqb", "manifest.aqm", "head.note", "lineage/data.mdb", "model.pt"])
def test_a_flipped_byte_anywhere_raises_one_of_our_errors(honest: Path, tmp_path: Path, name: str) -> None:
    data = (honest / name).read_bytes()
    for at in (len(data) // 3, len(data) // 2):
        folder = tmp_path / f"at{at}"
        shutil.copytree(honest, folder)
        (folder / name).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        if name == "lineage/data.mdb":
            # A page that no record uses is nobody's evidence; anything that is read is compared.
            try:
                audit_run(folder, KEYRING)
            except AqpolicyError:
                continue
        else:
            with pytest.raises(AqpolicyError):
                audit_run(folder, KEYRING)
