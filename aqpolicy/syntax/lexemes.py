"""Read a text as lexemes: its tokens in order, each with the comments that belong to it.

The parser drops comments and spaces; whoever writes a text anew needs both. Which
tokens there are, and of what kind, is the parser's answer: a word is a keyword only
where the grammar asks for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

from lark import Token, UnexpectedInput

from aqpolicy.diagnostics import Source
from aqpolicy.syntax.parser import MAX_NESTING, parse
from aqpolicy.syntax.scan import scan
from aqpolicy.syntax.tables import policy_parser

END: Final = "END"
"""The kind of the lexeme behind the last token; it holds the comments at the end of the text."""

_SPACES: Final = " \t\r"
_PUNCTUATION: Final = frozenset({",", ";", "{"})
"""What no line begins with; comments before it move behind it."""


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment on a line of its own."""

    text: str
    after_blank: bool = False
    is_indented: bool = False


@dataclass(frozen=True, slots=True)
class Lexeme:
    """A token, the comments on the lines above it, and the comment that ends its line."""

    kind: str
    text: str
    above: tuple[Comment, ...] = ()
    beside: str = ""
    starts_line: bool = False
    after_blank: bool = False
    """A blank line separates it from what stands before it, its own comments included."""

    @property
    def opens_paragraph(self) -> bool:
        """Whether a blank line stands between this, with its comments, and the lexeme before."""
        return self.after_blank or any(comment.after_blank for comment in self.above)


def read_lexemes(source: Source) -> list[Lexeme]:
    """Return the lexemes of a text, the last of kind `END`.

    Raises:
        PolicyError: The text has syntax errors (AQ1xx); all that were found.
    """
    lexemes = _with_comments(source.text, _tokens(source))
    return _punctuated(lexemes) if "#" in source.text else lexemes


def _tokens(source: Source) -> list[Token]:
    if scan(source):
        parse(source)  # raises
    state = policy_parser().parse_interactive(source.text)
    state.parser_state.parse_conf.callbacks = defaultdict(lambda: len)  # nobody needs the tree, which takes longest
    try:
        tokens = list(state.iter_parse())
        state.feed_eof(tokens[-1] if tokens else None)  # type: ignore[no-untyped-call]  # lark leaves it untyped
    except UnexpectedInput:
        parse(source)  # raises, with all errors
        raise
    if _nesting(tokens) > MAX_NESTING:
        parse(source)  # raises
    return tokens


def _nesting(tokens: Iterable[Token]) -> int:
    steps = (1 if token.type == "LPAR" else -1 for token in tokens if token.type in {"LPAR", "RPAR"})
    return max(accumulate(steps), default=0)


def _with_comments(text: str, tokens: Sequence[Token]) -> list[Lexeme]:
    """Give the comments in each gap between two tokens to the one before or the one behind."""
    ends = [0, *(token.end_pos or 0 for token in tokens)]
    starts = [*(token.start_pos or 0 for token in tokens), len(text)]
    gaps = [text[end:start] for end, start in zip(ends, starts, strict=True)]
    gaps[0] = "\n" + gaps[0]  # a comment in the first line stands above the first token
    lexemes = []
    for n, token in enumerate(tokens):
        beside = gaps[n + 1].partition("\n")[0].strip(_SPACES)
        lexemes.append(_lexeme(token.type, str(token), gaps[n], beside))
    return [*lexemes, _lexeme(END, "", gaps[-1], "")]


def _lexeme(kind: str, text: str, gap: str, beside: str) -> Lexeme:
    _, *lines = gap.split("\n")
    if not lines:
        return Lexeme(kind, text, (), beside)
    above = []
    after_blank = False
    for n, line in enumerate(lines, start=1):
        words = line.strip(_SPACES)
        if words:
            above.append(Comment(words, after_blank, not line.startswith("#")))
        after_blank = not words and (after_blank or n < len(lines))
    return Lexeme(kind, text, tuple(above), beside, starts_line=True, after_blank=after_blank)


def _punctuated(lexemes: list[Lexeme]) -> list[Lexeme]:
    """Move comments that stand before punctuation behind it."""
    moved = list(lexemes)
    marks = [n for n, lexeme in enumerate(lexemes) if lexeme.text in _PUNCTUATION]
    for n in marks:
        before, mark, behind = moved[n - 1 : n + 2]
        comments = [before.beside, *(comment.text for comment in mark.above), mark.beside]
        first, *others = [comment for comment in comments if comment] or [""]
        above = (*map(Comment, others), *behind.above)
        moved[n - 1] = replace(before, beside="")
        moved[n] = replace(mark, above=(), beside=first)
        moved[n + 1] = replace(behind, above=above, starts_line=behind.starts_line or bool(first))
    return moved
