from __future__ import annotations

import time
from dataclasses import replace

import pytest

from aqpolicy.errors import InputError, MalformedManifestError, ManifestSignatureError, ProofError, ProvenanceError
from aqpolicy.provenance import (
    ConsensusEvent,
    Credential,
    Field,
    Observation,
    Session,
    decode_manifest,
    encode_manifest,
    example_digest,
    issue_manifest,
    label_digest,
    load_manifest,
    verify_label_proof,
)
from aqpolicy.trust import Keyring, SigningKey, example_key, leaf_hash, sha256

ISSUER = SigningKey.from_seed("issuer", bytes(32))
READERS = [SigningKey.from_seed(f"reader-{number}", bytes([number + 1]) * 32) for number in range(3)]
CREDENTIALS = [Credential(key.name, key.verify_key.text, f"p{key.name[-1]}", "radiologist") for key in READERS]
KEYRING = Keyring.of([("manifest-issuer", ISSUER.verify_key)])
SCHEMA = (
    Field("tier", "category", ("hint", "expert", "gold")),
    Field("consensus", "numeric"),
    Field("judgments", "numeric"),
)


def observed(name, reader=0, **changes):
    plain = Observation(
        example_id=name,
        example_digest=example_digest(name.encode()),
        label_digest=label_digest(name, b"yes"),
        credential=CREDENTIALS[reader].id,
        observed_at=1_700_000_000,
        attributes={"tier": "expert", "consensus": 750_000, "judgments": 3_000_000},
        history=(
            ConsensusEvent("reader-2", 500_000, 2, 1_600_000_000),
            ConsensusEvent("pool:amt", 750_000, 3, 1_650_000_000),
        ),
    )
    return replace(plain, **changes)


def sessions(*counts):
    return [
        Session(CREDENTIALS[reader], READERS[reader], [observed(f"{reader}/{at}", reader) for at in range(count)])
        for reader, count in enumerate(counts)
    ]


def encoded(parts, **changes):
    return encode_manifest(
        **{
            "name": "m",
            "taxonomy": "lidc.readers@1",
            "schema": SCHEMA,
            "sessions": parts,
            "issuer": ISSUER,
        }
        | changes
    )


def one(observation, **changes):
    return encoded([Session(CREDENTIALS[0], READERS[0], [observation])], **changes)


def test_what_was_issued_is_what_is_read(tmp_path):
    parts = sessions(3, 1, 4)
    digest = issue_manifest(tmp_path / "m.aqm", "m", "lidc.readers@1", SCHEMA, parts, ISSUER)
    manifest = load_manifest(tmp_path / "m.aqm", KEYRING)
    issued = [observation for part in parts for observation in part.observations]
    assert [manifest.observation(index) for index in range(manifest.size)] == issued
    assert [manifest.attributes(index) for index in range(8)] == [dict(each.attributes) for each in issued]
    assert [manifest.example_id(index) for index in range(8)] == [each.example_id for each in issued]
    assert (len(manifest), manifest.taxonomy, manifest.name) == (8, "lidc.readers@1", "m")
    assert manifest.digest == digest == sha256((tmp_path / "m.aqm").read_bytes())
    assert manifest.schema == SCHEMA
    assert manifest.credentials == {each.id: each for each in CREDENTIALS}


def test_issuing_twice_gives_the_same_bytes():
    assert encoded(sessions(2, 2)) == encoded(sessions(2, 2))


def test_an_example_is_found_by_id_and_by_the_key_of_the_log():
    manifest = decode_manifest(encoded(sessions(2, 2)), KEYRING)
    assert manifest.index_of("1/0") == manifest.index_of_key(example_key("1/0")) == 2
    assert manifest.index_of("1/9") is None
    assert manifest.index_of_key(bytes(16)) is None


@pytest.mark.parametrize("index", [-1, 2, 10**30])
def test_an_observation_that_is_not_there_is_an_error(index):
    manifest = decode_manifest(encoded(sessions(2)), KEYRING)
    for ask in (manifest.observation, manifest.attributes, manifest.leaf, manifest.prove, manifest.example_id):
        with pytest.raises(ProvenanceError, match="no observation"):
            ask(index)


def test_an_attribute_that_is_not_known_stays_absent():
    manifest = decode_manifest(one(observed("a", attributes={"judgments": 0})), KEYRING)
    assert manifest.attributes(0) == {"judgments": 0}
    assert manifest.observation(0).attributes == {"judgments": 0}


@pytest.mark.parametrize("value", [-(2**63) + 1, 2**63 - 1, 0, -1])
def test_numbers_keep_all_their_range(value):
    manifest = decode_manifest(one(observed("a", attributes={"consensus": value})), KEYRING)
    assert manifest.attributes(0) == {"consensus": value}


@pytest.mark.parametrize(
    "attributes",
    [
        {"tier": "silver"},
        {"tier": 1},
        {"consensus": "high"},
        {"consensus": 0.5},
        {"consensus": True},
        {"consensus": -(2**63)},
        {"consensus": 2**63},
        {"age": 3},
    ],
    ids=str,
)
def test_a_value_outside_the_schema_is_not_issued(attributes):
    with pytest.raises(MalformedManifestError, match=next(iter(attributes))):
        one(observed("a", attributes=attributes))


@pytest.mark.parametrize("name", ["", "a b", "é", "a\n", "x" * 65, "a\x00", "\ud800", "a%b"])
def test_an_ill_formed_example_id_is_not_issued(name):
    with pytest.raises(MalformedManifestError, match="id of 1 to 64"):
        one(replace(observed("a"), example_id=name))


@pytest.mark.parametrize(
    "changes",
    [
        {"example_digest": bytes(31)},
        {"label_digest": bytes(33)},
        {"observed_at": -1},
        {"observed_at": 2**63},
        {"history": (ConsensusEvent("a", 2**63, 1, 1),)},
        {"history": (ConsensusEvent("a", 1, 2**32, 1),)},
        {"history": (ConsensusEvent("a", 1, 1, -1),)},
        {"history": (ConsensusEvent("a b", 1, 1, 1),)},
        {"credential": "reader-1"},
    ],
    ids=str,
)
def test_an_observation_that_does_not_fit_is_not_issued(changes):
    with pytest.raises(MalformedManifestError):
        one(observed("a", **changes))


def test_one_example_twice_is_not_issued_even_by_two_annotators():
    parts = [Session(CREDENTIALS[at], READERS[at], [observed("same", at)]) for at in (0, 1)]
    with pytest.raises(MalformedManifestError, match="`same` is there twice"):
        encoded(parts)


def test_a_session_is_not_signed_for_another_ones_credential():
    with pytest.raises(ManifestSignatureError, match="does not hold"):
        encoded([Session(CREDENTIALS[0], READERS[1], [observed("a")])])


def test_two_credentials_of_one_id_are_not_issued():
    other = replace(CREDENTIALS[0], authority="none")
    parts = [Session(CREDENTIALS[0], READERS[0], [observed("a")]), Session(other, READERS[0], [observed("b")])]
    with pytest.raises(MalformedManifestError, match="two different credentials"):
        encoded(parts)


def test_one_annotator_may_sign_several_sessions():
    parts = [Session(CREDENTIALS[0], READERS[0], [observed(name)]) for name in ("a", "b", "c")]
    manifest = decode_manifest(encoded(parts), KEYRING)
    assert [manifest.observation(index).example_id for index in range(3)] == ["a", "b", "c"]
    assert list(manifest.credentials) == ["reader-0"]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a b"},
        {"taxonomy": "lidc"},
        {"taxonomy": "lidc@x"},
        {"sessions": []},
        {"sessions": [Session(CREDENTIALS[0], READERS[0], [])]},
        {"schema": [Field("tier", "category")]},
        {"schema": [*SCHEMA, Field("other", "numeric", ("a",))]},
        {"schema": [*SCHEMA, SCHEMA[0]]},
        {"schema": [Field("tier", "category", ("expert", "expert")), *SCHEMA[1:]]},
        {"schema": [Field("tier", "ordinal", ("expert",)), *SCHEMA[1:]]},
    ],
    ids=str,
)
def test_a_header_that_would_not_be_read_is_not_issued(changes):
    with pytest.raises(MalformedManifestError):
        one(observed("a"), **changes)


def test_every_label_can_be_proved_alone():
    manifest = decode_manifest(encoded(sessions(3, 1, 5)), KEYRING)
    for index in range(manifest.size):
        proof = manifest.prove(index)
        verify_label_proof(proof, manifest.root)
        assert leaf_hash(proof.leaf) == manifest.leaf(index)
        assert manifest.example_id(index).encode() in proof.leaf


def test_a_proof_of_one_label_shows_no_other():
    manifest = decode_manifest(encoded(sessions(3, 1, 5)), KEYRING)
    proof, other = manifest.prove(0), manifest.prove(7)
    wrong = [
        replace(proof, leaf=other.leaf),
        replace(proof, leaf=proof.leaf[:-1] + b"\x01"),
        replace(proof, index=1),
        replace(proof, path=other.path),
        replace(proof, statement=other.statement),
        replace(proof, statement=proof.statement.replace(b'"size":3', b'"size":2')),
        replace(proof, statement=b"[]"),
        replace(proof, statement=b"{}"),
        replace(proof, statement=b'{"root":"sha256:zz","size":3}'),
        replace(proof, statement=b"\xff"),
        replace(proof, session=1),
        replace(proof, sessions=2),
        replace(proof, session_path=()),
    ]
    for changed in wrong:
        with pytest.raises(ProofError):
            verify_label_proof(changed, manifest.root)
    with pytest.raises(ProofError):
        verify_label_proof(proof, bytes(32))


def test_bytes_that_were_not_signed_are_told_by_id():
    manifest = decode_manifest(encoded(sessions(4)), KEYRING)
    good = [(f"0/{at}", f"0/{at}".encode(), b"yes") for at in range(4)]
    assert manifest.mismatched(good) == []
    changed = [good[0], ("0/1", b"other pixels", b"yes"), ("0/2", b"0/2", b"no"), ("new", b"new", b"yes")]
    assert manifest.mismatched(changed) == ["0/1", "0/2", "new"]


def test_a_label_cannot_move_to_another_example():
    assert label_digest("a", b"yes") != label_digest("b", b"yes")
    assert label_digest("a", b"byes") != label_digest("ab", b"yes")


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.aqm"):
        load_manifest(tmp_path / "gone.aqm", KEYRING)


def test_a_hundred_thousand_labels_load_and_verify_in_seconds():
    names = [f"scan/{at:06d}" for at in range(100_000)]
    part = Session(CREDENTIALS[0], READERS[0], [observed(name, history=()) for name in names])
    data = encoded([part])
    began = time.process_time()
    manifest = decode_manifest(data, KEYRING)
    spent = time.process_time() - began
    assert manifest.index_of(names[-1]) == 99_999
    assert spent < 5  # about 0.5 s on an idle core


def test_a_keyring_says_how_many_issuers_must_have_signed(tmp_path):
    path, root, other = (
        tmp_path / "a.aqm",
        SigningKey.from_seed("root", b"r" * 32),
        SigningKey.from_seed("b", b"b" * 32),
    )
    path.write_bytes(encoded(sessions(2)))
    roles = {"root": (root.verify_key,), "manifest-issuer": (ISSUER.verify_key, other.verify_key)}
    assert load_manifest(path, Keyring(roles, 1, "2999-12-31")).size == 2
    with pytest.raises(ManifestSignatureError, match="2 trusted keys must sign"):
        load_manifest(path, Keyring(roles, 1, "2999-12-31", {"manifest-issuer": 2}))
