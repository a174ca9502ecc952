from __future__ import annotations

import pytest

from aqpolicy.errors import CanonicalError, SignatureError
from aqpolicy.trust import Checkpoint, SigningKey, encode_base64, open_checkpoint, sign_checkpoint

KEY = SigningKey.from_seed("example.org/log", bytes(range(1, 33)))
HEAD = Checkpoint("example.org/aqpolicy/run-1", 7, bytes(range(32)))
NOTE = sign_checkpoint(HEAD, KEY)
LINE = NOTE.splitlines()[-1]
TRUSTED = [KEY.verify_key]


def test_a_checkpoint_survives_its_note():
    assert open_checkpoint(NOTE, TRUSTED) == HEAD
    assert open_checkpoint(NOTE.encode(), TRUSTED) == HEAD
    assert NOTE.startswith(
        "example.org/aqpolicy/run-1\n7\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n\n— example.org/log "
    )


def test_nobody_trusted_means_nothing_opens():
    with pytest.raises(SignatureError, match="lists no key"):
        open_checkpoint(NOTE, [])


def test_signatures_of_strangers_are_passed_over_but_do_not_count():
    stranger = sign_checkpoint(HEAD, SigningKey.from_seed("witness", bytes(range(32)))).splitlines()[-1]
    assert open_checkpoint(f"{NOTE}{stranger}\n", TRUSTED) == HEAD
    with pytest.raises(SignatureError, match="witness"):
        open_checkpoint(f"{HEAD.text}\n{stranger}\n", TRUSTED)


def test_a_failing_signature_of_a_trusted_key_condemns_the_note():
    other = SigningKey.from_seed("b", bytes(range(32)))
    forged = f"— b {encode_base64(other.verify_key.key_id + bytes(64))}"
    with pytest.raises(SignatureError, match="`b"):
        open_checkpoint(f"{NOTE}{forged}\n", [*TRUSTED, other.verify_key])


def resigned(text):
    signature = KEY.verify_key.key_id + KEY.sign(text.encode())
    return f"{text}\n— {KEY.name} {encode_base64(signature)}\n"


ROOT = encode_base64(bytes(32))


@pytest.mark.parametrize(
    "text",
    [
        f"o\n01\n{ROOT}\n",
        f"o\n+1\n{ROOT}\n",
        f"o\n-1\n{ROOT}\n",
        f"o\n1.0\n{ROOT}\n",
        f"o\n\u0661\n{ROOT}\n",
        f"o\n9223372036854775808\n{ROOT}\n",
        f"o\n99999999999999999999999\n{ROOT}\n",
        f"o\n \n{ROOT}\n",
        f"o\n1\n{ROOT[:-1]}\n",
        f"o\n1\n{ROOT[:-2]}B=\n",
        f"o\n1\n{encode_base64(bytes(31))}\n",
        f"o\n1\n {ROOT}\n",
        f"\n1\n{ROOT}\n",
        f"o o\n1\n{ROOT}\n",
        f"o\n1\n{ROOT}\nextension\n",
        "o\n1\n",
        "\n",
    ],
)
def test_a_signed_text_that_is_not_a_checkpoint_in_its_one_spelling_is_refused(text):
    with pytest.raises(CanonicalError):
        open_checkpoint(resigned(text), TRUSTED)


@pytest.mark.parametrize(
    "note",
    [
        "",
        "\n",
        NOTE[:-1],
        NOTE + "\n",
        NOTE.replace("\n", "\r\n"),
        NOTE.replace("\n\n", "\n"),
        NOTE.replace("—", "-"),
        NOTE.replace("— ", "—  "),
        NOTE + "— a AA==\n",
        NOTE + "— a !!!!\n",
        NOTE + "— a\n",
        NOTE + "text\n",
        NOTE + f"{LINE}\n" * 16,
        NOTE.replace("run-1", "run\t1"),
        HEAD.text + "\n",
        "x" * 1_000_001,
    ],
    ids=lambda note: repr(note[-24:]),
)
def test_an_ill_formed_note_is_refused(note):
    with pytest.raises(CanonicalError):
        open_checkpoint(note, TRUSTED)


def test_bytes_that_are_not_utf8_are_refused():
    with pytest.raises(CanonicalError, match="UTF-8"):
        open_checkpoint(b"\xff\n\n", TRUSTED)


@pytest.mark.parametrize(
    "parts",
    [("", 1, bytes(32)), ("a\nb", 1, bytes(32)), ("a", -1, bytes(32)), ("a", 2**63, bytes(32)), ("a", 1, bytes(31))],
)
def test_a_checkpoint_that_could_not_be_read_back_is_not_made(parts):
    with pytest.raises(CanonicalError):
        Checkpoint(*parts)
