"""A18: a head's note whose lines one reader cuts differently from another, or whose signatures hide a failing one."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.attacking import TRUSTED, denied, put_in_place, refused, take_away, unnoticed
from support.lineage_runs import KEY, KEYRING

from aqpolicy.errors import CanonicalError, SignatureError
from aqpolicy.lineage import verify_log
from aqpolicy.trust import Checkpoint, SigningKey, VerifyKey, encode_base64, note, open_checkpoint, sign_checkpoint
from aqpolicy.trust.note import _split

HEAD = Checkpoint("a/log", 7, bytes(range(32)))
NOTE = sign_checkpoint(HEAD, KEY)
STRANGER = SigningKey.from_seed("stranger", bytes(32))
GOOD = NOTE.partition("\n\n")[2]
"""The line of its signature."""

CONTROL = "a note holds a control character"
FORM = "a note is a text, an empty line and signature lines"
LINE = "a signature line of a note is ill-formed"
SHAPE = "a checkpoint has three lines: origin, size and root"
MANY = "a note carries at most 16 signatures"
ALTERED = "a signature said to be by `log+"


def line(key: VerifyKey, signature: bytes) -> str:
    return f"— {key.name} {encode_base64(key.key_id + signature)}\n"


def strangers(count: int) -> str:
    """Return signature lines of as many strangers; nobody can check them, so any bytes will do."""
    keys = (SigningKey.from_seed(f"stranger-{number}", bytes([number]) * 32) for number in range(count))
    return "".join(line(key.verify_key, bytes(number + 1)) for number, key in enumerate(keys))


def signed(text: str) -> str:
    """Return a note over any text at all, signed by the log's key."""
    return f"{text}\n{line(KEY.verify_key, KEY.sign(text.encode()))}"


def test_lines_of_strangers_are_passed_over_wherever_they_are() -> None:
    for text in (NOTE, NOTE + strangers(15), f"{HEAD.text}\n{strangers(15)}{GOOD}"):
        assert open_checkpoint(text, TRUSTED) == HEAD
    other = SigningKey.from_seed(KEY.name, bytes(32)).verify_key  # the name of the log's key does not make it known
    assert open_checkpoint(NOTE + line(other, bytes(64)), TRUSTED) == HEAD


def test_strangers_alone_sign_nothing() -> None:
    note_of_stranger = sign_checkpoint(HEAD, STRANGER)
    said = "no trusted key signed this checkpoint; it is signed by `stranger`"
    denied(lambda: open_checkpoint(note_of_stranger, TRUSTED), SignatureError, said)


@pytest.mark.parametrize("signature", [bytes(64), KEY.sign(b"another text"), KEY.sign(HEAD.text.encode())[:63], b"1"])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_failing_signature_of_the_log_condemns_the_note_beside_a_good_one(signature: bytes, is_first: bool) -> None:
    bad = line(KEY.verify_key, signature)
    both = f"{HEAD.text}\n{bad + GOOD if is_first else GOOD + bad}"
    denied(lambda: open_checkpoint(both, TRUSTED), SignatureError, ALTERED)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (NOTE + strangers(16), MANY),
        (NOTE + strangers(1) * 5000, MANY),
        (signed("a/log\x00\n7\n"), CONTROL),
        (signed("a/log\t\n7\n"), CONTROL),
        (signed("a/log\x1b[2J\n7\n"), CONTROL),
        (NOTE.replace("\n", "\r\n"), CONTROL),
        (NOTE.replace("\n— ", "\n\r— "), CONTROL),
        (NOTE[:-1], FORM),
        (NOTE.replace("\n\n", "\n"), FORM),
        (HEAD.text, FORM),
        ("", FORM),
        (NOTE + "\n", FORM),
        (NOTE.replace("—", "-"), LINE),
        (NOTE.replace("— log ", "— log  "), LINE),
        (NOTE.replace("— log ", "— l g "), LINE),
        (NOTE.replace("— log ", "— l+g "), LINE),
        (NOTE + "a line of text\n", LINE),
        (NOTE + "— x AAAAAA=\n", "a base64 text cannot be read"),
        (NOTE + "— x AAAAAB==\n", "a base64 text is not in its canonical spelling"),
        (NOTE + "— x AAAAAA==\n", "a signature of a note is too short"),
        ("x" * 1_000_001, "a note is too long"),
    ],
    ids=lambda value: repr(value[-20:]),
)
def test_a_note_in_another_form(text: str, said: str) -> None:
    for given in (text, text.encode()):
        denied(lambda given=given: open_checkpoint(given, TRUSTED), CanonicalError, said)


def test_text_that_is_no_utf8_as_bytes_and_as_text() -> None:
    for given in (b"\xff" + NOTE.encode(), "\ud800" + NOTE):
        denied(lambda given=given: open_checkpoint(given, TRUSTED), CanonicalError, "a note is not UTF-8")


def test_two_blank_lines_are_another_text_even_where_that_is_signed_too() -> None:
    for text in (NOTE.replace("\n\n", "\n\n\n"), f"{NOTE}\n{GOOD}"):
        denied(lambda text=text: open_checkpoint(text, TRUSTED), SignatureError, ALTERED)
    for text in (HEAD.text + "\n", f"\n{HEAD.text}", NOTE):
        denied(lambda text=text: open_checkpoint(signed(text), TRUSTED), CanonicalError, SHAPE)


# ---- without the guard


def lenient(note: str) -> tuple[str, list[str]]:
    """Cut a note as who takes lines for lines would: the text ends at the first empty line."""
    text, _, signatures = note.replace("\r\n", "\n").partition("\n\n")
    return text + "\n", [line for line in signatures.split("\n") if line]


def test_who_cuts_by_lines_takes_many_notes_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_place(monkeypatch, _split, lenient)
    notes = [NOTE.replace("\n", "\r\n"), NOTE[:-1], NOTE + "\n", NOTE.replace("\n\n", "\n\n\n"), f"{NOTE}\n{GOOD}"]
    for text in (*notes, NOTE + strangers(16)):
        assert open_checkpoint(text, TRUSTED) == HEAD


def test_without_the_rule_for_letters_a_stranger_writes_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = NOTE + "— \x1b[2J AAAAAAA=\n"
    denied(lambda: open_checkpoint(text, TRUSTED), CanonicalError, CONTROL)
    take_away(monkeypatch, _split, CONTROL)
    assert open_checkpoint(text, TRUSTED) == HEAD


def test_without_the_limit_a_note_carries_any_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(note, "_LARGEST_SIGNATURES", 17)
    assert open_checkpoint(NOTE + strangers(16), TRUSTED) == HEAD


def with_forged_line(copy: Path) -> Path:
    """Put a failing signature of the log's key beside the good one on the head of a log."""
    head = copy / "head.note"
    head.write_text(head.read_text() + line(KEY.verify_key, bytes(64)))
    return copy


def test_a_log_whose_head_has_a_forged_signature_too(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(with_forged_line(copy), SignatureError, ALTERED)
    take_away(monkeypatch, open_checkpoint, "key.restored.verify")
    unnoticed(copy)


def test_a_remembered_head_with_a_carriage_return(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = copy.parent / "seen"
    seen.write_bytes((copy / "head.note").read_bytes().replace(b"\n", b"\r\n"))
    denied(lambda: verify_log(copy, KEYRING, remembered=seen), CanonicalError, CONTROL)
    put_in_place(monkeypatch, _split, lenient)
    verify_log(copy, KEYRING, remembered=seen)
