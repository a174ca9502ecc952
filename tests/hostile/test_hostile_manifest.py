"""Manifests as an attacker would write them: each must end in one of our errors, none in a `Manifest`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

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
from aqpolicy.provenance.header import HEADER_TYPE, SESSION, SESSION_TYPE, manifest_root, session_statement
from aqpolicy.provenance.issue import MAGIC
from aqpolicy.trust import (
    Cursor,
    Keyring,
    SigningKey,
    canonical_json,
    digest_text,
    leaf_hash,
    open_envelope,
    pre_authentication,
    root_of,
    seal,
    sha256,
    sized,
)

ISSUER = SigningKey.from_seed("issuer", bytes(32))
READERS = [SigningKey.from_seed(f"reader-{number}", bytes([number + 1]) * 32) for number in range(2)]
KEYRING = Keyring.of([("manifest-issuer", ISSUER.verify_key)])
REFUSED = (MalformedManifestError, ManifestSignatureError)
SCHEMA = (Field("tier", "category", ("hint", "gold")), Field("consensus", "numeric"))
RECORD = 32 + 32 + 8 + 1 + 2 + 2 + 8
EVENT = 22


def session(key: SigningKey, names: str) -> Session:
    credential = Credential(key.name, key.verify_key.text)
    return Session(credential, key, [observed(name, key.name) for name in names])


def observed(name: str, credential: str) -> Observation:
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


@dataclass(frozen=True)
class Apart:
    """A manifest in pieces, to be changed and put together again; nothing here checks anything."""

    head: dict[str, Any]
    context: Any
    credentials: Any
    sessions: list[list[Any]]
    """Of each: number of the credential, number of labels, root, signature."""
    body: bytes

    @classmethod
    def of(cls, data: bytes) -> Self:
        cursor = Cursor(data, "manifest")
        assert cursor.take(8) == MAGIC
        head = json.loads(open_envelope(cursor.sized(4), HEADER_TYPE, [ISSUER.verify_key]))
        context, credentials = json.loads(cursor.sized(4)), json.loads(cursor.sized(4))
        sessions = [list(SESSION.unpack(cursor.take(SESSION.size))) for _ in range(head["sessions"])]
        at = len(data) - 4 * (RECORD + 1 + EVENT)
        assert data[:at].endswith(sessions[-1][3])
        return cls(head, context, credentials, sessions, data[at:])

    def joined(self, signer: SigningKey = ISSUER, payload: bytes | None = None) -> bytes:
        """Put the pieces together; the issuer signs the head as it is."""
        envelope = seal(HEADER_TYPE, canonical_json(self.head) if payload is None else payload, [signer])
        parts = (envelope, canonical_json(self.context), canonical_json(self.credentials))
        table = b"".join(SESSION.pack(*each) for each in self.sessions)
        return b"".join((MAGIC, *(sized(part, 4) for part in parts), table, self.body))

    def vouched(self) -> Self:
        """Let the issuer say in the head what the other pieces are, and sign none of them."""
        self.head["context"] = digest_text(sha256(canonical_json(self.context)))
        self.head["credentials"] = digest_text(sha256(canonical_json(self.credentials)))
        self.head["root"] = digest_text(manifest_root(self.statements()))
        return self

    def signed(self, signers: Sequence[SigningKey] = READERS) -> Self:
        """Let faithless annotators sign the sessions as they are, and a faithless issuer vouch for all."""
        self.vouched()
        for part, statement, signer in zip(self.sessions, self.statements(), signers, strict=True):
            part[3] = signer.sign(pre_authentication(SESSION_TYPE, statement))
        return self

    def rooted(self) -> Self:
        """Give the sessions the roots of the labels as they are."""
        at, ids, events = 0, 4 * RECORD, 4 * RECORD + 4
        for part in self.sessions:
            leaves = []
            for index in range(at, at + part[1]):
                record = self.body[index * RECORD : (index + 1) * RECORD]
                event = self.body[events + index * EVENT : events + (index + 1) * EVENT]
                name = self.body[ids + index : ids + index + 1]
                leaves.append(leaf_hash(b"aqpolicy label 1\x00" + record + name + event))
            at += part[1]
            part[2] = root_of(leaves)
        return self

    def statements(self) -> list[bytes]:
        head, known = self.head, self.credentials["credentials"]
        return [
            session_statement(
                head["name"],
                head["purpose"],
                head["context"],
                credential=known[number]["id"],
                key=known[number]["key"],
                size=size,
                root=root,
            )
            for number, size, root, _ in self.sessions
        ]


def apart() -> Apart:
    return Apart.of(GOOD)


def refused(data: bytes, match: str | None = None, error: Any = REFUSED) -> None:
    with pytest.raises(error, match=match):
        decode_manifest(data, KEYRING)


def test_the_attackers_tools_make_good_manifests_too() -> None:
    assert apart().joined() == apart().rooted().signed().joined() == GOOD
    assert decode_manifest(GOOD, KEYRING).size == 4


def test_every_flipped_byte_is_noticed() -> None:
    for at in range(len(GOOD)):
        changed = bytearray(GOOD)
        changed[at] ^= 1 << at % 8
        refused(bytes(changed))


def test_every_truncation_and_any_addition_is_noticed() -> None:
    for end in range(0, len(GOOD), 7):
        refused(GOOD[:end])
    refused(GOOD + b"\x00", error=MalformedManifestError)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_other_bytes_raise_nothing_but_our_errors(data: bytes) -> None:
    for start in (b"", MAGIC, GOOD[:12]):
        refused(start + data)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(GOOD)), st.integers(0, 40), st.binary(max_size=40))
def test_a_stretch_replaced_by_other_bytes_is_noticed(at: int, length: int, data: bytes) -> None:
    changed = GOOD[:at] + data + GOOD[at + length :]
    if changed != GOOD:
        refused(changed)


def test_an_unknown_issuer_is_refused() -> None:
    refused(apart().joined(SigningKey.generate("issuer")), "no trusted key", ManifestSignatureError)


@pytest.mark.parametrize("role", ["annotator", "log", "policy-author"])
def test_a_key_trusted_for_something_else_does_not_issue_manifests(role: str) -> None:
    keyring = Keyring.of([(role, ISSUER.verify_key), ("manifest-issuer", READERS[0].verify_key)])
    with pytest.raises(ManifestSignatureError):
        decode_manifest(GOOD, keyring)
    with pytest.raises(ManifestSignatureError, match="lists no key"):
        decode_manifest(GOOD, Keyring.of([(role, ISSUER.verify_key)]))


def test_an_annotators_key_in_the_issuers_place_is_refused() -> None:
    refused(apart().joined(READERS[0]), error=ManifestSignatureError)


def test_a_session_signed_by_a_key_other_than_its_credentials_is_refused() -> None:
    data = apart().signed([READERS[0], READERS[0]]).joined()
    refused(data, "session 1 is not signed under its credential `reader-1`", ManifestSignatureError)


def swap_credentials(parts: Apart) -> None:
    parts.sessions[0][0], parts.sessions[1][0] = 1, 0


def swap_names(parts: Apart) -> None:
    first, second = parts.credentials["credentials"]
    first["id"], second["id"] = second["id"], first["id"]


def swap_keys(parts: Apart) -> None:
    first, second = parts.credentials["credentials"]
    first["key"], second["key"] = second["key"], first["key"]


def drop_a_label(parts: Apart) -> None:
    parts.sessions[1][1] = 1
    parts.head["size"] = 3


def drop_a_session(parts: Apart) -> None:
    del parts.sessions[1]
    del parts.credentials["credentials"][1]
    parts.head.update(size=2, sessions=1)


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda parts: parts.head.update(name="other"),
        lambda parts: parts.head.update(purpose="evaluation"),
        lambda parts: parts.context.update(taxonomy="t@2"),
        lambda parts: parts.context["fields"][0].update(values=["gold", "hint"]),
        lambda parts: parts.context["fields"][0].update(name="review"),
        lambda parts: parts.context.update(sources=["reader-1", "reader-0"]),
        lambda parts: parts.sessions.reverse(),
        swap_credentials,
        swap_names,
        swap_keys,
        drop_a_label,
    ],
    ids=[
        "moved to another manifest",
        "another purpose",
        "another taxonomy",
        "values renamed",
        "attribute renamed",
        "sources",
        "order",
        "another credential",
        "another name",
        "another key",
        "a label dropped",
    ],
)
def test_an_issuer_cannot_change_what_annotators_said(rewrite: Callable[[Apart], None]) -> None:
    parts = apart()
    rewrite(parts)
    data = parts.vouched().joined()
    assert data != GOOD
    refused(data)


def test_an_issuer_can_leave_out_a_session_and_the_root_says_so() -> None:
    parts = apart()
    drop_a_session(parts)
    kept = replace(parts, body=_labels(parts.body, 2))
    shorter = decode_manifest(kept.vouched().joined(), KEYRING)
    assert shorter.size == 2
    assert shorter.root != decode_manifest(GOOD, KEYRING).root


def _labels(body: bytes, count: int) -> bytes:
    """Return the first labels of four, each with an id of one letter and one event."""
    ids, events = 4 * RECORD, 4 * RECORD + 4
    return body[: count * RECORD] + body[ids : ids + count] + body[events : events + count * EVENT]


@pytest.mark.parametrize(
    ("rewrite", "reason"),
    [
        (lambda parts: parts.context.update(taxonomy="t@2"), "context of the manifest differ"),
        (lambda parts: parts.context["fields"].pop(), "context of the manifest differ"),
        (lambda parts: parts.credentials["credentials"][0].update(authority="x"), "credentials of the manifest differ"),
        (lambda parts: parts.credentials["credentials"][0].update(holder="x"), "credentials of the manifest differ"),
        (lambda parts: parts.credentials["credentials"][0].update(envelope="AA=="), "credentials of the manifest"),
    ],
)
def test_what_the_issuer_did_not_sign_is_refused(rewrite: Callable[[Apart], object], reason: str) -> None:
    parts = apart()
    rewrite(parts)
    refused(parts.joined(), reason, MalformedManifestError)


def test_a_root_that_covers_other_sessions_is_refused() -> None:
    parts = apart()
    parts.head["root"] = "sha256:" + "00" * 32
    refused(parts.joined(), "does not cover", MalformedManifestError)


def test_two_labels_swapped_are_noticed() -> None:
    body = apart().body
    swapped = replace(apart(), body=body[RECORD : 2 * RECORD] + body[:RECORD] + body[2 * RECORD :])
    refused(swapped.joined(), "session 0", MalformedManifestError)


def patched(at: int, value: bytes) -> bytes:
    parts = apart()
    return replace(parts, body=parts.body[:at] + value + parts.body[at + len(value) :]).rooted().signed().joined()


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
        (patched(3 * RECORD + 71, b"\xff"), "before 1970"),
        (patched(72, b"\x00"), "not as long"),
        (patched(72, b"\x00\x01\x00\x01\x00" + bytes(75)), "not as long"),
        (patched(73, b"\xff\xff"), "not as long"),
        (patched(FIRST_EVENT, b"\x02\x00"), "source"),
        (patched(FIRST_EVENT + 21, b"\x80"), "time that does not exist"),
        (patched(FIRST_EVENT + 3 * EVENT + 21, b"\x80"), "time that does not exist"),
    ],
)
def test_labels_without_meaning_are_refused_even_when_everyone_signs_them(data: bytes, reason: str) -> None:
    refused(data, reason, MalformedManifestError)


@pytest.mark.parametrize("lengths", [(0, 2, 1, 1), (1, 1, 0, 2), (0, 0, 0, 4)])
def test_ids_without_letters_are_refused_even_when_the_lengths_add_up(lengths: Sequence[int]) -> None:
    body = bytearray(apart().body)
    for index, length in enumerate(lengths):
        body[index * RECORD + 72] = length
    refused(replace(apart(), body=bytes(body)).signed().joined(), "ill-formed example id", MalformedManifestError)


def test_ids_that_are_too_long_are_refused_even_when_everyone_signs_them() -> None:
    body = bytearray(apart().body)
    body[72] = 65
    longer = bytes(body[: 4 * RECORD]) + b"x" * 64 + bytes(body[4 * RECORD :])
    refused(replace(apart(), body=longer).signed().joined(), "ill-formed example id", MalformedManifestError)


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda parts: parts.head.update(format="aqpolicy manifest 1"),
        lambda parts: parts.head.update(format="aqpolicy manifest 3"),
        lambda parts: parts.head.update(extra=1),
        lambda parts: parts.head.pop("serial"),
        lambda parts: parts.head.update(serial=0),
        lambda parts: parts.head.update(serial="1"),
        lambda parts: parts.head.update(supersedes=None),
        lambda parts: parts.head.update(supersedes="sha256:" + "AA" * 32),
        lambda parts: parts.head.update(size="4"),
        lambda parts: parts.head.update(size=True),
        lambda parts: parts.head.update(size=5),
        lambda parts: parts.head.update(size=3),
        lambda parts: parts.head.update(size=0),
        lambda parts: parts.head.update(size=-4),
        lambda parts: parts.head.update(size=2**53 - 1),
        lambda parts: parts.head.update(sessions=1),
        lambda parts: parts.head.update(sessions=3),
        lambda parts: parts.head.update(sessions=0),
        lambda parts: parts.head.update(sessions=50_000_000),
        lambda parts: parts.head.update(name="m\n"),
        lambda parts: parts.head.update(purpose="a b"),
        lambda parts: parts.head.update(root=None),
        lambda parts: parts.head.update(context="sha256:00"),
        lambda parts: parts.head.update(credentials=""),
    ],
)
def test_a_signed_head_of_another_shape_is_refused(rewrite: Callable[[Apart], object]) -> None:
    parts = apart()
    rewrite(parts)
    refused(parts.joined())


def add_session(parts: Apart, **changes: Any) -> None:
    parts.sessions.append([1, 0, bytes(32), bytes(64)])
    parts.head.update(sessions=3)


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda parts: parts.context.pop("sources"),
        lambda parts: parts.context.update(extra=1),
        lambda parts: parts.context.update(sources=["a", "a"]),
        lambda parts: parts.context.update(sources=["a b"]),
        lambda parts: parts.context.update(taxonomy="t@1\n"),
        lambda parts: parts.context.update(taxonomy="t"),
        lambda parts: parts.context["fields"].append(parts.context["fields"][0]),
        lambda parts: parts.context["fields"][0].update(values=[]),
        lambda parts: parts.context["fields"][0].update(values=["x", "x"]),
        lambda parts: parts.context["fields"][1].update(values=["x"]),
        lambda parts: parts.context["fields"][0].update(kind="ordinal"),
        lambda parts: parts.context["fields"][0].update(name=""),
        lambda parts: parts.credentials.update(extra=1),
        lambda parts: parts.credentials["credentials"][0].update(key="nonsense"),
        lambda parts: parts.credentials["credentials"][0].update(key="a+b+c"),
        lambda parts: parts.credentials["credentials"][0].update(id="reader-1"),
        lambda parts: parts.credentials["credentials"][0].update(id="reader 0"),
        lambda parts: parts.credentials["credentials"][0].update(envelope="A"),
        lambda parts: parts.credentials["credentials"][0].update(envelope="AB=="),
        lambda parts: parts.credentials["credentials"][0].pop("envelope"),
        lambda parts: parts.credentials["credentials"].append(dict(parts.credentials["credentials"][0], id="reader-2")),
        add_session,
    ],
)
def test_parts_of_another_shape_are_refused_even_when_everyone_signs_them(rewrite: Callable[[Apart], object]) -> None:
    parts = apart()
    rewrite(parts)
    signers = [*READERS, READERS[1]][: len(parts.sessions)]
    refused(parts.signed(signers).joined())


def test_a_session_of_a_credential_that_is_not_there_is_refused() -> None:
    parts = apart()
    parts.sessions[1][0] = 2
    refused(parts.joined(), "do not name each other", MalformedManifestError)


def test_sizes_far_beyond_the_file_are_refused_before_they_are_used() -> None:
    parts = apart()
    for part in parts.sessions:
        part[1] = 25_000_000
    parts.head["size"] = 50_000_000
    refused(parts.signed().joined(), "shorter than its head says", MalformedManifestError)


def test_parts_that_are_longer_than_the_file_are_refused() -> None:
    for length in (0xFFFFFFFF, len(GOOD), len(GOOD) - 12 + 1):
        refused(MAGIC + length.to_bytes(4, "little") + GOOD[12:], "cut short", MalformedManifestError)


def test_a_head_that_is_not_canonical_is_refused() -> None:
    payload = json.dumps(apart().head).encode()
    refused(apart().joined(payload=payload), "canonical", MalformedManifestError)


def test_deep_nesting_in_a_head_is_refused() -> None:
    for payload in (b"[" * 100_000, b'{"a":' * 50_000):
        refused(apart().joined(payload=payload), error=MalformedManifestError)


def test_an_envelope_sealed_for_another_purpose_is_no_head() -> None:
    envelope = seal("application/vnd.aqpolicy.bundle+json", canonical_json(apart().head), [ISSUER])
    refused(MAGIC + sized(envelope, 4) + GOOD[12:], "type", MalformedManifestError)


def test_a_manifest_of_format_1_is_not_read() -> None:
    refused(b"AQMANIF1" + GOOD[8:], "not a manifest that this version reads", MalformedManifestError)
