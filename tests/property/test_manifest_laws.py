"""Laws of manifests: two readers agree on all of them, every label is shown alone, and nothing altered is accepted."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from conformance.independent_manifest import Label, RefusedError, check_label, read
from hypothesis import given, settings
from hypothesis import strategies as st

from aqpolicy.errors import MalformedManifestError, ManifestSignatureError, ProofError
from aqpolicy.provenance import (
    ConsensusEvent,
    Credential,
    Field,
    LabelChecker,
    Observation,
    Session,
    decode_manifest,
    encode_manifest,
)
from aqpolicy.provenance.evidence import label_evidence, verify_label
from aqpolicy.trust import Keyring, SigningKey, leaf_hash, sha256

ISSUER = SigningKey.from_seed("issuer", bytes(32))
SIGNERS = [SigningKey.from_seed(f"reader-{number}", bytes([number + 1]) * 32) for number in range(3)]
KEYRING = Keyring.of([("manifest-issuer", ISSUER.verify_key)])
KEYS = {ISSUER.verify_key.label: ISSUER.verify_key.public}
MODEST = settings(max_examples=60, deadline=None)

LETTERS = st.sampled_from("ABCXYZabcxyz019._:/-")
NAMES = st.text(LETTERS, min_size=1, max_size=64)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
DIGESTS = st.binary(min_size=32, max_size=32)
TIMES = st.integers(0, 2**63 - 1)
SIGNED = st.integers(-(2**63) + 1, 2**63 - 1)


@st.composite
def schemas(draw):
    names = draw(st.lists(WORDS, unique=True, max_size=5))
    values = [draw(st.lists(WORDS, unique=True, max_size=4)) for _ in names]
    return [Field(name, "category" if own else "numeric", tuple(own)) for name, own in zip(names, values, strict=True)]


def observations(schema, credential):
    values = {field.name: st.sampled_from(field.values) if field.values else SIGNED for field in schema}
    events = st.builds(ConsensusEvent, NAMES, SIGNED, st.integers(0, 2**32 - 1), TIMES)
    return st.builds(
        Observation,
        NAMES,
        DIGESTS,
        DIGESTS,
        st.just(credential),
        TIMES,
        st.fixed_dictionaries({}, optional=values),
        st.lists(events, max_size=3).map(tuple),
    )


@st.composite
def manifests(draw):
    """Return the observations of a manifest in order, and its bytes."""
    schema, sessions = draw(schemas()), []
    for number, signer in enumerate(draw(st.lists(st.sampled_from(SIGNERS), min_size=1, max_size=5))):
        credential = Credential(signer.name, signer.verify_key.text, "p", "")
        found = draw(st.lists(observations(schema, credential.id), min_size=1, max_size=6))
        once = [replace(each, example_id=f"{number}.{at}.{each.example_id}"[:64]) for at, each in enumerate(found)]
        sessions.append(Session(credential, signer, once))
    serial = draw(st.integers(1, 2**53 - 1))
    data = encode_manifest(draw(NAMES), "t@1", schema, sessions, ISSUER, purpose=draw(NAMES), serial=serial)
    return [observation for session in sessions for observation in session.observations], data


def as_read(observation):
    """Return an observation in the words of the independent reader."""
    return Label(
        observation.example_id,
        observation.example_digest,
        observation.label_digest,
        observation.observed_at,
        dict(observation.attributes),
        [(event.credential, event.consensus, event.judgments, event.observed_at) for event in observation.history],
        observation.credential,
    )


@MODEST
@given(manifests())
def test_two_readers_read_what_was_issued(made):
    issued, data = made
    manifest = decode_manifest(data, KEYRING)
    assert [manifest.observation(index) for index in range(manifest.size)] == issued
    assert read(data, KEYS).labels == [as_read(observation) for observation in issued]
    assert [manifest.index_of(observation.example_id) for observation in issued] == list(range(manifest.size))
    for name in manifest.credentials:
        times = [each.observed_at for each in issued if each.credential == name]
        assert manifest.observed_between()[name] == (min(times), max(times))


@MODEST
@given(manifests(), st.data())
def test_every_label_is_shown_alone_and_for_no_other(made, data):
    issued, encoded = made
    manifest = decode_manifest(encoded, KEYRING)
    index, other = (data.draw(st.integers(0, manifest.size - 1)) for _ in range(2))
    proof, evidence, checker = manifest.prove(index), label_evidence(manifest, index), LabelChecker(manifest.root)
    checker.check(proof)
    assert leaf_hash(proof.leaf) == manifest.leaf(index)
    assert check_label(evidence, manifest.root, KEYS) == as_read(issued[index])
    assert verify_label(evidence, manifest.root, KEYRING).attributes == issued[index].attributes
    if other != index:
        with pytest.raises(ProofError):
            checker.check(replace(proof, leaf=manifest.prove(other).leaf))


@MODEST
@given(manifests(), st.data())
def test_bytes_replaced_anywhere_are_refused_by_both_readers(made, data):
    _, encoded = made
    at, length = data.draw(st.integers(0, len(encoded))), data.draw(st.integers(0, 110))
    changed = encoded[:at] + data.draw(st.binary(max_size=110)) + encoded[at + length :]
    if changed == encoded:
        return
    with pytest.raises((MalformedManifestError, ManifestSignatureError)):
        decode_manifest(changed, KEYRING)
    with pytest.raises(RefusedError):
        read(changed, KEYS)


@pytest.mark.parametrize("histories", [0.0, 0.3, 1.0])
def test_many_labels_are_divided_as_the_slow_reader_divides_them(histories):
    dice = random.Random(5)
    schema = [Field("tier", "category", tuple(f"{number}" for number in range(300))), Field("age", "numeric")]
    sessions, made = [], 0
    for number, size in enumerate((1, 1023, 1, 1024, 1025, 2049, 3)):
        signer = SIGNERS[number % 3]
        found = [
            Observation(
                f"{made + at}/".ljust(dice.randrange(6, 65), "x"),
                sha256(b"%d" % at),
                dice.randbytes(32),
                signer.name,
                dice.getrandbits(dice.randrange(1, 64)),
                {"tier": str(dice.randrange(300)), "age": dice.getrandbits(60) - 2**59},
                tuple(
                    ConsensusEvent(dice.choice("abc"), dice.getrandbits(40), dice.getrandbits(32), at)
                    for _ in range(dice.randrange(1, 5) if dice.random() < histories else 0)
                ),
            )
            for at in range(size)
        ]
        sessions.append(Session(Credential(signer.name, signer.verify_key.text), signer, found))
        made += size
    data = encode_manifest("many", "t@1", schema, sessions, ISSUER)
    manifest, slow = decode_manifest(data, KEYRING), read(data, KEYS)
    assert [as_read(manifest.observation(index)) for index in range(made)] == slow.labels
    asked = [0, 1, 1023, 1024, 1025, 2048, 2049, made - 1, *(dice.randrange(made) for _ in range(50))]
    checker = LabelChecker(manifest.root)
    for index in asked:
        checker.check(manifest.prove(index))
