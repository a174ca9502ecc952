"""Turn the parts of a diagnostic into plain words, fit for a terminal or a document.

It lays nothing out. Text that comes from a policy is shown with hidden characters
replaced, so that a message cannot be made to lie to its reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from aqpolicy.diagnostics.diagnostic import Diagnostic

_UNPRINTABLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\ufffe\uffff\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    """Return text on one line, with every character that a terminal would act on, or hide, replaced."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\n", " "))


def witness_words(witness: Mapping[str, str]) -> str:
    """Return an observation as readable pairs."""
    return ", ".join(f"{name} = {value}" for name, value in witness.items())


def remarks(diagnostic: Diagnostic) -> Iterator[tuple[str, str]]:
    """Yield what follows the message, each with its kind: the witness, the notes, the advice."""
    if diagnostic.witness:
        yield "witness", visible(witness_words(diagnostic.witness))
    yield from (("note", visible(note)) for note in diagnostic.notes)
    yield from (("help", visible(advice)) for advice in diagnostic.help)


def paragraph(diagnostic: Diagnostic) -> str:
    """Return the message and all remarks, a line each."""
    return "\n".join([visible(diagnostic.message), *(f"{kind}: {text}" for kind, text in remarks(diagnostic))])
