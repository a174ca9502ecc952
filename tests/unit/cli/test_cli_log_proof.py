"""`aqpolicy log prove` and `check-proof`: one row, its label and its share, checked without the run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from support.bundles import ALICE, compiled
from support.lineage_runs import GENESIS, KEY, KEYRING, block, row, write_run
from support.proof_logs import ProofLog

from aqpolicy.bundle import load_bundle
from aqpolicy.cli.main import main
from aqpolicy.lineage import LineageWriter
from aqpolicy.lineage.record import ACCOUNTS
from aqpolicy.provenance import Credential, Field, Observation, Session, encode_manifest, example_digest, label_digest
from aqpolicy.provenance.credential import new_credential, seal_credential
from aqpolicy.trust import Keyring, SigningKey, digest_text
from aqpolicy.units import micro_text

READER = SigningKey.from_seed("reader-07", bytes([7]) * 32)
AUTHORITY = SigningKey.from_seed("authority", bytes([9]) * 32)
ISSUER = SigningKey.from_seed("issuer", bytes([8]) * 32)
TRUSTED = (
    KEYRING.with_key("manifest-issuer", ISSUER.verify_key)
    .with_key("policy-author", ALICE.verify_key)
    .with_key("annotator-ca", AUTHORITY.verify_key)
)


def observed(name: str) -> Observation:
    digests = (example_digest(name.encode()), label_digest(name, b"yes"))
    return Observation(name, *digests, "reader-07", 1_700_000_000, {"tier": "gold", "consensus": 750_000})


def write_manifest(file: Path, names: tuple[str, ...]) -> bytes:
    """Write a manifest and return its root."""
    from aqpolicy.provenance import load_manifest

    schema = (Field("tier", "category", ("hint", "gold")), Field("consensus", "numeric"))
    granted = new_credential(
        id="reader-07",
        pseudonym="p7",
        authority="radiologist",
        taxonomy="lidc@1",
        scopes=("nodule",),
        key=READER.verify_key.text,
        issued_by="annotator-ca",
        issued_on="2023-01-01",
        valid_from="2023-01-01",
        valid_until="2024-12-31",
    )
    envelope = seal_credential(granted, [AUTHORITY])
    credential = Credential("reader-07", READER.verify_key.text, "p7", "radiologist", envelope)
    session = Session(credential, READER, [observed(name) for name in names])
    file.write_bytes(encode_manifest("pilot", "lidc@1", schema, [session], ISSUER))
    return load_manifest(file, TRUSTED).root


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder with a run of three steps, its bundle, its manifest and a keyring."""
    bundle = load_bundle(compiled(tmp_path), TRUSTED)
    root = write_manifest(tmp_path / "labels.aqm", ("e4", "e5"))
    write_manifest(tmp_path / "other.aqm", ("e4",))
    genesis = {
        **GENESIS,
        "phases": [],
        "stages": [],
        "bundle": digest_text(bundle.digest),
        "manifest_root": digest_text(root),
    }
    groups = bundle.tables.groups
    writer = LineageWriter.create(tmp_path / "run", genesis, KEY, groups=groups, budgets=("everything",))
    wide = (1.0,) * len(groups)
    for step in range(3):
        plain = block(step)
        rows = [replace(one, norms=wide, exceptions=((1, 4, 250_000),)) for one in plain.rows]
        shut = (False,) * len(groups)
        columns = dict.fromkeys(("movement", "residual", "proposed", "factors", "drift", "clip", *ACCOUNTS), wide)
        writer.append_step(
            replace(plain, phase="", stage="", rows=tuple(rows), book=replace(plain.book, closed=shut, **columns))
        )
    writer.close()
    TRUSTED.save(tmp_path / "trusted.json")
    return tmp_path


def prove(place: Path, *more: str) -> int:
    words = ["--example", "e5", "--step", "1", "--out", str(place / "row.aqproof")]
    return main(["log", "prove", str(place / "run"), "--keyring", str(place / "trusted.json"), *words, *more])


def check(place: Path, *more: str) -> int:
    return main(["log", "check-proof", str(place / "row.aqproof"), "--keyring", str(place / "trusted.json"), *more])


def test_a_row_is_proved_and_checked_without_the_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prove(place) == 0
    made = capsys.readouterr().out
    assert f"row.aqproof: {(place / 'row.aqproof').stat().st_size} bytes" in made
    shutil.rmtree(place / "run")
    assert check(place) == 0
    said = capsys.readouterr().out
    for words in (
        f"example   `e5`, key {row(5).example_key.hex()}",
        "step      1 (attempt 0, epoch 0), rank 0, row 1 of it",
        "effect    admit, cause granted",
        "surprisal 0.001005 nat",
        "charged   everything 0.000007 nat",
        "group     semantic: share 0.25, not the table's: per update; norm 1",
        "group     surface: the table's share; norm 1",
        f"signed    by {KEY.verify_key.label}",
        "stands    up to entry 5: no later attempt took the step's place before it",
        "open      whether an attempt that was logged later took the step's place",
        "open      what the table's shares are",
        "open      what is known of the example",
        "open      that others are shown the same log",
    ):
        assert words in said
    assert said.endswith("\nproved\n")
    assert "label " not in said
    assert made.startswith(said[: said.index("open ")])


def test_the_signed_label_is_joined(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prove(place, "--manifest", str(place / "labels.aqm")) == 0
    capsys.readouterr()
    assert check(place, "--head", str(place / "run" / "head.note"), "--group", "semantic") == 0
    said = capsys.readouterr().out
    assert "label     tier gold, consensus 0.75; declared of 2023-11-14; taxonomy lidc@1" in said
    assert f"under credential reader-07, whose key {READER.verify_key.label} signed the session" in said
    assert "granted   to p7 as radiologist, from 2023-01-01 to 2024-12-31" in said
    assert "stands    up to entry" in said
    assert "the head that was given" in said
    assert "group     surface" not in said
    assert "open      that others are shown the same log" not in said
    assert "open      that the credential covers the label and was not revoked" in said


def test_a_label_of_an_issuer_that_the_keyring_does_not_list_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prove(place, "--manifest", str(place / "labels.aqm")) == 0
    KEYRING.save(place / "trusted.json")
    capsys.readouterr()
    assert check(place) == 1
    assert "not proved  the issuer of the manifest" in capsys.readouterr().out


def test_the_bundle_names_the_shares(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prove(place) == 0
    bundle = str(place / "clinic.aqb")
    share = load_bundle(bundle, TRUSTED).tables.rows[1].shares[0]
    capsys.readouterr()
    assert check(place, "--bundle", bundle) == 0
    said = capsys.readouterr().out
    assert f"group     surface: share {micro_text(share)}, the table's; norm 1" in said
    assert "open      what the table's shares are" not in said


def test_a_short_proof_is_read_with_the_bundle(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, file = str(place / "clinic.aqb"), place / "row.aqproof"
    said, sizes = [], []
    for more in ((), ("--short",)):
        assert prove(place, *more) == 0
        sizes.append(file.stat().st_size)
        capsys.readouterr()
        assert check(place, "--bundle", bundle) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert sizes[1] < sizes[0]
    assert check(place) == 1
    assert "not proved  a short proof is read with the bundle that decided its step" in capsys.readouterr().out


def test_another_bundle_or_manifest_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prove(place, "--manifest", str(place / "other.aqm")) == 2
    said = capsys.readouterr().err
    assert "step 1 was decided by another manifest" in said
    assert "give the one with the root sha256:" in said
    assert not (place / "row.aqproof").exists()
    other = write_run(place / "other", steps=2)
    words = ["--example", "e5", "--step", "1", "--out", str(place / "row.aqproof")]
    assert main(["log", "prove", str(other), "--keyring", str(place / "trusted.json"), *words]) == 0
    capsys.readouterr()
    assert check(place, "--bundle", str(place / "clinic.aqb")) == 1
    assert "not proved  step 1 was decided by another bundle" in capsys.readouterr().out


def test_an_example_without_a_label_needs_no_manifest(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--example", "e6", "--step", "1", "--out", str(place / "row.aqproof")]
    words += ["--keyring", str(place / "trusted.json"), "--manifest", str(place / "labels.aqm")]
    assert main(["log", "prove", str(place / "run"), *words]) == 2
    assert "has no label of example `e6`; leave --manifest out" in capsys.readouterr().err


def test_a_label_of_another_example_is_not_joined(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from aqpolicy.lineage.proof import decode_row_proof, encode_row_proof
    from aqpolicy.provenance import load_manifest
    from aqpolicy.provenance.evidence import label_evidence

    assert prove(place) == 0
    file, labels = place / "row.aqproof", load_manifest(place / "labels.aqm", TRUSTED)
    proof = replace(decode_row_proof(file.read_bytes()), label=label_evidence(labels, 0))
    file.write_bytes(encode_row_proof(proof))
    capsys.readouterr()
    assert check(place) == 1
    assert "not proved  the label is that of another example than the row" in capsys.readouterr().out


def test_a_changed_proof_and_a_strangers_key_are_status_1(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prove(place) == 0
    file = place / "row.aqproof"
    data = file.read_bytes()
    file.write_bytes(data.replace(b"index ", b"index 1"))
    assert check(place) == 1
    file.write_bytes(data)
    assert check(place, "--head", str(place / "labels.aqm")) == 1
    Keyring.of([("log", SigningKey.generate("log").verify_key)]).save(place / "trusted.json")
    assert check(place) == 1
    said = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("not proved  ") for line in said) == 3


@pytest.mark.parametrize(
    "more",
    [("--step", "9"), ("--example", "nobody"), ("--group", "nothing"), ("--attempt", "3"), ("--visit", "2")],
)
def test_what_the_log_does_not_hold_is_an_error(
    place: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    assert prove(place, *more) == 2
    assert "aqpolicy: error: " in capsys.readouterr().err
    assert not (place / "row.aqproof").exists()


def test_files_that_cannot_be_read_are_status_2(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(place) == 2
    assert "cannot read the proof" in capsys.readouterr().err
    assert prove(place, "--head", str(place / "none")) == 2


def test_a_proof_under_an_older_head_is_refused_under_a_newer_one(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(place / "run" / "head.note", place / "old.note")
    writer = LineageWriter.open_for_status(place / "run", KEY, TRUSTED)
    writer.append_status({"credential": "reader-07"})
    writer.close()
    assert prove(place, "--head", str(place / "old.note")) == 0
    assert check(place, "--head", str(place / "old.note")) == 0
    assert check(place, "--head", str(place / "run" / "head.note")) == 1
    assert "make it with `aqpolicy log prove --head`" in capsys.readouterr().out


def test_the_proof_of_a_superseded_step_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    KEYRING.save(tmp_path / "trusted.json")
    with ProofLog(tmp_path) as log:
        log.step([row(5)])
        log.step([row(6)])
        log.back()
        log.step([row(7)])
        log.end()
    words = ["log", "prove", str(log.run), "--step", "0", "--out", str(tmp_path / "row.aqproof")]
    words += ["--keyring", str(tmp_path / "trusted.json")]
    assert main([*words, "--example", "e5"]) == 2
    assert "the log has no row of example `e5` in step 0" in capsys.readouterr().err
    assert main([*words, "--example", "e5", "--attempt", "0"]) == 0
    capsys.readouterr()
    assert check(tmp_path) == 0
    assert "stands    no: attempt 1 took the step's place" in capsys.readouterr().out
    assert main([*words, "--example", "e7"]) == 0
    capsys.readouterr()
    assert check(tmp_path) == 0
    assert "open      whether another attempt took the step's place" in capsys.readouterr().out


def test_a_long_proof_comes_with_a_hint_at_the_short_form(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prove(place) == 0
    assert "--short" not in capsys.readouterr().out
    assert prove(place, "--manifest", str(place / "labels.aqm")) == 0
    assert "with --short, for a reader who has the bundle)" in capsys.readouterr().out
    assert prove(place, "--manifest", str(place / "labels.aqm"), "--short") == 0
    assert "bytes; its reader also needs the bundle" in capsys.readouterr().out
    assert (place / "row.aqproof").stat().st_size < 4096
    assert check(place, "--bundle", str(place / "clinic.aqb")) == 0
    assert "label     tier gold" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["check-proof", "check-fork", "compare"])
def test_a_file_of_another_kind_is_named_as_what_it_is_not(
    place: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    other = str(place / "clinic.aqp")
    files = [str(place / "run"), other] if verb == "compare" else [other]
    assert main(["log", verb, *files, "--keyring", str(place / "trusted.json")]) == (1 if verb == "check-proof" else 2)
    said = capsys.readouterr()
    expected = {
        "check-proof": "not proved  the file is no proof of a row: ",
        "check-fork": "the file is no proof of a fork",
        "compare": "clinic.aqp` is neither the folder of a run nor a signed head: ",
    }
    assert expected[verb] in said.out + said.err
