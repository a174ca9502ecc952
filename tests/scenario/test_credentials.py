"""A gate that asks for credentials refuses every label behind which none holds, and the log lets nobody forget it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import torch
from support import credentials as office
from support.resuming import ISSUER, KEYRING, NAMES, begin, go_on, make_net, write_inputs

from aqpolicy.cli.main import main
from aqpolicy.errors import AqpolicyError, CorruptLogError, IllegalTrainingSetupError, InputError, ProvenanceError
from aqpolicy.gate import Gate
from aqpolicy.lineage import LineageReader
from aqpolicy.provenance import Credential, Credentials, Field, Observation, Session, issue_manifest
from aqpolicy.provenance.status import seal_status_list
from aqpolicy.provenance.taxonomy import seal_taxonomy
from aqpolicy.trace import open_run
from aqpolicy.trace.auditing.audit import audit_run
from aqpolicy.trust import sha256

KEYS = KEYRING.with_key("taxonomy", office.OFFICER.verify_key).with_key("annotator-ca", office.CA.verify_key)
KEYS = KEYS.with_key("log", office.LOG.verify_key)
LATE = NAMES[5]
"""Labelled after the credential had ended."""
REFUSED = {*NAMES[8:], LATE}
"""That, and the labels of whoever has no credential."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_inputs(tmp_path, taxonomy="clinic@1")
    KEYS.save(tmp_path / "keyring.json")
    sessions = [signed("a", NAMES[:8], office.sealed(office.granted("a"))), signed("b", NAMES[8:], b"")]
    fields = [Field("kind", "category", ("1", "2", "3"))]
    issue_manifest(tmp_path / "labels.aqm", "labels", "clinic@1", fields, sessions, ISSUER)
    (tmp_path / "clinic.taxonomy").write_bytes(seal_taxonomy(office.clinic(), [office.OFFICER]))
    (tmp_path / "refused.status").write_bytes(seal_status_list(office.listing(), [office.LOG]))
    return tmp_path


def made(example: str) -> int:
    return office.NOON + 60 * office.A_DAY * (example == LATE)


def signed(name: str, examples: list[str], envelope: bytes) -> Session:
    key = office.HOLDERS[name]
    labels = [
        Observation(example, sha256(b"x"), sha256(b"y"), name, made(example), {"kind": example[0]})
        for example in examples
    ]
    return Session(Credential(name, key.verify_key.text, "", "reader", envelope), key, labels)


def judged(folder: Path, **more: object) -> Credentials:
    given = {"status": folder / "refused.status", "scopes": ["nodule"], **more}
    return Credentials.read(folder / "clinic.taxonomy", **given)


def trained(folder: Path, steps: int = 6, **more: object) -> Gate:
    torch.manual_seed(5)
    net = make_net()
    gate = begin(folder, net, credentials=judged(folder), **more)
    go_on(gate, net, steps)
    return gate


def test_labels_without_a_valid_credential_are_refused_and_the_audit_judges_them_again(folder: Path) -> None:
    gate = trained(folder)
    said = {name: str(gate.explain(name)) for name in NAMES}
    gate.close()
    assert {name for name in NAMES if "refused when the gate was attached" in said[name]} == REFUSED
    assert "the credential behind its label does not hold (expired)" in said[LATE]
    assert "(no_credential)" in said[NAMES[8]]
    run = open_run(folder / "run", KEYS)
    seen = {run.name_of(row): row.effect == "deny" and row.cause == "error" for _, row in run.rows}
    assert {name for name, is_refused in seen.items() if is_refused} == REFUSED & seen.keys()
    assert len(REFUSED & seen.keys()) > 2
    assert audit_run(folder / "run", KEYS).steps == 6


def test_without_the_question_the_issuer_is_taken_at_his_word(folder: Path) -> None:
    gate = begin(folder, make_net())
    assert "refused" not in str(gate.explain(LATE))
    gate.close()
    with LineageReader(folder / "run", KEYS) as reader:
        assert reader.genesis["credentials"] == {}


def change_status(folder: Path) -> None:
    (folder / "refused.status").write_bytes(seal_status_list(office.listing(office.refused("c")), [office.LOG]))


def test_a_run_does_not_go_on_under_another_list(folder: Path) -> None:
    gate = trained(folder)
    gate.checkpoint("here")
    gate.machinery.recorder.log.abandon()
    gate.detach()
    change_status(folder)
    with pytest.raises(IllegalTrainingSetupError, match="begun with another credentials"):
        trained(folder, resume="here")


@pytest.mark.parametrize("name", ["taxonomy.signed", "refused.status"])
def test_files_that_the_log_does_not_name_are_refused_by_the_audit(folder: Path, name: str) -> None:
    trained(folder).close()
    change_status(folder)
    (folder / "run" / name).write_bytes((folder / "refused.status").read_bytes())
    with pytest.raises(ProvenanceError, match="are not those that the log names"):
        audit_run(folder / "run", KEYS)
    assert main(["log", "verify", str(folder / "run"), "--keyring", str(folder / "keyring.json")]) != 0
    (folder / "run" / name).unlink()
    with pytest.raises(InputError, match="cannot read"):
        audit_run(folder / "run", KEYS)


def test_an_admitted_label_without_a_credential_is_found_by_the_audit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:  # a gate that asks for credentials, and lets everything pass
        context.setattr(Credentials, "unentitled", lambda *_: {})
        trained(folder).close()
    with pytest.raises(CorruptLogError, match="no valid credential stands behind its label") as caught:
        audit_run(folder / "run", KEYS)
    assert any(f"example `{name}`" in caught.value.where for name in REFUSED)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda folder: (folder / "clinic.taxonomy").write_bytes(b"{}"), "envelope|canonical"),
        (
            lambda folder: (folder / "clinic.taxonomy").write_bytes(seal_taxonomy(office.clinic(), [office.STRANGER])),
            "taxonomy|signed",
        ),
        (
            lambda folder: (folder / "clinic.taxonomy").write_bytes(seal_taxonomy(office.clinic(2), [office.OFFICER])),
            "names the taxonomy",
        ),
    ],
)
def test_a_taxonomy_that_is_not_to_be_trusted_lets_nothing_begin(
    folder: Path, change: Callable[[Path], object], error: str
) -> None:
    change(folder)
    with pytest.raises(AqpolicyError, match=error):
        trained(folder)
    assert not (folder / "run" / "head.note").exists()


def test_an_old_list_or_manifest_lets_nothing_begin(folder: Path) -> None:
    day = date(2026, 1, 17)
    for more, said in (({"most_days": 6}, "2026-01-10"), ({"least_serial": 2}, "older than list 2")):
        with pytest.raises(ProvenanceError, match=said):
            begin(folder, make_net(), credentials=judged(folder, **more), today=day)
    with pytest.raises(ProvenanceError, match="number 2 was seen before"):
        begin(folder, make_net(), least_serial=2)
    assert not (folder / "run" / "head.note").exists()
    fresh = judged(folder, most_days=7, least_serial=1)
    begin(folder, make_net(), credentials=fresh, today=day).close()
    assert audit_run(folder / "run", KEYS).steps == 0  # whoever audits later asks for no fresh list
    with pytest.raises(InputError, match="give status="):
        judged(folder, status=None, most_days=7)


def test_scopes_are_a_list(folder: Path) -> None:
    with pytest.raises(InputError, match="a list of texts"):
        judged(folder, scopes="nodule")
