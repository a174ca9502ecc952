from __future__ import annotations

from dataclasses import replace

import pytest

from aqpolicy.errors import InputError, MalformedManifestError, ManifestSignatureError, ProofError, ProvenanceError
from aqpolicy.provenance import (
    ConsensusEvent,
    Credential,
    Field,
    LabelChecker,
    LabelProof,
    Observation,
    Session,
    SessionProof,
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
    session = proof.session
    said = [
        b"[]",
        b"{}",
        b"\xff",
        b'{"root":"sha256:zz","size":3}',
        session.statement.replace(b'"size":3', b'"size":2'),
    ]
    wrong = [
        replace(proof, leaf=other.leaf),
        replace(proof, leaf=proof.leaf[:-1] + b"\x01"),
        replace(proof, index=1),
        replace(proof, path=other.path),
        replace(proof, session=other.session),
        *(replace(proof, session=replace(session, statement=statement)) for statement in said),
        replace(proof, session=replace(session, session=1)),
        replace(proof, session=replace(session, sessions=2)),
        replace(proof, session=replace(session, path=())),
        replace(proof, session=replace(session, path=other.session.path)),
    ]
    for changed in wrong:
        assert changed != proof
        with pytest.raises(ProofError):
            verify_label_proof(changed, manifest.root)
    with pytest.raises(ProofError):
        verify_label_proof(proof, bytes(32))


@pytest.mark.parametrize("text", ['"sha256:zz"', '"sha256:"', f'"{"00" * 32}"', f'"sha256:{"AA" * 32}"', "1", "null"])
def test_a_statement_that_names_no_root_shows_nothing_even_under_a_good_path(text):
    statement = f'{{"root":{text},"size":1}}'.encode()
    proof = LabelProof(b"leaf", 0, (), SessionProof(statement, 0, 1, ()))
    with pytest.raises(ProofError, match="names no root"):
        verify_label_proof(proof, leaf_hash(statement))


def test_a_checker_that_has_seen_a_session_still_refuses_what_is_wrong():
    manifest = decode_manifest(encoded(sessions(3, 4)), KEYRING)
    checker = LabelChecker(manifest.root)
    proofs = [manifest.prove(index) for index in range(manifest.size)]
    for proof in proofs:
        checker.check(proof)
    for proof, other in zip(proofs, [*proofs[1:], proofs[0]], strict=True):
        with pytest.raises(ProofError):
            checker.check(replace(proof, leaf=other.leaf))
        with pytest.raises(ProofError):
            checker.check(replace(proof, session=replace(proof.session, session=1 - proof.session.session)))


def test_a_manifest_says_who_signed_what_and_when():
    times = [(1_700_000_000, 1_600_000_000, 1_800_000_000), (2**63 - 1,), (0, 1)]
    parts = [
        Session(
            CREDENTIALS[reader],
            READERS[reader],
            [observed(f"{number}/{at}", reader, observed_at=time) for at, time in enumerate(times[number])],
        )
        for number, reader in enumerate((0, 1, 0))
    ]
    manifest = decode_manifest(encoded(parts), KEYRING)
    assert manifest.observed_between() == {"reader-0": (0, 1_800_000_000), "reader-1": (2**63 - 1, 2**63 - 1)}
    assert [manifest.session_credential(session) for session in range(3)] == [CREDENTIALS[at] for at in (0, 1, 0)]
    assert [manifest.session_labels(session) for session in range(3)] == [range(3), range(3, 4), range(4, 6)]
    assert len({manifest.session_signature(index) for index in range(6)}) == manifest.sessions == 3


def test_a_manifest_is_used_for_what_it_was_issued_for_only():
    data = encoded(sessions(1), purpose="evaluation")
    assert decode_manifest(data, KEYRING).purpose == "evaluation"
    assert decode_manifest(data, KEYRING, purpose="evaluation").size == 1
    with pytest.raises(ProvenanceError, match="is for `evaluation`, not for `training`"):
        decode_manifest(data, KEYRING, purpose="training")


def test_a_manifest_older_than_one_seen_before_is_refused():
    data = encoded(sessions(1), serial=7)
    assert decode_manifest(data, KEYRING, least_serial=7).serial == 7
    with pytest.raises(ProvenanceError, match="is number 7; number 8 was seen before"):
        decode_manifest(data, KEYRING, least_serial=8)


def test_a_manifest_takes_the_place_of_the_one_it_names_only():
    old = decode_manifest(encoded(sessions(1)), KEYRING)
    new = decode_manifest(encoded(sessions(2), serial=2, supersedes=old.root), KEYRING)
    new.refuse_unless_after(old)
    for changes in (
        {"serial": 2},
        {"serial": 1, "supersedes": old.root},
        {"serial": 2, "supersedes": bytes(32)},
        {"serial": 2, "supersedes": old.root, "name": "n"},
        {"serial": 2, "supersedes": old.root, "purpose": "evaluation"},
    ):
        with pytest.raises(ProvenanceError, match="take the place"):
            decode_manifest(encoded(sessions(2), **changes), KEYRING).refuse_unless_after(old)


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
