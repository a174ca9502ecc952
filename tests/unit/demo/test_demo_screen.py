"""Progress: a bar on a terminal, plain lines elsewhere, and never on the story's stream."""

from __future__ import annotations

from io import StringIO

from aqpolicy.demo.screen import Screen


class _Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_off_a_terminal_only_the_beginning_and_the_end_are_said() -> None:
    story, progress = StringIO(), StringIO()
    screen = Screen(story, progress)
    for done in range(4):
        screen.progress(done, 3, "drawing")
    assert progress.getvalue() == "drawing: 0 of 3\ndrawing: 3 of 3\n"
    assert story.getvalue() == ""


def test_on_a_terminal_one_line_is_redrawn_and_ended() -> None:
    progress = _Terminal()
    screen = Screen(StringIO(), progress)
    for done in range(3):
        screen.progress(done, 2, "drawing")
    assert progress.getvalue().count("\r") == 3
    assert progress.getvalue().count("\n") == 1
    assert "[############################] 2 of 2" in progress.getvalue()


def test_chapters_are_numbered_and_timed() -> None:
    story = StringIO()
    screen = Screen(story, StringIO())
    screen.chapter("One: first")
    screen.chapter("Two: second")
    assert screen.close() >= 0
    assert "1. One: first" in story.getvalue()
    assert [title for title, _ in screen.times] == ["One: first", "Two: second"]
