"""A13: a key signs what it is not trusted for, or its signature for one thing is shown as one for another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.attacking import denied, put_in_place, rows_of, take, take_away
from support.credentials import clinic, listing
from support.gating import tables
from support.lineage_runs import GENESIS, NAMES

from aqpolicy.bundle import PAYLOAD_TYPE as BUNDLE_TYPE
from aqpolicy.bundle import Bundle, encode_bundle, open_bundle, seal_bundle
from aqpolicy.errors import (
    AqpolicyError,
    BundleSignatureError,
    CanonicalError,
    KeyFormatError,
    ManifestSignatureError,
    SignatureError,
)
from aqpolicy.lineage import LineageWriter, verify_log
from aqpolicy.provenance import Credential, Field, Observation, Session, decode_manifest, encode_manifest
from aqpolicy.provenance.header import HEADER_TYPE, SESSION_TYPE
from aqpolicy.provenance.status import STATUS_TYPE, open_status_list, seal_status_list
from aqpolicy.provenance.taxonomy import TAXONOMY_TYPE, open_taxonomy, seal_taxonomy
from aqpolicy.trust import (
    Checkpoint,
    Keyring,
    SigningKey,
    VerifyKey,
    canonical_json,
    decode_base64,
    encode_base64,
    open_checkpoint,
    open_signed,
    parse_canonical,
    parse_keyring,
    pre_authentication,
    seal,
    sign_checkpoint,
    sign_keyring,
)
from aqpolicy.trust.keyring import _refuse_shared
from aqpolicy.trust.keyring_file import KEYRING_TYPE

ROLES = ("annotator", "annotator-ca", "log", "manifest-issuer", "policy-author", "root", "taxonomy", "witness")
HOLDERS = {role: SigningKey.from_seed(role, bytes([number + 1]) * 32) for number, role in enumerate(ROLES)}
KEYS = {role: (key.verify_key,) for role, key in HOLDERS.items()}
KEYRING = Keyring(KEYS, 1, "2999-12-31")
HEAD = Checkpoint("a/log", 7, bytes(32))


def manifest_by(issuer: SigningKey) -> bytes:
    reader = HOLDERS["annotator"]
    label = Observation("e", bytes(32), bytes(32), "r", 0, {"tier": "gold"})
    session = Session(Credential("r", reader.verify_key.text), reader, [label])
    return encode_manifest("m", "t@1", [Field("tier", "category", ("gold",))], [session], issuer)


def bundle_by(author: SigningKey) -> bytes:
    parameters = ((("w", (3,)),),)
    return seal_bundle(encode_bundle(Bundle(tables([[1.0]]), "p", "1", "t@1", parameters, {}, {}, ())), [author])


def open_head(note: str, keyring: Keyring) -> Checkpoint:
    return open_checkpoint(note, keyring.keys("log"))


def open_next(data: bytes, keyring: Keyring) -> bytes:
    return keyring.open(data, KEYRING_TYPE, "root").payload


DOORS: dict[str, tuple[str, Callable[[SigningKey], Any], Callable[[Any, Keyring], object], type[AqpolicyError]]] = {
    "head": ("log", lambda key: sign_checkpoint(HEAD, key), open_head, SignatureError),
    "list": ("log", lambda key: seal_status_list(listing(), [key]), open_status_list, SignatureError),
    "manifest": ("manifest-issuer", manifest_by, decode_manifest, ManifestSignatureError),
    "policy": ("policy-author", bundle_by, open_bundle, BundleSignatureError),
    "keyring": ("root", lambda key: sign_keyring(KEYRING, [key]), open_next, SignatureError),
    "taxonomy": ("taxonomy", lambda key: seal_taxonomy(clinic(), [key]), open_taxonomy, SignatureError),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_key_signs_for_its_own_role_only(monkeypatch: pytest.MonkeyPatch, door: str) -> None:
    role, made, opened, error = DOORS[door]
    others = [made(key) for name, key in HOLDERS.items() if name != role]
    opened(made(HOLDERS[role]), KEYRING)
    for document in others:
        denied(lambda document=document: opened(document, KEYRING), error, "no trusted key signed this")
    everyone = tuple(key.verify_key for key in HOLDERS.values())
    put_in_place(monkeypatch, Keyring.keys, lambda *_: everyone)  # any key that the operator knows
    for document in others:
        opened(document, KEYRING)


@pytest.mark.parametrize("role", ["manifest-issuer", "witness"])
def test_a_log_that_another_key_of_the_keyring_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    writer = LineageWriter.create(tmp_path, GENESIS, HOLDERS[role], **NAMES)
    take(writer, rows_of(0, 2))
    writer.close()
    said = f"no trusted key signed this checkpoint; it is signed by `{role}`"
    denied(lambda: verify_log(tmp_path, KEYRING), SignatureError, said)
    put_in_place(monkeypatch, Keyring.keys, lambda self, _: self.roles[role])
    assert verify_log(tmp_path, KEYRING).steps == 1


@pytest.mark.parametrize("role", ["manifest-issuer", "policy-author", "root", "witness"])
def test_one_key_does_not_watch_over_itself(monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    renamed = VerifyKey("somebody-else", HOLDERS["log"].verify_key.public)
    listed = [{"key": key.text, "role": name} for name, keys in KEYS.items() for key in keys]
    facts = {
        "expires": "2999-12-31",
        "format": "aqpolicy keyring 1",
        "keys": [*listed, {"key": renamed.text, "role": role}],
        "thresholds": {},
        "version": 1,
    }
    data = seal(KEYRING_TYPE, canonical_json(facts), [HOLDERS["root"]])
    denied(lambda: parse_keyring(data), KeyFormatError, "shares its keys with no other role")
    take_away(monkeypatch, _refuse_shared, "shares its keys with no other role")
    assert parse_keyring(data).version == 1


# ---- one signature for another


TYPES = (BUNDLE_TYPE, HEADER_TYPE, KEYRING_TYPE, SESSION_TYPE, STATUS_TYPE, TAXONOMY_TYPE)


@pytest.mark.parametrize("asked", TYPES)
def test_a_signature_of_one_type_under_the_name_of_another(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    key, trusted = HOLDERS["log"], KEYRING.keys("log")

    def relabelled(made_for: str) -> bytes:
        value: Any = parse_canonical(seal(made_for, b"x", [key]))
        return canonical_json({**value, "payloadType": asked})

    for made_for in TYPES:
        as_it_is, data = seal(made_for, b"x", [key]), relabelled(made_for)
        if made_for != asked:
            denied(lambda d=as_it_is: open_signed(d, asked, trusted), CanonicalError, "the envelope is not of the type")
            denied(lambda d=data: open_signed(d, asked, trusted), SignatureError, "the bytes were altered")
    put_in_place(monkeypatch, pre_authentication, lambda _, payload: payload)
    for made_for in TYPES:
        assert open_signed(relabelled(made_for), asked, trusted).payload == b"x"


def note_of(signature: bytes) -> str:
    key = HOLDERS["log"].verify_key
    return f"{HEAD.text}\n— {key.name} {encode_base64(key.key_id + signature)}\n"


def test_a_signature_of_an_envelope_on_a_head_and_the_other_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    key, text = HOLDERS["log"], HEAD.text.encode()

    def as_head() -> Checkpoint:
        value: Any = parse_canonical(seal(STATUS_TYPE, text, [key]))
        return open_checkpoint(note_of(decode_base64(value["signatures"][0]["sig"])), KEYRING.keys("log"))

    def as_envelope() -> bytes:
        value: Any = parse_canonical(seal(STATUS_TYPE, text, [key]))
        value["signatures"][0]["sig"] = encode_base64(key.sign(text))
        return KEYRING.open(canonical_json(value), STATUS_TYPE, "log").payload

    for show in (as_head, as_envelope):
        denied(show, SignatureError, "the bytes were altered")
    put_in_place(monkeypatch, pre_authentication, lambda _, payload: payload)
    assert (as_head(), as_envelope()) == (HEAD, text)
