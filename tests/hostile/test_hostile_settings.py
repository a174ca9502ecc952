"""Settings files that are none: whatever the bytes, the answer is settings or one clear error."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqpolicy.errors import InputError
from aqpolicy.lint import Settings, find_settings, parse_settings

MANY = settings(max_examples=200, deadline=None)
GOOD = b"""[tool.aqpolicy]
format = "full"
fail-level = "warning"
effort = 20_000
policy-roots = ["policies", "b"]
starved-below = "0.25"
[tool.aqpolicy.levels]
AQ312 = "error"
"""


def answer(data: bytes, name: str = "aqpolicy.toml") -> Settings | str | None:
    """Parse; return the settings, or the error's message, which must be one short printable line."""
    try:
        return parse_settings(data, name)
    except InputError as error:
        message = str(error)
    assert message.startswith(f"{name}: ")
    assert message.isprintable()
    assert len(message) < 400
    return message


@MANY
@given(st.binary(max_size=200), st.sampled_from(["aqpolicy.toml", "pyproject.toml"]))
def test_any_bytes_are_answered(data: bytes, name: str) -> None:
    answer(data, name)


KEYS = st.sampled_from(
    ["format", "fail-level", "effort", "policy-roots", "optimizer", "starved-below", "line-width", "levels"]
)
SHORT = "nan -inf 1e999999999 1e99999999999999999999 1979-05-27 07:32:00 '' {} [[]] {a={b=1}} [1,'x'] true -0.0 1.5"
LONG = ["0x" + "f" * 5000, "9" * 5000, '"\\u0000"', '["\\u0007"]', "{AQ301 = []}"]
VALUES = st.sampled_from([*SHORT.split(), *LONG])


@MANY
@given(KEYS, VALUES)
def test_any_value_of_any_key_is_answered(key: str, value: str) -> None:
    answer(f"{key} = {value}".encode())


@pytest.mark.parametrize("seed", range(100))
def test_settings_with_a_wound_are_answered(seed: int) -> None:
    dice = random.Random(seed)
    data = bytearray(GOOD)
    for _ in range(dice.randint(1, 4)):
        start = dice.randrange(len(data))
        data[start : start + dice.randint(0, 8)] = dice.randbytes(dice.randint(0, 4))
    answer(bytes(data), "pyproject.toml")


BOMBS = {
    "nested arrays": b"a = " + b"[" * 100_000,
    "nested tables": b"a = " + b"{a = " * 50_000,
    "dotted keys": b".".join([b"a"] * 20_000) + b" = 1",
    "hexadecimal share": b"starved-below = 0x" + b"f" * 100_000,
    "long decimal": b"starved-below = 0." + b"1" * 100_000,
    "long key": b"k" * 500_000 + b" = 1",
    "many roots": b"policy-roots = [" + b'"\\u0007",' * 10_000 + b"]",
    "long code": b"levels." + b"A" * 100_000 + b" = 'note'",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused(name: str) -> None:
    assert isinstance(answer(BOMBS[name]), str)


def test_a_key_cannot_steer_the_terminal() -> None:
    with pytest.raises(InputError) as caught:
        parse_settings(b'"\\u001b[2J\\u202e" = 1', "aqpolicy.toml")
    assert str(caught.value).isprintable()


def test_a_loop_of_links_is_one_error_or_none(tmp_path: Path) -> None:
    (tmp_path / "aqpolicy.toml").symlink_to(tmp_path / "aqpolicy.toml")
    with pytest.raises(InputError, match="cannot read"):
        find_settings(tmp_path)
