"""Ed25519 at its edges: exactly what libsodium accepts, pinned, so that an upgrade that moves the edge is noticed."""

from __future__ import annotations

import hashlib
import json

from aqpolicy.errors import AqpolicyError
from aqpolicy.trust import VerifyKey


def accepts(key, signature, message):
    try:
        VerifyKey("k", bytes.fromhex(key)).verify(bytes.fromhex(signature), message)
    except AqpolicyError:
        return False
    return True


def test_the_accepted_edge_cases_are_the_43_of_libsodium(vectors):
    cases = json.loads(vectors("ed25519/ed25519vectors.json").read_text())
    accepted = [case["number"] for case in cases if accepts(case["key"], case["sig"], case["msg"].encode())]
    assert (len(cases), len(accepted)) == (914, 43)
    assert (
        hashlib.sha256(json.dumps(accepted).encode()).hexdigest()
        == "0a926497939b17c6efad01da9bb7a62f783271d48556800673380a813451a8c9"
    )


def test_wycheproof_is_judged_as_it_says(vectors):
    groups = json.loads(vectors("wycheproof/ed25519_test.json").read_text())["testGroups"]
    cases = [(group["publicKey"]["pk"], case) for group in groups for case in group["tests"]]
    wrong = [
        case["tcId"]
        for key, case in cases
        if accepts(key, case["sig"], bytes.fromhex(case["msg"])) != (case["result"] == "valid")
    ]
    assert (len(cases), wrong) == (151, [])
