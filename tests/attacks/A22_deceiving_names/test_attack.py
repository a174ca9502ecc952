"""A22: names that look like others, run backwards, or are no text."""

from __future__ import annotations

from typing import Any

import pytest
from support.attacking import denied, put_in_place
from support.lineage_runs import GENESIS, KEY, NAMES

from aqpolicy.errors import CanonicalError, CorruptLogError, KeyFormatError, LineageError, ProvenanceError
from aqpolicy.lineage import genesis
from aqpolicy.lineage.entry import GENESIS as GENESIS_KIND
from aqpolicy.lineage.entry import encode_entry, encode_facts
from aqpolicy.lineage.genesis import first_facts, parse_genesis
from aqpolicy.provenance.credential import AnnotatorCredential, new_credential
from aqpolicy.trust import SigningKey, VerifyKey, canonical_json, example_key, keys, parse_canonical

DECEIVING = ("\u202ereversed", "zero\u200bwidth", "line\nbreak", "bell\a", "\x1b[31mred")


@pytest.mark.parametrize("name", DECEIVING)
def test_what_a_run_prints_can_be_printed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def begun() -> dict[str, Any]:
        return first_facts(GENESIS, "key", (*NAMES["groups"], name), NAMES["budgets"])

    denied(begun, LineageError, "the first entry of the log would not describe a run; look at its names")
    with monkeypatch.context() as careless:
        put_in_place(careless, genesis._is_name, lambda _: True)
        data = encode_entry(GENESIS_KIND, encode_facts(begun()))
        assert name in parse_genesis(data)["groups"]
    said = "the first entry does not describe a run of this version"  # nor is it read from whoever wrote it
    denied(lambda: parse_genesis(data), CorruptLogError, said, where="entry 0")


@pytest.mark.parametrize("name", [*DECEIVING, "l\u043eg", "log key", "a+b", "", "x" * 129])
def test_a_key_has_a_plain_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    said = "a key's name is 1 to 128 ASCII characters without spaces and `+`"
    denied(lambda: SigningKey.from_seed(name, bytes(32)), KeyFormatError, said)
    denied(lambda: VerifyKey(name, KEY.verify_key.public), KeyFormatError, said)
    put_in_place(monkeypatch, keys._check_name, lambda _: None)
    assert VerifyKey(name, KEY.verify_key.public).name == name


@pytest.mark.parametrize("name", [*DECEIVING, "r\u0435ader", "reader 7", "", "x" * 500])
def test_a_credential_has_a_plain_name(name: str) -> None:
    def granted() -> AnnotatorCredential:
        return new_credential(
            id=name,
            pseudonym="p",
            authority="reader",
            taxonomy="clinic@1",
            scopes=("nodule",),
            key=KEY.verify_key.text,
            issued_by="annotator-ca",
            issued_on="2026-01-01",
            valid_from="2026-01-01",
            valid_until="2026-01-31",
        )

    denied(granted, ProvenanceError, "the credential is wrong at `id`: String should match pattern")


def test_a_lone_surrogate_is_no_text() -> None:
    for refuse in (
        lambda: example_key("\ud800"),
        lambda: canonical_json("\ud800"),
        lambda: parse_canonical(b'"\\ud800"'),
    ):
        denied(refuse, CanonicalError, "lone surrogate")


def test_two_spellings_are_two_names() -> None:
    composed, decomposed = "\u00e9", "e\u0301"  # alike on the screen
    assert example_key(composed) != example_key(decomposed)
