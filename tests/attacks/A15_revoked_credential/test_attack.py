"""A15: a credential is used after it was revoked, or under a list of revocations that knows nothing of it yet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from support import credentials as office
from support.attacking import denied, put_in_place, take_away
from support.resuming import ISSUER, KEYRING, NAMES, begin, make_net, write_inputs
from support.tracing import KEYRING as TRACED
from support.tracing import LOG, Story, train

from aqpolicy.errors import ProvenanceError
from aqpolicy.lineage import LineageReader, LineageWriter
from aqpolicy.provenance import (
    Credential,
    Credentials,
    Field,
    Manifest,
    Observation,
    Session,
    issue_manifest,
    load_manifest,
    refused_examples,
)
from aqpolicy.provenance.standing import CredentialChecker
from aqpolicy.provenance.status import Refused, StatusList, seal_status_list
from aqpolicy.provenance.taxonomy import seal_taxonomy
from aqpolicy.trace import open_run, revocation
from aqpolicy.trace.revocation import Revocation, misuses

KEYS = KEYRING.with_key("taxonomy", office.OFFICER.verify_key).with_key("annotator-ca", office.CA.verify_key)
KEYS = KEYS.with_key("log", office.LOG.verify_key)
OLD = office.listing(serial=1, issued_on="2026-01-01")
NEW = office.listing(office.refused("a"), serial=2, issued_on="2026-01-09")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the inputs of a run, whose labels are all by one holder; the list does not refuse him."""
    write_inputs(tmp_path, taxonomy="clinic@1")
    KEYS.save(tmp_path / "keyring.json")
    labels = [Observation(name, bytes(32), bytes(32), "a", office.NOON, {"kind": name[0]}) for name in NAMES]
    held = Credential("a", office.HOLDERS["a"].verify_key.text, "", "reader", office.sealed(office.granted("a")))
    fields = [Field("kind", "category", ("1", "2", "3"))]
    sessions = [Session(held, office.HOLDERS["a"], labels)]
    issue_manifest(tmp_path / "labels.aqm", "labels", "clinic@1", fields, sessions, ISSUER)
    (tmp_path / "clinic.taxonomy").write_bytes(seal_taxonomy(office.clinic(), [office.OFFICER]))
    for name, status in (("old", OLD), ("new", NEW)):
        (tmp_path / f"{name}.status").write_bytes(seal_status_list(status, [office.LOG]))
    return tmp_path


def said_of_all(folder: Path, status: str) -> set[str]:
    """Return what a gate says of the examples that it is asked to teach."""
    judged = Credentials.read(folder / "clinic.taxonomy", status=folder / f"{status}.status", scopes=["nodule"])
    gate = begin(folder, make_net(), credentials=judged)
    said = {"revoked" if "does not hold (revoked)" in str(gate.explain(name)) else "taught" for name in NAMES}
    gate.close()
    return said


def test_a_gate_teaches_nothing_that_a_revoked_credential_signed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert said_of_all(folder, "new") == {"revoked"}
    take_away(monkeypatch, CredentialChecker._check_moment, "is revoked for this time")
    (folder / "run").rename(folder / "refused")
    assert said_of_all(folder, "new") == {"taught"}


def whole(folder: Path) -> Manifest:
    return load_manifest(folder / "labels.aqm", KEYS)


def test_a_run_is_not_judged_by_an_older_list_than_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert said_of_all(folder, "new") == {"revoked"}
    assert len(open_run(folder / "run", KEYS).unentitled) == len(set(NAMES))
    (folder / "run" / "refused.status").write_bytes((folder / "old.status").read_bytes())
    denied(lambda: open_run(folder / "run", KEYS), ProvenanceError, "are not those that the log names")
    take_away(monkeypatch, Credentials.of_run, "are not those that the log names")
    assert open_run(folder / "run", KEYS).unentitled == frozenset()  # the old list knows nothing of it


@pytest.mark.parametrize(
    ("ask", "guard", "said"),
    [
        (lambda: OLD.refuse_older(NEW.serial), StatusList.refuse_older, "list 1 of refused credentials is older than"),
        (lambda: OLD.refuse_stale(date(2026, 1, 9), 7), StatusList.refuse_stale, "get one that is at most 7 days old"),
        (lambda: NEW.refuse_stale(date(2026, 1, 8), 7), StatusList.refuse_stale, "is of 2026-01-09; get one"),
    ],
    ids=["older than one seen", "too old", "of a day to come"],
)
def test_a_list_that_is_not_the_newest(
    monkeypatch: pytest.MonkeyPatch, folder: Path, ask: Callable[[], None], guard: Any, said: str
) -> None:
    assert refused_examples(whole(folder), OLD) == ()
    assert len(refused_examples(whole(folder), NEW)) == len(NAMES)
    denied(ask, ProvenanceError, said)
    take_away(monkeypatch, guard, "of refused credentials is")
    ask()


def test_what_a_thief_dates_back_is_refused_but_not_what_a_log_held_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = whole(folder)
    other = office.listing(office.refused("a", roots=["00" * 32]))
    assert refused_examples(manifest, office.listing(office.refused("a", roots=[manifest.root.hex()]))) == ()
    assert len(refused_examples(manifest, other)) == len(NAMES)
    put_in_place(monkeypatch, Refused.refuses, lambda self, at, root: at >= self.from_s and not self.known_roots)
    assert refused_examples(manifest, other) == ()


@pytest.fixture
def log(tmp_path: Path) -> tuple[Path, Manifest]:
    """Return a run that uses a credential before and after its revocation, which bears a time of the far future."""
    left = {"event": "revoked", "credential": "reader", "kind": "left", "time_s": 2**40}

    def before(gate: Any, step: int) -> None:
        if step == 2:
            gate.machinery.recorder.event(left)

    run = train(tmp_path, Story({f"1-{number}": "reader" for number in range(4)}, batch=2, before=before))
    return run, open_run(run, TRACED).manifest


def test_the_place_in_the_log_decides_and_no_clock(log: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    run, manifest = log
    with LineageReader(run, TRACED) as reader:
        assert [each.step for each in misuses(reader, manifest)] == [2, 3]
        put_in_place(monkeypatch, Revocation.reaches, lambda self, entry: self.time_s < 2**31)
        assert list(misuses(reader, manifest)) == []


def test_a_revocation_of_an_unknown_kind_is_the_strictest(
    log: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, manifest = log
    writer = LineageWriter.open_for_status(run, LOG, TRACED)
    writer.append_status({"event": "revoked", "credential": "reader", "kind": "forgiven", "since_entry": -1})
    writer.close()
    with LineageReader(run, TRACED) as reader:
        assert {each.step for each in misuses(reader, manifest)} == {0, 1, 2, 3}
        monkeypatch.setattr(revocation, "KINDS", (*revocation.KINDS, "forgiven"))
        assert {each.step for each in misuses(reader, manifest)} == {2, 3}
