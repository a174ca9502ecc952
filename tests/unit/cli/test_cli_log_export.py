"""`aqpolicy log export`: what it says, what it refuses before anybody waits, and what it leaves behind."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.attacking import rich_run
from support.lineage_runs import KEY, KEYRING, edit, write_run
from support.static_log import StaticLog

from aqpolicy.cli.main import main
from aqpolicy.lineage.store import block_key
from aqpolicy.trust import Keyring, SigningKey

NEEDS_ARROW = pytest.mark.skipif(find_spec("pyarrow") is None, reason="needs pyarrow")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = write_run(tmp_path / "run", steps=3)
    KEYRING.save(tmp_path / "keyring.json")
    return folder


def export(run: Path, *words: object) -> int:
    return main(["log", "export", str(run), "--keyring", str(run.parent / "keyring.json"), *map(str, words)])


def left(run: Path) -> set[str]:
    """Return what lies beside the run."""
    return {path.name for path in run.parent.iterdir()} - {"run", "keyring.json"}


def test_tiles_are_written_and_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(run, "--tiles", tmp_path / "tiles") == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0].endswith("3 steps, 12 rows: every hash as signed")
    origin = (run / "head.note").read_text(encoding="utf-8").splitlines()[0]
    size = int(lines[0].split()[1])
    assert lines[1:] == [f"tiles     {tmp_path / 'tiles'}: {size} entries of {origin}"]
    assert said.err == ""
    log = StaticLog(tmp_path / "tiles", size)
    assert log.head({KEY.name: KEY.verify_key.public}, origin) == (size, log.root())
    assert left(run) == {"tiles"}


@NEEDS_ARROW
def test_parquet_is_written_and_what_it_lacks_is_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(run, "--parquet", tmp_path / "rows") == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"parquet   {tmp_path / 'rows'}: 12 rows of 3 steps in 1 file",
        "note      no bundle: `rule` is empty, and shares are told only where they were lowered",
        "note      no --manifest: examples have their keys and no names",
    ]
    assert left(run) == {"rows"}


@NEEDS_ARROW
def test_superseded_steps_are_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = rich_run(tmp_path / "run")
    KEYRING.save(tmp_path / "keyring.json")
    assert export(run, "--parquet", tmp_path / "plain") == 0
    assert "note      left out: 1 superseded step; --superseded adds the rows" in capsys.readouterr().out
    assert export(run, "--parquet", tmp_path / "all", "--superseded") == 0
    said = capsys.readouterr().out
    assert "left out" not in said
    assert "9 rows of 4 steps" in said


@NEEDS_ARROW
def test_both_are_written_at_once(run: Path, tmp_path: Path) -> None:
    assert export(run, "--parquet", tmp_path / "rows", "--tiles", tmp_path / "tiles") == 0
    assert left(run) == {"rows", "tiles"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say what to write: --tiles FOLDER, --parquet FOLDER, or both"),
        (["--tiles", "{}/out", "--parquet", "{}/out"], "tiles and Parquet cannot lie in one folder; give two"),
        (["--tiles", "{}/out", "--superseded"], "give --parquet FOLDER as well"),
        (["--tiles", "{}/out", "--bundle", "b.aqb"], "give --parquet FOLDER as well"),
        (["--tiles", "{}/out", "--manifest", "m.aqm"], "give --parquet FOLDER as well"),
        (["--tiles", "{}/run"], "run` exists and is not overwritten; choose another name"),
        (["--tiles", "{}/no/out"], "there is no folder `{}/no`; make it first"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_log_is_read(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.setattr("aqpolicy.lineage.verify_log", lambda *_, **__: pytest.fail("it was read"))
    assert export(run, *(word.format(run.parent) for word in words)) == 2
    assert said.format(run.parent) in capsys.readouterr().err
    assert left(run) == set()


def test_without_pyarrow_the_way_to_it_is_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "aqpolicy.export.parquet", raising=False)
    assert export(run, "--parquet", tmp_path / "rows") == 2
    assert "--parquet needs `pyarrow`; run `pip install 'aqpolicy[export]'`" in capsys.readouterr().err
    assert export(run, "--tiles", tmp_path / "tiles") == 0


@pytest.mark.parametrize("kind", ["--tiles", pytest.param("--parquet", marks=NEEDS_ARROW)])
def test_a_damaged_log_is_not_exported(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    edit(run, b"blk", block_key(0, 1), lambda data: data[:-1] + b"\7")
    assert export(run, kind, tmp_path / "out") == 2
    assert "step 1, book: the record is not what was signed" in capsys.readouterr().err
    assert left(run) == set()


def test_a_log_of_strangers_is_not_exported(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Keyring.of([("log", SigningKey.generate("log").verify_key)]).save(tmp_path / "keyring.json")
    assert export(run, "--tiles", tmp_path / "out") == 2
    assert "no trusted key signed" in capsys.readouterr().err
    assert left(run) == set()


@NEEDS_ARROW
@pytest.mark.parametrize("what", ["--bundle", "--manifest"])
def test_what_should_explain_rows_and_cannot_be_read_leaves_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    assert export(run, "--parquet", tmp_path / "rows", "--tiles", tmp_path / "tiles", what, tmp_path / "nothing") == 2
    assert "nothing" in capsys.readouterr().err
    assert left(run) == set()


def test_a_row_that_the_step_does_not_have_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(run), "--keyring", str(tmp_path / "keyring.json"), "--step", "1", "--out", str(tmp_path / "p.aqproof")]
    for place in ("0:4", "1:0", "0:-1"):
        assert main(["log", "prove", *words, "--row", place]) == 2
        assert f"step 1 has no row {place}" in capsys.readouterr().err
    assert main(["log", "prove", *words, "--row", "0:0", "--visit", "1"]) == 2
    assert "--row says which row is meant; leave --visit out" in capsys.readouterr().err
    for text in ("0", "0:0:0", "a:b"):
        with pytest.raises(SystemExit, match="2"):
            main(["log", "prove", *words, "--row", text])
        assert "invalid place RANK:POSITION value" in capsys.readouterr().err
    assert main(["log", "prove", *words, "--row", "0:3"]) == 0
    assert "rank 0, row 3 of it" in capsys.readouterr().out
