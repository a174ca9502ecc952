"""RFC 8785's own vectors: the same bytes where there are no floats, refused where there are."""

from __future__ import annotations

import json

import pytest

from aqpolicy.errors import CanonicalError
from aqpolicy.trust import canonical_json, parse_canonical


@pytest.mark.parametrize("name", ["arrays", "french", "structures", "unicode", "weird"])
def test_values_without_floats_have_the_canonical_form_of_the_standard(vectors, name):
    folder = vectors("jcs/testdata")
    text = (folder / "input" / f"{name}.json").read_text(encoding="utf-8")
    value = json.loads(text, parse_float=lambda number: int(float(number)))  # one input spells 56 as 56.0
    expected = bytes.fromhex((folder / "outhex" / f"{name}.txt").read_text())
    assert canonical_json(value) == expected
    assert parse_canonical(expected) == value


def test_values_with_floats_are_refused_both_ways(vectors):
    folder = vectors("jcs/testdata")
    with pytest.raises(CanonicalError):
        canonical_json(json.loads((folder / "input" / "values.json").read_text(encoding="utf-8")))
    with pytest.raises(CanonicalError):
        parse_canonical((folder / "output" / "values.json").read_bytes())
