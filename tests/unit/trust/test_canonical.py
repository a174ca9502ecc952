from __future__ import annotations

import pytest

from aqpolicy.errors import CanonicalError
from aqpolicy.trust import canonical_json, parse_canonical


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (0, "0"),
        (-(2**53 - 1), "-9007199254740991"),
        ((1, ["a"]), '[1,["a"]]'),
        ({"b": 1, "a": {}}, '{"a":{},"b":1}'),
        ('\x00\x1f\b\t\n\f\r"\\\x7f/é', '"\\u0000\\u001f\\b\\t\\n\\f\\r\\"\\\\\x7f/é"'),
    ],
)
def test_a_value_has_its_one_form(value, text):
    assert canonical_json(value) == text.encode()


def test_keys_are_sorted_by_utf16_code_units_not_code_points():
    # U+1F600 is larger than U+FB33 as a code point, smaller as UTF-16.
    assert canonical_json({"\ufb33": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\ufb33":1}'.encode()


@pytest.mark.parametrize(
    "value",
    [1.0, 2**53, -(2**53), {1: 2}, b"x", {"a": {1, 2}}, "\ud800", {"\udc00": 1}, float("nan")],
    ids=repr,
)
def test_a_value_without_canonical_form_is_refused(value):
    with pytest.raises(CanonicalError):
        canonical_json(value)


def nested(depth):
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def test_nesting_is_bounded_both_ways():
    assert parse_canonical(canonical_json(nested(64))) == nested(64)
    with pytest.raises(CanonicalError, match="deeper"):
        canonical_json(nested(65))
    with pytest.raises(CanonicalError, match="deeper"):
        parse_canonical(b"[" * 65 + b"]" * 65)


def test_a_value_that_holds_itself_is_refused():
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(CanonicalError, match="deeper"):
        canonical_json(loop)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1 ",
        b" 1",
        b"1\n",
        b"1.0",
        b"1e3",
        b"-0",
        b"01",
        b"NaN",
        b"-Infinity",
        b"9007199254740992",
        b"9" * 5000,
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b'"\\u006e"',
        b'"\\/"',
        b'"\\ud800"',
        b"\xff",
        b"\xef\xbb\xbf1",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[1,]",
        b'"\x00"',
    ],
    ids=lambda data: repr(data[:24]),
)
def test_bytes_that_are_not_canonical_are_refused(data):
    with pytest.raises(CanonicalError):
        parse_canonical(data)
