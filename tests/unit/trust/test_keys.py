from __future__ import annotations

import os
import pickle

import pytest

from aqpolicy.errors import InputError, KeyFormatError, SignatureError
from aqpolicy.trust import SigningKey, VerifyKey, load_signing_key, load_verify_key

# golang.org/x/mod/sumdb/note, the package's own example of both text forms.
GO_PUBLIC = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_PRIVATE = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"


def test_text_forms_are_those_of_go_notes():
    key = SigningKey.parse(GO_PRIVATE)
    assert key.verify_key.text == GO_PUBLIC
    assert key.private_text == GO_PRIVATE
    assert VerifyKey.parse(GO_PUBLIC) == key.verify_key
    assert key.verify_key.key_id.hex() == "c74f20a3"


def test_a_signature_verifies_and_any_change_fails():
    key = SigningKey.generate("a")
    signature = key.sign(b"message")
    assert len(signature) == 64
    key.verify_key.verify(signature, b"message")
    for wrong, message in [
        (signature, b"messagf"),
        (bytes([signature[0] ^ 1]) + signature[1:], b"message"),
        (signature[:63], b"message"),
        (signature + b"\x00", b"message"),
        (b"", b"message"),
    ]:
        with pytest.raises(SignatureError):
            key.verify_key.verify(wrong, message)


def test_another_key_of_the_same_name_does_not_verify():
    signature = SigningKey.generate("a").sign(b"m")
    with pytest.raises(SignatureError):
        SigningKey.generate("a").verify_key.verify(signature, b"m")


@pytest.mark.parametrize("name", ["", "a b", "a+b", "é", "a\n", "a\x00", "x" * 129])
def test_names_that_notes_cannot_hold_are_refused(name):
    with pytest.raises(KeyFormatError, match="name"):
        SigningKey.generate(name)


def test_a_key_says_nothing_secret_in_repr_or_errors():
    key = SigningKey.generate("a")
    secret = key.private_text.split("+", 4)[4]
    assert repr(key) == "SigningKey(name='a')"
    with pytest.raises(KeyFormatError) as caught:
        SigningKey.parse(key.private_text[:-4] + "====")
    assert secret[:8] not in str(caught.value)


def test_a_public_key_survives_pickling():
    key = SigningKey.generate("a").verify_key
    assert pickle.loads(pickle.dumps(key)) == key


def test_a_saved_key_is_private_and_never_overwritten(tmp_path):
    path = tmp_path / "a.key"
    key = SigningKey.generate("a")
    key.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_signing_key(path) == key
    with pytest.raises(InputError, match="not overwritten"):
        SigningKey.generate("b").save(path)
    assert load_signing_key(path) == key
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_key_file_that_others_may_touch_is_refused(tmp_path, mode):
    path = tmp_path / "a.key"
    SigningKey.generate("a").save(path)
    path.chmod(mode)
    with pytest.raises(KeyFormatError, match="chmod 600"):
        load_signing_key(path)
    with pytest.raises(KeyFormatError, match="chmod 600"):
        load_verify_key(path)


def test_a_pipe_in_the_place_of_a_key_file_is_refused_and_does_not_block(tmp_path):
    path = tmp_path / "a.key"
    os.mkfifo(path, 0o600)
    with pytest.raises(KeyFormatError, match="regular file"):
        load_signing_key(path)


def test_a_missing_key_file_is_named(tmp_path):
    for load in (load_signing_key, load_verify_key):
        with pytest.raises(InputError, match=r"gone\.key"):
            load(tmp_path / "gone.key")


def test_a_public_key_is_read_from_either_half(tmp_path):
    key = SigningKey.generate("a")
    key.save(tmp_path / "a.key")
    (tmp_path / "a.pub").write_text(key.verify_key.text + "\n")
    assert load_verify_key(tmp_path / "a.key") == load_verify_key(tmp_path / "a.pub") == key.verify_key


def test_a_public_key_file_is_not_taken_for_a_private_key(tmp_path):
    path = tmp_path / "a.pub"
    path.write_text(SigningKey.generate("a").verify_key.text)
    path.chmod(0o600)
    with pytest.raises(KeyFormatError, match="not a private key"):
        load_signing_key(path)


def test_a_seed_has_32_bytes():
    with pytest.raises(KeyFormatError, match="32 bytes"):
        SigningKey.from_seed("a", bytes(31))
