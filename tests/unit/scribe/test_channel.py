"""Frames arrive whole, in order, without anyone waiting, and after the sender has gone."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from aqpolicy.scribe.channel import CALL, FAILED, PROGRESS, STEP, Channel


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    one, other = map(Channel, socket.socketpair())
    yield one, other
    one.close()
    other.close()


def test_frames_arrive_whole_and_in_order(pair: tuple[Channel, Channel]) -> None:
    one, other = pair
    frames = [(CALL, b""), (STEP, b"x"), (CALL, bytes(range(256)) * 900)]
    for frame in frames:
        one.post(*frame)
    came = other.receive()
    while not one.is_clear or len(came) < len(frames):
        one.push()
        came += other.receive()
    assert came == frames
    assert other.receive() == []
    assert not other.ended


def test_nobody_waits_when_both_ends_only_talk(pair: tuple[Channel, Channel]) -> None:
    one, other = pair
    frames = [(PROGRESS, number.to_bytes(4, "little") * 500) for number in range(1000)]
    for frame in frames:  # far more than the pipe takes, and nobody listens
        one.post(*frame)
        other.post(*frame)
    assert not one.is_clear
    ours, theirs = [], []
    while len(ours) < len(frames) or len(theirs) < len(frames):
        ours += one.receive()
        theirs += other.receive()
        one.push()
        other.push()
    assert ours == theirs == frames


def test_last_words_are_heard_before_the_end(pair: tuple[Channel, Channel]) -> None:
    one, other = pair
    one.post(FAILED, b"why")
    one.close()
    assert other.wait(1)
    assert other.receive() == [(FAILED, b"why")]
    assert other.ended
    other.post(CALL, b"to nobody")
    assert other.is_clear


def test_half_a_frame_is_none() -> None:
    ours, theirs = socket.socketpair()
    end = Channel(theirs)
    ours.send(b"\x03\x05\x00\x00\x00ab")
    assert end.receive() == []
    ours.send(b"cde\x03")
    assert end.receive() == [(CALL, b"abcde")]
    ours.close()
    assert (end.receive(), end.ended) == ([], True)
    end.close()


def test_who_sleeps_is_woken_by_the_end_alone(pair: tuple[Channel, Channel]) -> None:
    one, other = pair
    one.post(CALL, b"")
    assert not other.wait(0.01, asleep=True)
    assert other.wait(0.01)
    one.close()
    assert other.wait(5, asleep=True)
