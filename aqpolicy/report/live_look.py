"""What a terminal can show: colours, block characters, or plain letters."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TextIO

BOLD: Final = "1"
FAINT: Final = "2"
GOOD: Final = "32"
WARM: Final = "33"
BAD: Final = "31"


@dataclass(frozen=True, slots=True)
class Band:
    """What became of visits: its word, its place among the effects of a point, its colour and its letters."""

    word: str
    effect: int
    style: str
    block: str
    letter: str


BANDS: Final = (
    Band("admitted", 3, GOOD, "█", "#"),
    Band("modulated", 2, "36", "▓", "+"),
    Band("deferred", 1, WARM, "▒", "-"),
    Band("denied", 0, BAD, "░", "."),
)
"""From bottom to top."""

EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
_PARTS: Final = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True, slots=True)
class Look:
    """What may be used."""

    color: bool
    blocks: bool

    def paint(self, text: str, style: str) -> str:
        """Return a text in a style, or as it is."""
        return f"\x1b[{style}m{text}\x1b[0m" if self.color and style and text else text

    def mark(self, band: Band) -> str:
        """Return the character that stands for a band where it fills a cell."""
        if not self.blocks:
            return band.letter
        return "█" if self.color else band.block

    def bar(self, part: float, width: int, style: str) -> str:
        """Return a bar of which a part is filled."""
        part = min(max(part, 0.0), 1.0)
        if not self.blocks:
            full = round(part * width)
            return self.paint("#" * full, style) + "." * (width - full)
        eighths = round(part * width * 8)
        full, rest = divmod(eighths, 8)
        filled = "█" * full + (_PARTS[rest] if rest else "")
        return self.paint(filled, style) + self.paint("·" * (width - len(filled)), FAINT)


def look_of(stream: TextIO, environment: Mapping[str, str] = os.environ) -> Look:
    """Return what a stream can show: colour on a terminal without `NO_COLOR`, blocks where the encoding has them."""
    from aqpolicy.diagnostics import wants_color

    return Look(wants_color(stream, environment), (stream.encoding or "").lower().replace("-", "") == "utf8")
