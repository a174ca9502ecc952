"""A22: names that look like others, run backwards, or are no text."""

from __future__ import annotations

import pytest
from support.lineage_runs import GENESIS, NAMES

from aqpolicy.errors import AqpolicyError, CanonicalError, LineageError
from aqpolicy.lineage import genesis
from aqpolicy.lineage.genesis import first_facts
from aqpolicy.provenance.credential import new_credential
from aqpolicy.trust import canonical_json, example_key, parse_canonical

DECEIVING = ("\u202ereversed", "zero\u200bwidth", "line\nbreak", "bell\a", "\x1b[31mred")


@pytest.mark.parametrize("name", DECEIVING)
def test_what_a_run_prints_can_be_printed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(LineageError, match="look at its names"):
        first_facts(GENESIS, "key", (*NAMES["groups"], name), NAMES["budgets"])
    monkeypatch.setattr(genesis, "_is_name", lambda _: True)
    assert name in first_facts(GENESIS, "key", (*NAMES["groups"], name), NAMES["budgets"])["groups"]


@pytest.mark.parametrize("name", [*DECEIVING, "r\u0435ader", "reader 7", "", "x" * 500])
def test_a_credential_has_a_plain_name(name: str) -> None:
    with pytest.raises(AqpolicyError):
        new_credential(
            id=name,
            pseudonym="p",
            authority="reader",
            taxonomy="clinic@1",
            scopes=("nodule",),
            key="k",
            issued_by="annotator-ca",
            issued_on="2026-01-01",
            valid_from="2026-01-01",
            valid_until="2026-01-31",
        )


def test_a_lone_surrogate_is_no_text() -> None:
    for refuse in (
        lambda: example_key("\ud800"),
        lambda: canonical_json("\ud800"),
        lambda: parse_canonical(b'"\\ud800"'),
    ):
        with pytest.raises(CanonicalError):
            refuse()


def test_two_spellings_are_two_names() -> None:
    composed, decomposed = "\u00e9", "e\u0301"  # alike on the screen
    assert example_key(composed) != example_key(decomposed)
