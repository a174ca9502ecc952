"""Refuse texts that are too large, or that hide something from the reader's eye.

A policy is reviewed by people: a character that reorders or erases what they see
(Trojan Source, CVE-2021-42574) has no place in it, comments included.
"""

from __future__ import annotations

import re
from typing import Final

from aqpolicy.diagnostics import Diagnostic, Label, Source, Span

MAX_CHARACTERS: Final = 1_000_000
"""Length of the longest policy text that is read."""

_MAX_SHOWN: Final = 20

_HIDDEN: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)
"""Control characters, direction marks and overrides, characters of no width, lone surrogates."""


def scan(source: Source) -> tuple[Diagnostic, ...]:
    """Return what makes a text unreadable as a policy; nothing for an ordinary text."""
    if len(source.text) > MAX_CHARACTERS:
        whole = Span(source.name, 0, 0, 1, 1)
        message = f"the text has {len(source.text)} characters, more than the {MAX_CHARACTERS} of the largest policy"
        return (Diagnostic("AQ108", "error", message, (Label(whole, "starts here"),)),)
    found = [_hidden(source, match.start()) for match in _HIDDEN.finditer(source.text)]
    return tuple(found[:_MAX_SHOWN])


def _hidden(source: Source, at: int) -> Diagnostic:
    line_start = source.text.rfind("\n", 0, at) + 1
    span = Span(source.name, at, at + 1, source.text.count("\n", 0, at) + 1, at - line_start + 1)
    return Diagnostic(
        "AQ107",
        "error",
        f"hidden character U+{ord(source.text[at]):04X}",
        (Label(span, "cannot be seen here"),),
        notes=("a policy holds only what its reader can see",),
        help=("delete the character",),
    )
