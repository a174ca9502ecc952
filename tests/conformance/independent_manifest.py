"""A second reader of manifests, written from docs/formats/manifest.md alone; of the first it shares no code.

It says what a manifest holds or raises `RefusedError`. Simple and slow: label by label, trees by their definition.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from struct import calcsize, unpack, unpack_from
from typing import Any

from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

HEAD_TYPE, SESSION_TYPE = "application/vnd.aqpolicy.manifest+json", "application/vnd.aqpolicy.session+json"
HEAD = {"format", "name", "purpose", "serial", "supersedes", "context", "credentials", "sessions", "size", "root"}
NAME = re.compile(r"[A-Za-z0-9._:/-]{1,64}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
MOST = 50_000_000


class RefusedError(Exception):
    """The bytes are not what the document says."""


def need(held: object, what: str) -> None:
    if not held:
        raise RefusedError(what)


@dataclass(frozen=True)
class Label:
    example: str
    example_digest: bytes
    label_digest: bytes
    time: int
    attributes: dict[str, object]
    history: list[tuple[str, int, int, int]]
    credential: str


@dataclass(frozen=True)
class Read:
    head: dict[str, Any]
    taxonomy: str
    labels: list[Label]


def read(data: bytes, issuers: dict[str, bytes], threshold: int = 1) -> Read:
    """Return what a manifest holds; `issuers` are public keys by the name that signatures give them."""
    try:
        return _read(data, issuers, threshold)
    except RefusedError:
        raise
    except Exception as error:
        raise RefusedError(repr(error)) from error


def _read(data: bytes, issuers: dict[str, bytes], threshold: int) -> Read:
    need(data[:8] == b"AQMANIF2", "magic")
    at, parts = 8, []
    for _ in range(3):
        (length,) = unpack_from("<I", data, at)
        need(at + 4 + length <= len(data), "length")
        parts.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    head = head_of(open_envelope(parts[0], HEAD_TYPE, issuers, threshold))
    context, credentials = context_of(parts[1], head["context"]), credentials_of(parts[2], head["credentials"])
    sessions = []
    for _ in range(head["sessions"]):
        sessions.append(unpack_from("<HI32s64s", data, at))
        at += 102
    need({each[0] for each in sessions} == set(range(len(credentials))), "every credential has a session")
    need(all(each[1] for each in sessions) and sum(each[1] for each in sessions) == head["size"], "sizes")
    statements = []
    for number, size, session_root, signature in sessions:
        who = credentials[number]
        statement = statement_of(head, who["id"], who["key"], size, session_root)
        check(key_of(who["key"]), signature, encoding(SESSION_TYPE, statement))
        statements.append(statement)
    need(named(root([leaf_hash(each) for each in statements])) == head["root"], "root")
    cut = Labels(data, at, context, head["size"])
    labels: list[Label] = []
    for number, size, session_root, _ in sessions:
        leaves = [cut.take(len(labels) + each) for each in range(size)]
        need(root([leaf_hash(leaf) for leaf in leaves]) == session_root, "session root")
        labels += [label_of(leaf, context, credentials[number]["id"]) for leaf in leaves]
    need(cut.id_at == cut.ids_end and cut.event_at == len(data), "end")
    need(len({label.example for label in labels}) == len(labels), "an example twice")
    return Read(head, context["taxonomy"], labels)


class Labels:
    """Cuts leaves out of three columns."""

    def __init__(self, data: bytes, at: int, context: dict[str, Any], size: int) -> None:
        self.data, self.at, self.width = data, at, width_of(context)
        self.id_at = at + size * self.width
        need(self.id_at <= len(data), "records")
        self.ids_end = self.event_at = self.id_at + sum(data[at + n * self.width + 72] for n in range(size))

    def take(self, index: int) -> bytes:
        record = self.data[self.at + index * self.width :][: self.width]
        length, events = unpack_from("<BH", record, 72)
        name, history = self.data[self.id_at :][:length], self.data[self.event_at :][: 22 * events]
        self.id_at, self.event_at = self.id_at + length, self.event_at + 22 * events
        return b"aqpolicy label 1\x00" + record + name + history


def label_of(leaf: bytes, context: dict[str, Any], credential: str) -> Label:
    need(leaf[:17] == b"aqpolicy label 1\x00", "leaf")
    width = width_of(context)
    record = leaf[17 : 17 + width]
    example_digest, digest, time, length, count = unpack_from("<32s32sqBH", record)
    name, events = leaf[17 + width :][:length], leaf[17 + width + length :]
    need(NAME.fullmatch(name.decode("ascii")) and len(name) == length, "id")
    need(time >= 0 and len(events) == 22 * count, "label")
    attributes: dict[str, object] = {}
    at = 75
    for field in context["fields"]:
        category = field["kind"] == "category"
        code, unknown = ("<H", 0xFFFF) if category else ("<q", -(2**63))
        (value,) = unpack_from(code, record, at)
        at += calcsize(code)
        if value != unknown:
            attributes[field["name"]] = field["values"][value] if category else value
    history = []
    for number in range(count):
        source, consensus, judgments, when = unpack("<HqIq", events[22 * number :][:22])
        need(when >= 0, "event")
        history.append((context["sources"][source], consensus, judgments, when))
    return Label(name.decode("ascii"), example_digest, digest, time, attributes, history, credential)


def width_of(context: dict[str, Any]) -> int:
    return 75 + sum(2 if field["kind"] == "category" else 8 for field in context["fields"])


def head_of(payload: bytes) -> dict[str, Any]:
    head = canonical(payload)
    need(set(head) == HEAD and head["format"] == "aqpolicy manifest 2", "head")
    need(NAME.fullmatch(head["name"]) and NAME.fullmatch(head["purpose"]), "names")
    need(all(DIGEST.fullmatch(head[each]) for each in ("context", "credentials", "root")), "digests")
    need(not head["supersedes"] or DIGEST.fullmatch(head["supersedes"]), "supersedes")
    for member, most in (("serial", 2**53 - 1), ("sessions", MOST), ("size", MOST)):
        need(type(head[member]) is int and 1 <= head[member] <= most, member)
    return head


def context_of(data: bytes, digest: str) -> dict[str, Any]:
    need(named(sha256(data).digest()) == digest, "digest of the context")
    context = canonical(data)
    need(set(context) == {"fields", "sources", "taxonomy"}, "context")
    need(re.fullmatch(r"[A-Za-z0-9._-]{1,64}@[0-9]{1,9}", context["taxonomy"]), "taxonomy")
    need(all(NAME.fullmatch(each) for each in context["sources"]), "sources")
    once(context["sources"], 65_535)
    once([field["name"] for field in context["fields"]], 2**32)
    for field in context["fields"]:
        need(set(field) == {"kind", "name", "values"} and field["kind"] in {"category", "numeric"}, "field")
        need(all(word(each) for each in (field["name"], *field["values"])), "words")
        need(bool(field["values"]) == (field["kind"] == "category"), "values")
        once(field["values"], 65_534)
    return context


def credentials_of(data: bytes, digest: str) -> list[dict[str, str]]:
    need(named(sha256(data).digest()) == digest, "digest of the credentials")
    value = canonical(data)
    need(set(value) == {"credentials"}, "credentials")
    found: list[dict[str, str]] = value["credentials"]
    once([each["id"] for each in found], 65_535)
    for each in found:
        need(set(each) == {"id", "key", "holder", "authority", "envelope"}, "credential")
        need(NAME.fullmatch(each["id"]) and word(each["key"]), "credential")
        need(all(isinstance(each[part], str) and len(each[part]) <= 512 for part in ("holder", "authority")), "texts")
        need(len(each["envelope"]) <= 2**18, "envelope")
        base64_bytes(each["envelope"])
    return found


def once(values: Sequence[str], most: int) -> None:
    need(len(set(values)) == len(values) <= most, "there twice, or too many")


def word(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 128


def statement_of(head: dict[str, Any], who: str, key: str, size: int, session_root: bytes) -> bytes:
    return dumped(
        {
            "context": head["context"],
            "credential": who,
            "key": key,
            "manifest": head["name"],
            "purpose": head["purpose"],
            "root": named(session_root),
            "size": size,
        }
    )


def check_label(data: bytes, manifest_root: bytes, issuers: dict[str, bytes]) -> Label:
    """Return the label that evidence shows; docs/formats/proof.md, "The label"."""
    try:
        return _check_label(data, manifest_root, issuers)
    except RefusedError:
        raise
    except Exception as error:
        raise RefusedError(repr(error)) from error


def _check_label(data: bytes, manifest_root: bytes, issuers: dict[str, bytes]) -> Label:
    rest = memoryview(data)

    def take(count: int) -> bytes:
        nonlocal rest
        need(len(rest) >= count, "cut short")
        taken, rest = bytes(rest[:count]), rest[count:]
        return taken

    def number(width: int) -> int:
        return int.from_bytes(take(width), "little")

    def path() -> list[bytes]:
        joined = take(number(2))
        need(len(joined) % 32 == 0 and len(joined) <= 63 * 32, "path")
        return [joined[at : at + 32] for at in range(0, len(joined), 32)]

    def packed(kind: str) -> bytes:
        payload = take(number(4))
        signatures = [{"keyid": take(number(2)).decode(), "sig": b64(take(number(2)))} for _ in range(number(1))]
        envelope = dumped({"payload": b64(payload), "payloadType": kind, "signatures": signatures})
        return envelope if payload or signatures else b""

    need(take(4) == b"AQE1", "magic")
    leaf, index, leaf_path = take(number(4)), number(4), path()
    size, session_root, session, session_path = number(4), take(32), number(4), path()
    who, key, signature = take(number(2)).decode(), take(number(2)).decode(), take(64)
    context_bytes, envelope = take(number(4)), packed(HEAD_TYPE)
    credential = packed("application/vnd.aqpolicy.credential+json;version=1")
    need(not rest and not credential, "what follows")
    head = head_of(open_envelope(envelope, HEAD_TYPE, issuers, 1))
    need(head["root"] == named(manifest_root), "another manifest")
    statement = statement_of(head, who, key, size, session_root)
    need(climbed(leaf_hash(statement), session, head["sessions"], session_path) == manifest_root, "session path")
    need(climbed(leaf_hash(leaf), index, size, leaf_path) == session_root, "label path")
    check(key_of(key), signature, encoding(SESSION_TYPE, statement))
    return label_of(leaf, context_of(context_bytes, head["context"]), who)


def open_envelope(data: bytes, kind: str, issuers: dict[str, bytes], threshold: int) -> bytes:
    envelope = canonical(data)
    need(set(envelope) == {"payload", "payloadType", "signatures"} and envelope["payloadType"] == kind, "envelope")
    signatures = envelope["signatures"]
    once([each["keyid"] for each in signatures], 16)
    payload, good = base64_bytes(envelope["payload"]), set()
    for each in signatures:
        need(set(each) == {"keyid", "sig"}, "signature")
        signature = base64_bytes(each["sig"])
        need(len(signature) == 64, "signature")
        if each["keyid"] in issuers:
            check(issuers[each["keyid"]], signature, encoding(kind, payload))
            good.add(issuers[each["keyid"]])
    need(len(good) >= threshold >= 1, "too few signatures")
    return payload


def encoding(kind: str, payload: bytes) -> bytes:
    return b" ".join([b"DSSEv1", str(len(kind)).encode(), kind.encode(), str(len(payload)).encode(), payload])


def key_of(text: str) -> bytes:
    name, key_id, encoded = text.split("+", 2)
    data = base64_bytes(encoded)
    need(re.fullmatch(r"[!-*,-~]{1,128}", name) and len(data) == 33 and data[0] == 1, "key")
    need(sha256(name.encode() + b"\n" + data).digest()[:4].hex() == key_id, "key id")
    return data[1:]


def check(key: bytes, signature: bytes, message: bytes) -> None:
    try:
        VerifyKey(key).verify(message, signature)
    except CryptoError as error:
        raise RefusedError("signature") from error


def canonical(data: bytes) -> dict[str, Any]:
    value = json.loads(data)
    need(isinstance(value, dict) and dumped(value) == data, "not canonical")
    return dict(value)


def dumped(value: object) -> bytes:
    # Enough of RFC 8785 here: keys are ASCII, and no number has a fraction that could be spelt in two ways.
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def b64(data: bytes) -> str:
    return b64encode(data).decode()


def base64_bytes(text: str) -> bytes:
    data = b64decode(text, validate=True)
    need(b64(data) == text, "base64")
    return data


def named(digest: bytes) -> str:
    return f"sha256:{digest.hex()}"


def leaf_hash(data: bytes) -> bytes:
    return sha256(b"\x00" + data).digest()


def root(hashes: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word."""
    if len(hashes) == 1:
        return hashes[0]
    split = largest_power_below(len(hashes))
    return sha256(b"\x01" + root(hashes[:split]) + root(hashes[split:])).digest()


def climbed(node: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """Return the root that a path leads to; the path of RFC 6962, 2.1.1, taken apart from its far end."""
    need(0 <= index < size, "index")
    if size == 1:
        need(not path, "path too long")
        return node
    need(path, "path too short")
    split = largest_power_below(size)
    if index < split:
        return sha256(b"\x01" + climbed(node, index, split, path[:-1]) + path[-1]).digest()
    return sha256(b"\x01" + path[-1] + climbed(node, index - split, size - split, path[:-1])).digest()


def largest_power_below(size: int) -> int:
    return 1 << (size - 1).bit_length() - 1
