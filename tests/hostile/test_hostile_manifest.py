"""Manifests as an attacker would write them: each must end in one of our errors, none in a `Manifest`."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqpolicy.errors import MalformedManifestError, ManifestSignatureError
from aqpolicy.provenance import (
    ConsensusEvent,
    Credential,
    Field,
    Observation,
    Session,
    decode_manifest,
    encode_manifest,
    example_digest,
    label_digest,
)
from aqpolicy.provenance.header import HEADER_TYPE, SESSION_TYPE, manifest_root, parse_header
from aqpolicy.provenance.issue import HEADER_LENGTH, MAGIC
from aqpolicy.trust import (
    Keyring,
    SigningKey,
    canonical_json,
    digest_text,
    encode_base64,
    leaf_hash,
    open_envelope,
    pre_authentication,
    root_of,
    seal,
)

ISSUER = SigningKey.from_seed("issuer", bytes(32))
READERS = [SigningKey.from_seed(f"reader-{number}", bytes([number + 1]) * 32) for number in range(2)]
KEYRING = Keyring.of([("manifest-issuer", ISSUER.verify_key)])
REFUSED = (MalformedManifestError, ManifestSignatureError)
SCHEMA = (Field("tier", "category", ("hint", "gold")), Field("consensus", "numeric"))
RECORD = 32 + 32 + 8 + 1 + 2 + 2 + 8
EVENT = 22


def session(key, names):
    credential = Credential(key.name, key.verify_key.text)
    return Session(credential, key, [observed(name, key.name) for name in names])


def observed(name, credential):
    return Observation(
        name,
        example_digest(name.encode()),
        label_digest(name, b"yes"),
        credential,
        1_700_000_000,
        {"tier": "gold", "consensus": 750_000},
        (ConsensusEvent(credential, 500_000, 2, 1_600_000_000),),
    )


GOOD = encode_manifest("m", "t@1", SCHEMA, [session(READERS[0], "ab"), session(READERS[1], "cd")], ISSUER)


def split(data):
    (length,) = HEADER_LENGTH.unpack_from(data, len(MAGIC))
    start = len(MAGIC) + HEADER_LENGTH.size
    header = open_envelope(data[start : start + length], HEADER_TYPE, [ISSUER.verify_key])
    return json.loads(header), data[start + length :]


def join(header, body, signer=ISSUER):
    envelope = seal(HEADER_TYPE, canonical_json(header), [signer])
    return MAGIC + HEADER_LENGTH.pack(len(envelope)) + envelope + body


def resigned(header, body):
    """Sign the attacker's labels as faithless annotators and a faithless issuer would."""
    at, ids, events = 0, 4 * RECORD, 4 * RECORD + 4
    for part in header["sessions"]:
        leaves = []
        for index in range(at, at + part["size"]):
            record = body[index * RECORD : (index + 1) * RECORD]
            event = body[events + index * EVENT : events + (index + 1) * EVENT]
            leaves.append(leaf_hash(b"aqpolicy label 1\x00" + record + body[ids + index : ids + index + 1] + event))
        at += part["size"]
        part["root"] = digest_text(root_of(leaves))
    return signed(header, body)


def signed(header, body, signers=READERS):
    statements = parse_header(canonical_json(header)).statements()
    for part, statement, signer in zip(header["sessions"], statements, signers, strict=True):
        part["signature"] = encode_base64(signer.sign(pre_authentication(SESSION_TYPE, statement)))
    header["root"] = digest_text(manifest_root(statements))
    return join(header, body)


def test_the_attackers_tools_make_good_manifests_too():
    assert decode_manifest(resigned(*split(GOOD)), KEYRING).size == 4
    assert resigned(*split(GOOD)) == GOOD


def test_every_flipped_byte_is_noticed():
    for at in range(len(GOOD)):
        changed = bytearray(GOOD)
        changed[at] ^= 1 << at % 8
        with pytest.raises(REFUSED):
            decode_manifest(bytes(changed), KEYRING)


def test_every_truncation_and_any_addition_is_noticed():
    for end in range(0, len(GOOD), 7):
        with pytest.raises(REFUSED):
            decode_manifest(GOOD[:end], KEYRING)
    with pytest.raises(MalformedManifestError):
        decode_manifest(GOOD + b"\x00", KEYRING)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_other_bytes_raise_nothing_but_our_errors(data):
    for start in (b"", MAGIC, GOOD[:12]):
        with pytest.raises(REFUSED):
            decode_manifest(start + data, KEYRING)


def test_an_unknown_issuer_is_refused():
    data = join(*split(GOOD), signer=SigningKey.generate("issuer"))
    with pytest.raises(ManifestSignatureError, match="no trusted key"):
        decode_manifest(data, KEYRING)


@pytest.mark.parametrize("role", ["annotator", "log", "policy-author"])
def test_a_key_trusted_for_something_else_does_not_issue_manifests(role):
    keyring = Keyring.of([(role, ISSUER.verify_key), ("manifest-issuer", READERS[0].verify_key)])
    with pytest.raises(ManifestSignatureError):
        decode_manifest(GOOD, keyring)
    with pytest.raises(ManifestSignatureError, match="lists no key"):
        decode_manifest(GOOD, Keyring.of([(role, ISSUER.verify_key)]))


def test_an_annotators_key_in_the_issuers_place_is_refused():
    with pytest.raises(ManifestSignatureError):
        decode_manifest(join(*split(GOOD), signer=READERS[0]), KEYRING)


def test_a_session_signed_by_a_key_other_than_its_credentials_is_refused():
    header, body = split(GOOD)
    with pytest.raises(ManifestSignatureError, match="session 1 is not signed under its credential `reader-1`"):
        decode_manifest(signed(header, body, [READERS[0], READERS[0]]), KEYRING)


def test_an_issuer_cannot_give_a_session_to_another_credential():
    header, body = split(GOOD)
    header["sessions"][0]["credential"], header["sessions"][1]["credential"] = "reader-1", "reader-0"
    header["root"] = digest_text(manifest_root(parse_header(canonical_json(header)).statements()))
    with pytest.raises(ManifestSignatureError, match="session 0"):
        decode_manifest(join(header, body), KEYRING)


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda header: header.update(name="other"),
        lambda header: header.update(taxonomy="t@2"),
        lambda header: header["fields"][0].update(values=["gold", "hint"]),
        lambda header: header["fields"][0].update(name="review"),
        lambda header: header.update(sources=["reader-1", "reader-0"]),
        lambda header: header["sessions"].reverse(),
    ],
    ids=["moved to another manifest", "another taxonomy", "values renamed", "attribute renamed", "sources", "order"],
)
def test_an_issuer_cannot_change_what_annotators_said(rewrite):
    header, body = split(GOOD)
    rewrite(header)
    header["root"] = digest_text(manifest_root(parse_header(canonical_json(header)).statements()))
    with pytest.raises(REFUSED):
        decode_manifest(join(header, body), KEYRING)


def test_an_issuer_cannot_drop_a_label():
    header, body = split(GOOD)
    header["sessions"][1]["size"] = 1
    header["size"] = 3
    header["root"] = digest_text(manifest_root(parse_header(canonical_json(header)).statements()))
    with pytest.raises(ManifestSignatureError, match="session 1"):
        decode_manifest(join(header, body), KEYRING)


def test_a_root_that_covers_other_sessions_is_refused():
    header, body = split(GOOD)
    header["root"] = "sha256:" + "00" * 32
    with pytest.raises(MalformedManifestError, match="does not cover"):
        decode_manifest(join(header, body), KEYRING)


def test_two_labels_swapped_are_noticed():
    header, body = split(GOOD)
    swapped = body[RECORD : 2 * RECORD] + body[:RECORD] + body[2 * RECORD :]
    with pytest.raises(MalformedManifestError, match="session 0"):
        decode_manifest(join(header, swapped), KEYRING)


def patched(at, value):
    header, body = split(GOOD)
    return resigned(header, body[:at] + value + body[at + len(value) :])


FIRST_EVENT = 4 * RECORD + 4


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (patched(4 * RECORD + 1, b"a"), "there twice"),
        (patched(4 * RECORD + 2, b"a"), "there twice"),
        (patched(4 * RECORD, b"\n"), "ill-formed example id"),
        (patched(4 * RECORD, b"\xff"), "ill-formed example id"),
        (patched(75, b"\x02\x00"), "value of `tier`"),
        (patched(75, b"\xfe\xff"), "value of `tier`"),
        (patched(71, b"\x80"), "before 1970"),
        (patched(72, b"\x00"), "not as long"),
        (patched(73, b"\xff\xff"), "not as long"),
        (patched(FIRST_EVENT, b"\x02\x00"), "source"),
        (patched(FIRST_EVENT + 21, b"\x80"), "time that does not exist"),
    ],
)
def test_labels_without_meaning_are_refused_even_when_everyone_signs_them(data, reason):
    with pytest.raises(MalformedManifestError, match=reason):
        decode_manifest(data, KEYRING)


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda header: header.update(format="aqpolicy manifest 2"),
        lambda header: header.update(extra=1),
        lambda header: header.pop("sources"),
        lambda header: header.update(size="4"),
        lambda header: header.update(size=True),
        lambda header: header.update(size=5),
        lambda header: header.update(sessions=[]),
        lambda header: header["sessions"][0].update(size=-2),
        lambda header: header["sessions"][0].update(size=0),
        lambda header: header["sessions"][0].update(credential="nobody"),
        lambda header: header["sessions"][0].update(root="sha256:" + "AA" * 32),
        lambda header: header["sessions"][0].update(root="sha256:00"),
        lambda header: header["sessions"][0].update(signature="AA=="),
        lambda header: header["sessions"][0].update(signature=header["sessions"][0]["signature"][:-3] + "B=="),
        lambda header: header["credentials"][0].update(key="nonsense"),
        lambda header: header["credentials"][0].update(key="a+b+c"),
        lambda header: header["credentials"].append(header["credentials"][0]),
        lambda header: header["credentials"].append({"authority": "", "holder": "", "id": "x", "key": "y"}),
        lambda header: header["fields"].append(header["fields"][0]),
        lambda header: header["fields"][0].update(values=[]),
        lambda header: header["fields"][1].update(values=["x"]),
        lambda header: header["fields"][0].update(kind="ordinal"),
        lambda header: header.update(name="m\n"),
        lambda header: header.update(taxonomy="t@1\n"),
        lambda header: header.update(root=None),
    ],
)
def test_a_signed_header_of_another_shape_is_refused(rewrite):
    header, body = split(GOOD)
    rewrite(header)
    with pytest.raises(REFUSED):
        decode_manifest(join(header, body), KEYRING)


def test_sizes_far_beyond_the_file_are_refused_before_they_are_used():
    header, body = split(GOOD)
    for part in header["sessions"]:
        part["size"] = 2**50
    header["size"] = 2**51
    with pytest.raises(MalformedManifestError, match="shorter than its header says"):
        decode_manifest(signed(header, body), KEYRING)


def test_a_header_that_is_not_canonical_is_refused():
    header, body = split(GOOD)
    envelope = seal(HEADER_TYPE, json.dumps(header).encode(), [ISSUER])
    with pytest.raises(MalformedManifestError, match="canonical"):
        decode_manifest(MAGIC + HEADER_LENGTH.pack(len(envelope)) + envelope + body, KEYRING)


def test_deep_nesting_in_a_header_is_refused():
    for payload in (b"[" * 100_000, b'{"a":' * 50_000):
        envelope = seal(HEADER_TYPE, payload, [ISSUER])
        with pytest.raises(MalformedManifestError):
            decode_manifest(MAGIC + HEADER_LENGTH.pack(len(envelope)) + envelope, KEYRING)


def test_an_envelope_sealed_for_another_purpose_is_no_header():
    header, body = split(GOOD)
    envelope = seal("application/vnd.aqpolicy.bundle+json", canonical_json(header), [ISSUER])
    with pytest.raises(MalformedManifestError, match="type"):
        decode_manifest(MAGIC + HEADER_LENGTH.pack(len(envelope)) + envelope + body, KEYRING)
