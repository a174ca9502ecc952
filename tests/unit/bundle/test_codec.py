"""Bundles come back as they went in, and the same contents give the same bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aqpolicy.bundle import (
    NO_LIMIT,
    PAYLOAD_TYPE,
    AttributeTable,
    BudgetTable,
    Bundle,
    EvidenceTable,
    ObligationTable,
    Row,
    StageTable,
    Tables,
    decode_bundle,
    encode_bundle,
    load_bundle,
    open_bundle,
    seal_bundle,
)
from aqpolicy.errors import BundleSignatureError, InputError, MalformedBundleError
from aqpolicy.trust import Keyring, SigningKey, seal, sha256

KEY = SigningKey.from_seed("author", bytes(range(32)))
KEYRING = Keyring.of([("policy-author", KEY.verify_key)])


def small_bundle() -> Bundle:
    error = Row("deny", "error", (0, 0), (NO_LIMIT, NO_LIMIT), (0,), (), "an attribute is missing")
    some = Row("modulate", "granted", (1_000_000, 500_000), (NO_LIMIT, 10_000), (1_000_000,), ("hint",), "a hint")
    none = Row("deny", "default", (0, 0), (NO_LIMIT, NO_LIMIT), (0,), (), "nobody says so")
    loud = Row(
        effect="modulate",
        cause="granted",
        shares=(3_000_000, 0),
        norms=(NO_LIMIT, NO_LIMIT),
        charged=(3_000_000,),
        rules=("loud",),
        reason="loud",
        linear=((0, 1, 1_000_000, -500_000),),
        obligations=(0, 2, 3),
    )
    waits = Row("defer", "denied", (0, 0), (NO_LIMIT, NO_LIMIT), (0,), ("waits",), "wait", obligations=(1,))
    verified = {"amount": 1, "direction": "falls", "metric": "gold.auc", "remedy": "hold", "steps": 9}
    tables = Tables(
        groups=("surface", "head"),
        attributes=(
            AttributeTable("authority", "category", ("crowd", "expert"), (), 0, 1, (1 << 70, 1)),
            AttributeTable("consensus", "numeric", (), (0, 500_000), 1_000_000, 1, (1 << 70, 1 | 1 << 70)),
            AttributeTable("evidence", "numeric", (), (0,), 3_000_000, 1, (1 | 1 << 70,), "evidence"),
        ),
        rows=(error, some, none, loud, waits),
        row_of_vector={1 << 70: 1, 0: 2, 1: 1, 2: 3, 3: 4},
        budgets=(
            BudgetTable(
                "all",
                (0, 1),
                6_000_000,
                NO_LIMIT,
                10**15,
                NO_LIMIT,
                "deny",
                (("drift", "run", 5), ("movement", "step", 6)),
            ),
        ),
        obligations=(
            ObligationTable("frequency", "loud", "seldom", {"groups": (0, 1), "steps": 10, "updates": 1}),
            ObligationTable("defer", "waits", "wait", {"epochs": 3}),
            ObligationTable("verify", "loud", "look", verified),
            ObligationTable("promote", "loud", "later", {"metric": "a", "op": ">=", "value": -1, "witnesses": 2}),
        ),
        requires=(
            "amplify",
            "deferral",
            "drift budget",
            "evidence weighting",
            "frequency limit",
            "linear share",
            "movement budget",
            "promotion",
            "share",
            "stages",
            "verification",
        ),
        evidence=EvidenceTable((("authority", (("crowd", 1), ("board", 0))),), ("session", "model"), 0, 3_000_000),
        phases=("warm", "main"),
        stages=(StageTable("basic"), StageTable("advanced", (("gold.auc", ">=", -1),))),
    )
    return Bundle(
        tables=tables,
        policy_name="radiology.lidc",
        policy_version="1.0.0",
        taxonomy="lidc.readers@1",
        parameters=((("conv.weight", (8, 1, 3, 3)),), (("head.weight", (2, 8)), ("head.bias", (2,)))),
        digests={"source": "sha256:00"},
        source_map={"hint": "policy.aqp:31"},
        findings=("proved: all",),
    )


def test_a_payload_decodes_to_what_was_encoded() -> None:
    payload = encode_bundle(small_bundle())
    assert decode_bundle(payload) == replace(small_bundle(), digest=sha256(payload))
    assert encode_bundle(decode_bundle(payload)) == payload


def test_the_same_contents_and_key_give_the_same_file() -> None:
    one, other = (seal_bundle(encode_bundle(small_bundle()), [KEY]) for _ in range(2))
    assert one == other


def test_vectors_longer_than_an_exact_number_survive() -> None:
    tables = decode_bundle(encode_bundle(small_bundle())).tables
    assert tables.row_of({"authority": "crowd", "consensus": 0, "evidence": 1}) == 1
    assert tables.row_of({"authority": "crowd", "consensus": 0.5, "evidence": 1}) == 0


def test_a_signed_bundle_loads_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "x.aqb"
    path.write_bytes(seal_bundle(encode_bundle(small_bundle()), [KEY]))
    assert load_bundle(path, KEYRING).policy_name == "radiology.lidc"


def test_a_bundle_of_another_version_is_a_signature_for_another_purpose() -> None:
    data = seal(PAYLOAD_TYPE.replace("version=2", "version=1"), encode_bundle(small_bundle()), [KEY])
    with pytest.raises(MalformedBundleError):
        open_bundle(data, KEYRING)


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the bundle"):
        load_bundle(tmp_path / "none.aqb", KEYRING)


def test_a_stranger_s_signature_is_refused() -> None:
    data = seal_bundle(encode_bundle(small_bundle()), [SigningKey.from_seed("stranger", bytes(32))])
    with pytest.raises(BundleSignatureError, match="stranger"):
        open_bundle(data, KEYRING)


def test_a_key_of_another_role_is_refused() -> None:
    data = seal_bundle(encode_bundle(small_bundle()), [KEY])
    with pytest.raises(BundleSignatureError):
        open_bundle(data, Keyring.of([("log", KEY.verify_key)]))


def test_a_signature_for_another_purpose_is_refused() -> None:
    data = seal("application/vnd.aqpolicy.manifest+json", encode_bundle(small_bundle()), [KEY])
    with pytest.raises(MalformedBundleError):
        open_bundle(data, KEYRING)
