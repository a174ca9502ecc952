"""Signed heads, the signed state and canonical JSON, for the second verifier (attack A37).

Signatures are libsodium's own; nothing of the product is in between.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import Any

from attacks.independent_leaves import digest, need
from nacl.bindings import crypto_sign_open

STATE = "application/vnd.aqpolicy.log-state+json;version=3"


def head_of(note: bytes, keys: dict[str, bytes], origin: str) -> tuple[int, bytes]:
    text, _, lines = note.decode().rpartition("\n\n")
    said, size, top = text.split("\n")
    need(note == f"{origin}\n{int(size)}\n{b64encode(b64decode(top)).decode()}\n\n{lines}".encode(), "head")
    count = 0
    for dash, name, data in [line.split(" ") for line in lines[:-1].split("\n")]:
        raw, key = b64decode(data, validate=True), keys.get(name, b"")
        if key and raw[:4] == digest(name.encode() + b"\n\1" + key)[:4]:
            crypto_sign_open(raw[4:] + f"{text}\n".encode(), key)
            count += dash == "—" and b64encode(raw).decode() == data
    need(count and lines.endswith("\n") and said == origin, "head")
    return int(size), b64decode(top)


def facts_of(data: bytes) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(data)
    plain = json.dumps(facts, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    need(isinstance(facts, dict) and plain == data and not odd(facts), "JSON")
    return facts


def odd(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, float) or (type(value) is int and abs(value) >= 2**53) or any(map(odd, inner))


def state_of(data: bytes, keys: dict[str, bytes]) -> dict[str, Any]:
    sealed = facts_of(data)
    need(sealed.keys() == {"payload", "payloadType", "signatures"} and sealed["signatures"], "state")
    text = b64decode(sealed["payload"], validate=True)
    for item in sealed["signatures"]:
        name, _, number = item["keyid"].partition("+")
        need(digest(name.encode() + b"\n\1" + keys[name])[:4].hex() == number, "key")
        crypto_sign_open(
            b64decode(item["sig"]) + f"DSSEv1 {len(STATE)} {STATE} {len(text)} ".encode() + text, keys[name]
        )
        need(b64encode(b64decode(item["sig"])).decode() == item["sig"] and item.keys() == {"keyid", "sig"}, "spelling")
    need(sealed["payloadType"] == STATE and b64encode(text).decode() == sealed["payload"], "spelling")
    return facts_of(text)
