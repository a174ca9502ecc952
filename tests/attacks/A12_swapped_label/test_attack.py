"""A12: a true label is shown as that of another example, annotator or manifest, under a root that was signed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.attacking import TRUSTED, denied, put_in_place, take_away
from support.gating import tables
from support.lineage_runs import GENESIS, KEY, KEYRING, NAMES, row
from support.lineage_runs import block as step_of
from support.tracing import KEYRING as TRACED
from support.tracing import Story, train

from aqpolicy.cli.log import check_proof
from aqpolicy.cli.log.check_proof import check_label
from aqpolicy.errors import CorruptLogError, MalformedManifestError, ManifestSignatureError, ProofError
from aqpolicy.lineage import LineageReader, LineageWriter
from aqpolicy.lineage.proof import RowProof
from aqpolicy.lineage.proved import Checker, ProvedRow
from aqpolicy.lineage.prover import Prover
from aqpolicy.provenance import (
    Credential,
    Field,
    Manifest,
    Observation,
    Session,
    decode_manifest,
    encode_manifest,
    evidence,
    load,
    verify_label_proof,
)
from aqpolicy.provenance.evidence import label_evidence, verify_label
from aqpolicy.provenance.header import SESSION
from aqpolicy.trace.auditing.audit import _Auditor, audit_run
from aqpolicy.trust import SigningKey, digest_text, verify_inclusion

ISSUER = SigningKey.from_seed("issuer", bytes(32))
READERS = [SigningKey.from_seed(f"reader-{number}", bytes([number + 1]) * 32) for number in range(2)]
KEYS = KEYRING.with_key("manifest-issuer", ISSUER.verify_key)
NOT_SIGNED = "the labels of session 0 (credential `reader-0`) are not those that were signed"


def encoded(tiers: str = "gggh", **more: Any) -> bytes:
    """Return a manifest of four labels, of which the last is a hint; two each by two readers."""
    labels = [
        Observation(f"e{at}", bytes(32), bytes(32), f"reader-{at // 2}", at, {"tier": {"g": "gold", "h": "hint"}[tier]})
        for at, tier in enumerate(tiers)
    ]
    sessions = [
        Session(Credential(key.name, key.verify_key.text), key, labels[2 * at : 2 * at + 2])
        for at, key in enumerate(READERS)
    ]
    return encode_manifest("m", "t@1", [Field("tier", "category", ("gold", "hint"))], sessions, ISSUER, **more)


DATA = encoded()
WHOLE = decode_manifest(DATA, KEYS)


def swapped(data: bytes, one: bytes, two: bytes) -> bytes:
    """Return the bytes with two equally long parts in each other's place."""
    assert (data.count(one), data.count(two), len(one)) == (1, 1, len(two))
    return data.replace(one, b"\0" * len(one)).replace(two, one).replace(b"\0" * len(one), two)


# ---- in the manifest


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_hint_under_the_id_of_another_example(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    data = DATA[:-8] + swapped(DATA[-8:], b"e%d" % at, b"e3")
    said = NOT_SIGNED if at < 2 else NOT_SIGNED.replace("0", "1")
    denied(lambda: decode_manifest(data, KEYS), MalformedManifestError, said)
    take_away(monkeypatch, load._verify_labels, "those that were signed")
    found = decode_manifest(data, KEYS)
    assert found.root == WHOLE.root
    assert found.observation(3) == replace(WHOLE.observation(3), example_id=f"e{at}")


def test_the_labels_of_one_reader_under_the_name_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    table = [SESSION.pack(part.credential, part.size, part.root, part.signature) for part in WHOLE._header.sessions]
    data = DATA.replace(b"".join(table), b"\1\0" + table[0][2:] + b"\0\0" + table[1][2:])
    said = "session 0 is not signed under its credential `reader-1`"
    denied(lambda: decode_manifest(data, KEYS), ManifestSignatureError, said)
    with monkeypatch.context() as without:
        take_away(without, load._verify_sessions, "is not signed under its credential")
        denied(lambda: decode_manifest(data, KEYS), MalformedManifestError, "does not cover its sessions")
    put_in_place(monkeypatch, load._verify_sessions, lambda _: None)
    assert decode_manifest(data, KEYS).observation(0) == replace(WHOLE.observation(0), credential="reader-1")


# ---- alone


@pytest.mark.parametrize("change", ["leaf", "place", "session"])
def test_a_proof_of_another_label(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    own, other = WHOLE.prove(0), WHOLE.prove(3)
    wrong = {
        "leaf": replace(own, leaf=other.leaf),
        "place": replace(own, index=1),
        "session": replace(own, session=other.session),
    }[change]
    verify_label_proof(own, WHOLE.root)
    denied(lambda: verify_label_proof(wrong, WHOLE.root), ProofError, "is not in the tree")
    put_in_place(monkeypatch, verify_inclusion, lambda *_: None)
    verify_label_proof(wrong, WHOLE.root)


def test_evidence_under_the_head_of_another_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    other = decode_manifest(encoded("hggg", serial=2), KEYS)
    own, later = label_evidence(WHOLE, 3), label_evidence(other, 3)
    head = own[own.index(WHOLE.context) + len(WHOLE.context) :]
    mixed = own.removesuffix(head) + later[later.index(other.context) + len(other.context) :]
    denied(lambda: verify_label(mixed, WHOLE.root, KEYS), ProofError, "the issuer signed another manifest than the one")
    denied(lambda: verify_label(own, other.root, KEYS), ProofError, "the issuer signed another manifest than the one")
    take_away(monkeypatch, verify_label, "the issuer signed another manifest")
    assert evidence.verify_label(mixed, WHOLE.root, KEYS).attributes == {"tier": "hint"}


# ---- beside a row


@pytest.fixture
def proved(tmp_path: Path) -> tuple[RowProof, ProvedRow]:
    """Return the proof of the row of the first example, in a log that names the manifest."""
    facts = {**GENESIS, "manifest_root": digest_text(WHOLE.root)}
    writer = LineageWriter.create(tmp_path, facts, KEY, **NAMES)
    writer.append_step(replace(step_of(0), rows=tuple(map(row, range(4)))))
    writer.close()
    with LineageReader(tmp_path, KEYRING) as reader:
        proof = Prover(reader).prove(0, "e0")
    return proof, Checker(TRUSTED).check(proof)


def test_the_label_of_another_example_beside_a_row(
    proved: tuple[RowProof, ProvedRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    proof, row_of_log = proved
    for index in range(4):
        shown = replace(proof, label=label_evidence(WHOLE, index))
        if index:
            said = "the label is that of another example than the row"
            denied(lambda shown=shown: check_label(shown, row_of_log, KEYS), ProofError, said)
        else:
            assert check_label(shown, row_of_log, KEYS)
    take_away(monkeypatch, check_label, "the label is that of another example")
    assert check_proof.check_label(shown, row_of_log, KEYS).example_id == "e3"


# ---- in a log


@pytest.mark.parametrize(
    ("other", "second"),
    [("1-2", None), ("2-3", "row 2 of the mask table was applied; the observation's attributes select row 1")],
    ids=["another reader's", "another value"],
)
def test_a_run_that_was_taught_by_the_label_of_another_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str, second: str | None
) -> None:
    honest = Manifest.index_of
    with monkeypatch.context() as lying:
        lying.setattr(Manifest, "index_of", lambda self, name: honest(self, other if name == "1-0" else name))
        owners = {"1-0": "a", "1-1": "a", "1-2": "b", "2-3": "b"}
        run = train(tmp_path, Story(owners, tables([[1.0, 1.0], [0.5, 1.0]])))
    said = "the example is not that of the manifest's observation"
    where = f"step 0, example `{other}`"
    denied(lambda: audit_run(run, TRACED), CorruptLogError, said, where=where)
    take_away(monkeypatch, _Auditor._identify, said)
    if second is None:
        assert audit_run(run, TRACED).steps == 2
    else:
        denied(lambda: audit_run(run, TRACED), CorruptLogError, second, where=where)
