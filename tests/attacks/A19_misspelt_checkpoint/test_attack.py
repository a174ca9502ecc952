"""A19: a checkpoint that a key of the log did sign, in a spelling that another reader takes for something else."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from support.attacking import TRUSTED, denied, put_in_place, refused, unnoticed
from support.lineage_runs import KEY, KEYRING, edit

from aqpolicy.errors import CanonicalError, CorruptLogError
from aqpolicy.lineage import verify_log
from aqpolicy.lineage.store import entry_key
from aqpolicy.trust import Checkpoint, decode_base64, encode_base64, note, open_checkpoint
from aqpolicy.trust.merkle import LARGEST_SIZE

ROOT = b"\xfb\xff" + bytes(range(30))
"""A hash whose base64 has letters of the standard alphabet only."""
SPELT = encode_base64(ROOT)
SHAPE = "a checkpoint has three lines: origin, size and root"
SPELLING = "a base64 text is not in its canonical spelling"
UNREADABLE = "a base64 text cannot be read"
BEYOND = "the size of a checkpoint is not the size of a tree"


def signed(text: str) -> str:
    """Return a note whose signature by the log's own key holds for exactly this text."""
    signature = encode_base64(KEY.verify_key.key_id + KEY.sign(text.encode()))
    return f"{text}\n— {KEY.name} {signature}\n"


def test_the_one_spelling_is_taken() -> None:
    for size in (0, 7, LARGEST_SIZE):
        assert open_checkpoint(signed(f"a/log\n{size}\n{SPELT}\n"), TRUSTED) == Checkpoint("a/log", size, ROOT)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (size, SHAPE)
        for size in ("07", "00", "+7", "-7", "-0", "7.0", "7e0", "0x7", "1_0", " 7", "7 ", "٧", "", "9" * 20)
    ]
    + [(str(LARGEST_SIZE + 1), BEYOND), ("9" * 19, BEYOND), ("9" * 5000, SHAPE)],
)
def test_a_size_in_another_spelling_or_beyond_every_tree(size: str, said: str) -> None:
    denied(lambda: open_checkpoint(signed(f"a/log\n{size}\n{SPELT}\n"), TRUSTED), CanonicalError, said)


@pytest.mark.parametrize(
    ("root", "said"),
    [
        (SPELT[:-2] + chr(ord(SPELT[-2]) + 1) + "=", SPELLING),  # the same bytes, with a spare bit
        (SPELT.rstrip("="), UNREADABLE),
        (SPELT + "=", UNREADABLE),
        (SPELT.replace("+", "-").replace("/", "_"), UNREADABLE),
        (SPELT + " ", UNREADABLE),
        (" " + SPELT, UNREADABLE),
        (SPELT[:20] + "\u3000" + SPELT[20:], UNREADABLE),
        (encode_base64(ROOT[:31]), "the root of a checkpoint is not a hash"),
        (encode_base64(ROOT + b"\0"), "the root of a checkpoint is not a hash"),
        ("", "the root of a checkpoint is not a hash"),
    ],
)
def test_a_root_in_another_base64_or_length(root: str, said: str) -> None:
    denied(lambda: open_checkpoint(signed(f"a/log\n7\n{root}\n"), TRUSTED), CanonicalError, said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"\n7\n{SPELT}\n", "the origin of a checkpoint is ASCII without spaces and `+`"),
        (f"a log\n7\n{SPELT}\n", "the origin of a checkpoint"),
        (f"a+log\n7\n{SPELT}\n", "the origin of a checkpoint"),
        (f"ａ/log\n7\n{SPELT}\n", "the origin of a checkpoint"),
        (f"{'a' * 257}\n7\n{SPELT}\n", "the origin of a checkpoint"),
        (f"7\n{SPELT}\n", SHAPE),
        (f"a/log\n7\n{SPELT}\nextension\n", SHAPE),
        (f"a/log\n{SPELT}\n7\n", SHAPE),
    ],
)
def test_an_origin_that_is_missing_or_another_text_and_lines_that_do_not_belong(text: str, said: str) -> None:
    denied(lambda: open_checkpoint(signed(text), TRUSTED), CanonicalError, said)


@pytest.mark.parametrize("name", ["head.note", "remembered", "kept"])
def test_a_log_with_a_respelt_head_of_its_own_key(copy: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    text = (copy / "head.note").read_text().partition("\n\n")[0]
    origin, size, root = text.split("\n")
    respelt = signed(f"{origin}\n0{size}\n{root}\n").encode()
    kept = copy.parent / "remembered"
    if name == "head.note":
        (copy / name).write_bytes(respelt)
        refused(copy, CorruptLogError, SHAPE)
    elif name == "kept":
        edit(copy, b"cp", entry_key(int(size)), lambda _: respelt)
        refused(copy, CorruptLogError, SHAPE, where=f"head of size {size}")
    else:
        kept.write_bytes(respelt)
        denied(lambda: verify_log(copy, KEYRING, remembered=kept), CanonicalError, SHAPE)
    monkeypatch.setattr(note, "_SIZE", re.compile("[0-9]+"))
    if name == "remembered":
        verify_log(copy, KEYRING, remembered=kept)
    else:
        unnoticed(copy)


def test_without_the_second_look_a_root_has_two_spellings(monkeypatch: pytest.MonkeyPatch) -> None:
    respelt = SPELT[:-2] + chr(ord(SPELT[-2]) + 1) + "="
    denied(lambda: open_checkpoint(signed(f"a/log\n7\n{respelt}\n"), TRUSTED), CanonicalError, SPELLING)
    put_in_place(monkeypatch, decode_base64, lambda text: base64.b64decode(text, validate=True))
    assert open_checkpoint(signed(f"a/log\n7\n{respelt}\n"), TRUSTED).root == ROOT


def test_without_the_rule_for_origins_none_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(note, "_ORIGIN", re.compile(".*"))
    assert open_checkpoint(signed(f"\n7\n{SPELT}\n"), TRUSTED).origin == ""
    assert open_checkpoint(signed(f"a log\n7\n{SPELT}\n"), TRUSTED).origin == "a log"
