"""A training that stopped and went on, exported: DuckDB finds what the log says, and any row it gives is proved."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.resuming import KEYRING, NAMES, STEPS, begin, go_on, make_net, write_inputs

from aqpolicy.cli.main import main
from aqpolicy.lineage import LineageReader
from aqpolicy.lineage.proof import decode_row_proof
from aqpolicy.lineage.proved import Checker
from aqpolicy.lineage.stats import collect
from aqpolicy.trace import open_run
from aqpolicy.trust import example_key

pytest.importorskip("pyarrow")
duckdb = pytest.importorskip("duckdb")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run of which three steps were superseded, and with its export."""
    folder = tmp_path_factory.mktemp("training")
    write_inputs(folder)
    torch.manual_seed(5)
    net = make_net()
    gate = begin(folder, net)
    go_on(gate, net, 10)
    gate.checkpoint("here")
    go_on(gate, net, 13)
    gate.machinery.recorder.log.abandon()
    gate.detach()
    net = make_net()
    gate = begin(folder, net, resume="here")
    go_on(gate, net, STEPS)
    gate.close()
    for name, more in (("plain", ()), ("named", ("--superseded", "--manifest", str(folder / "labels.aqm")))):
        assert main(["log", "export", *run_of(folder), "--parquet", str(folder / name), *more]) == 0
    return folder


def run_of(folder: Path) -> list[str]:
    return [str(folder / "run"), "--keyring", str(folder / "keyring.json")]


def ask(folder: Path, question: str) -> list[dict[str, Any]]:
    """Ask DuckDB; in the question, `rows` is the export."""
    files = str(folder / "*.parquet").replace("'", "''")
    found = duckdb.sql(f"WITH rows AS (SELECT * FROM read_parquet('{files}')) {question}")
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def test_counts_and_charges_are_those_of_the_log(folder: Path) -> None:
    with LineageReader(folder / "run", KEYRING) as reader:
        stats = collect(reader)
        groups = reader.genesis["groups"]
    sums = ", ".join(f'sum("charge_{name}")::BIGINT AS "{name}"' for name in stats.charges)
    (found,) = ask(folder / "plain", f"SELECT count(*) n, count(DISTINCT step) steps, {sums} FROM rows")
    assert (found.pop("n"), found.pop("steps")) == (stats.rows, stats.steps)
    assert found == stats.charges
    effects = ask(folder / "plain", "SELECT effect, count(*) n FROM rows GROUP BY effect")
    assert {row["effect"]: row["n"] for row in effects} == stats.effects
    lowered = sum(ask(folder / "plain", f'SELECT count("lowered_{name}") n FROM rows')[0]["n"] for name in groups)
    assert lowered == sum(stats.exceptions.values()) > 0


def test_shares_and_norms_are_those_that_a_trace_sees(folder: Path) -> None:
    run = open_run(folder / "run", KEYRING)
    groups = run.tables.groups
    shares = {
        (block.step, row.example_key): (*run.applied(row), *row.norms) for block in run.blocks for row in block.rows
    }
    columns = ", ".join(f'"{kind}_{name}"' for kind in ("share", "norm") for name in groups)
    found = ask(folder / "plain", f"SELECT step, example, {columns} FROM rows")
    assert {(row.pop("step"), row.pop("example")): tuple(row.values()) for row in found} == shares


def test_names_are_there_only_where_the_manifest_was_given(folder: Path) -> None:
    names = "SELECT DISTINCT example, example_id, credential, session FROM rows"
    assert {tuple(row.values())[1:] for row in ask(folder / "plain", names)} == {(None, None, None)}
    keys = {example_key(name): name for name in NAMES}
    found = ask(folder / "named", names)
    assert found
    assert [row["example_id"] for row in found] == [keys[row["example"]] for row in found]
    assert {(row["credential"], row["session"]) for row in found} == {("reader", 0)}


def test_superseded_rows_are_there_only_where_they_were_asked_for(folder: Path) -> None:
    steps = "SELECT DISTINCT superseded, step, attempt FROM rows ORDER BY attempt, step"
    counting = [(False, step, int(step >= 10)) for step in range(STEPS)]
    assert [tuple(row.values()) for row in ask(folder / "plain", steps)] == counting
    lost = [(True, step, 0) for step in (10, 11, 12)]
    assert [tuple(row.values()) for row in ask(folder / "named", steps)] == counting[:10] + lost + counting[10:]


def test_every_row_that_duckdb_gives_is_proved_by_its_columns(folder: Path, tmp_path: Path) -> None:
    found = ask(folder / "named", "SELECT * FROM rows WHERE step IN (0, 11) ORDER BY entry, position")
    assert {row["superseded"] for row in found} == {False, True}
    proofs = []
    for number, row in enumerate(found):
        proofs.append(str(tmp_path / f"{number}.aqproof"))
        place = ["--attempt", str(row["attempt"]), "--step", str(row["step"])]
        words = [*place, "--row", f"{row['rank']}:{row['position']}", "--out", proofs[-1]]
        assert main(["log", "prove", *run_of(folder), *words]) == 0
    for file, row in zip(proofs, found, strict=True):
        assert main(["log", "check-proof", file, "--keyring", str(folder / "keyring.json")]) == 0
        facts = proved(Path(file))
        assert facts == {name: row[name] for name in facts}


def proved(file: Path) -> dict[str, Any]:
    """Return what a proof shows, in the columns of the export."""
    shown = Checker(KEYRING.keys("log")).check(decode_row_proof(file.read_bytes()))
    row, names = shown.row, shown.names
    return {
        "entry": shown.index,
        "attempt": shown.entry.attempt,
        "step": shown.entry.step,
        "rank": shown.rank,
        "position": shown.position,
        "superseded": shown.superseded_by is not None,
        "example": row.example_key,
        "route": row.route,
        "effect": row.effect,
        "cause": row.cause,
        "surprisal": row.surprisal,
        **{f"norm_{name}": norm for name, norm in zip(names.groups, row.norms, strict=True)},
        **{f"charge_{name}": charge for name, charge in zip(names.budgets, row.charges, strict=True)},
        **{f"share_{names.groups[group]}": share for group, _, share in row.exceptions},
    }


def test_a_named_row_is_proved_by_its_name(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = ask(folder / "named", "SELECT example_id, step FROM rows WHERE NOT superseded AND step = 17 LIMIT 1")
    words = ["--example", row["example_id"], "--step", str(row["step"]), "--manifest", str(folder / "labels.aqm")]
    assert main(["log", "prove", *run_of(folder), *words, "--out", str(tmp_path / "p.aqproof")]) == 0
    assert main(["log", "check-proof", str(tmp_path / "p.aqproof"), "--keyring", str(folder / "keyring.json")]) == 0
    assert "under credential reader" in capsys.readouterr().out


def test_two_processes_write_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    for seed in ("1", "2"):
        words = ["--parquet", str(tmp_path / seed), "--superseded", "--manifest", str(folder / "labels.aqm")]
        subprocess.run(
            [sys.executable, "-m", "aqpolicy", "log", "export", *run_of(folder), *words],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        )
    one, two, named = (
        {file.name: file.read_bytes() for file in place.iterdir()}
        for place in (tmp_path / "1", tmp_path / "2", folder / "named")
    )
    assert one == two == named


def test_a_row_that_was_taken_out_is_proved_without_the_run(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder / "run", tmp_path / "run"))
    (row,) = ask(folder / "plain", "SELECT * FROM rows WHERE step = 3 ORDER BY position LIMIT 1")
    words = ["--step", "3", "--row", f"{row['rank']}:{row['position']}", "--out", str(tmp_path / "p.aqproof")]
    assert main(["log", "prove", str(copy), "--keyring", str(folder / "keyring.json"), *words]) == 0
    shutil.rmtree(copy)
    assert main(["log", "check-proof", str(tmp_path / "p.aqproof"), "--keyring", str(folder / "keyring.json")]) == 0
    assert NAMES[0].encode() not in (tmp_path / "p.aqproof").read_bytes()
    assert proved(tmp_path / "p.aqproof")["example"] == row["example"]


def test_the_questions_of_the_documentation_are_answered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "formats" / "export.md"
    questions = re.findall(r"```sql\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    monkeypatch.chdir(folder)
    (folder / "rows").symlink_to("named")
    for question in questions:
        asked = question.replace("semantic", "g0").replace("everything", "all")
        assert duckdb.sql(asked).fetchall()
    assert len(questions) == 3


def test_the_documentation_names_all_columns(folder: Path) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "formats" / "export.md"
    told = [
        name
        for line in page.read_text(encoding="utf-8").split("| column |")[1].splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    ]
    columns = [re.sub(r"_g[01]$", "_GROUP", re.sub(r"_(early|all)$", "_BUDGET", name)) for name in columns_of(folder)]
    assert list(dict.fromkeys(columns)) == told


def columns_of(folder: Path) -> list[str]:
    return list(ask(folder / "plain", "SELECT * FROM rows LIMIT 1")[0])
