"""Key files: whose they are, and that nothing secret leaves them by the way of an error."""

from __future__ import annotations

import logging
import os
import traceback
from pathlib import Path

import pytest

from aqpolicy.errors import AqpolicyError, InputError, KeyFormatError
from aqpolicy.trust import SigningKey, load_signing_key, load_verify_key


def test_a_link_in_the_place_of_a_private_key_is_refused(tmp_path):
    SigningKey.generate("a").save(tmp_path / "a.key")
    (tmp_path / "link.key").symlink_to(tmp_path / "a.key")
    for load in (load_signing_key, load_verify_key):
        with pytest.raises(KeyFormatError, match="is a link"):
            load(tmp_path / "link.key")


def test_a_link_to_a_public_key_is_followed(tmp_path):
    key = SigningKey.generate("a").verify_key
    (tmp_path / "a.pub").write_text(key.text + "\n")
    (tmp_path / "link.pub").symlink_to(tmp_path / "a.pub")
    assert load_verify_key(tmp_path / "link.pub") == key


def test_the_message_about_an_exposed_key_says_the_command(tmp_path):
    path = tmp_path / "my key"
    SigningKey.generate("a").save(path)
    path.chmod(0o644)
    with pytest.raises(KeyFormatError, match=r"chmod 600 '.*my key'"):
        load_signing_key(path)


def test_a_pipe_in_the_place_of_a_public_key_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "a.pub")
    with pytest.raises(KeyFormatError, match="regular file"):
        load_verify_key(tmp_path / "a.pub")


def test_a_folder_and_a_name_that_no_file_can_have_are_refused(tmp_path):
    for path in (tmp_path, "a\0b"):
        for load in (load_signing_key, load_verify_key):
            with pytest.raises(AqpolicyError):
                load(path)


def test_a_new_key_file_is_private_from_its_first_moment(tmp_path, monkeypatch):
    modes = []
    link = os.link

    def watched(source, target):
        modes.append(Path(source).stat().st_mode & 0o777)
        link(source, target)

    monkeypatch.setattr(os, "link", watched)
    before = os.umask(0)
    try:
        SigningKey.generate("a").save(tmp_path / "a.key")
    finally:
        os.umask(before)
    assert modes == [0o600]


def damaged(key):
    text = key.private_text
    yield text[:-4] + "====", "base64"
    yield text + "\n\n", "form"
    yield text.replace("secret-name", "other-name"), "hash"
    yield text.replace("PRIVATE+KEY+", "PRIVATE-KEY+"), "not a private key"
    yield text.replace("secret-name", "a b"), "name"


def told(error):
    """Return all that a traceback with local variables shows of the frames below the test's own."""
    shown, seen = "", error
    while seen is not None:  # also what a plain traceback leaves out: some tools walk the whole chain
        frames = seen.__traceback__.tb_next if seen is error else seen.__traceback__
        parts = traceback.TracebackException(type(seen), seen, frames, capture_locals=True).format(chain=False)
        shown += "".join(parts)
        seen = seen.__cause__ or seen.__context__
    return shown


def secret_of(key):
    return key.private_text.split("+", 4)[4][4:24]


def test_a_careless_reader_would_show_the_secret(tmp_path):
    key = SigningKey.generate("secret-name")
    (tmp_path / "a.key").write_text(key.private_text)

    def careless(path):
        text = path.read_text()
        raise KeyFormatError(f"{len(text)} letters are no key")

    with pytest.raises(KeyFormatError) as caught:
        careless(tmp_path / "a.key")
    assert secret_of(key) in told(caught.value)


@pytest.mark.parametrize("number", range(5))
def test_no_error_about_a_key_file_shows_the_secret_even_with_local_variables(tmp_path, number, caplog):
    key = SigningKey.generate("secret-name")
    text, message = list(damaged(key))[number]
    path = tmp_path / "a.key"
    path.write_text(text)
    path.chmod(0o600)
    for load in (load_signing_key,) if number == 3 else (load_signing_key, load_verify_key):
        with pytest.raises(KeyFormatError, match=message) as caught:
            load(path)
        with caplog.at_level(logging.DEBUG):
            logging.getLogger("test").error("cannot load", exc_info=caught.value)
        assert secret_of(key) not in told(caught.value)
        assert secret_of(key) not in caplog.text


def test_no_error_while_a_key_is_written_shows_the_secret(tmp_path):
    key = SigningKey.generate("a")
    (tmp_path / "a.key").write_text("mine")
    with pytest.raises(InputError, match="not overwritten") as caught:
        key.save(tmp_path / "a.key")
    assert secret_of(key) not in told(caught.value)
    assert (tmp_path / "a.key").read_text() == "mine"


def test_a_signing_key_shows_its_name_only():
    key = SigningKey.generate("a")
    for text in (repr(key), str(key), f"{key}", f"{[key]}"):
        assert text.strip("[]") == "SigningKey(name='a')"
