"""The author's own words for a stretch of a source, comments and line breaks taken out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from aqpolicy.diagnostics import Source, Span

_COMMENT_OR_TEXT = re.compile(r'"[^"\n]*"|#[^\n]*')


@dataclass(frozen=True, slots=True)
class Texts:
    """The sources of a policy, by name."""

    sources: Mapping[str, Source]

    def of(self, span: Span) -> str:
        """Return the text of a span on one line."""
        text = self.sources[span.file].text[span.start : span.end]
        plain = _COMMENT_OR_TEXT.sub(lambda found: "" if found[0].startswith("#") else found[0], text)
        return " ".join(plain.split())
