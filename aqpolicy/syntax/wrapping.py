"""Break what should stand on one line into several, where it is too long for one.

A line is broken where its parts are joined most loosely: at clauses, then at `or`,
`and`, lists, inside parentheses, and last between any two words; never inside a word
or a text in quotes. A comment always ends its line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from aqpolicy.syntax.lexemes import Lexeme

STEP: Final = 2
"""Columns of one level of indentation."""

_CLOSED_LEFT: Final = frozenset({",", ";", ":", ")", ".", ".."})
_CLOSED_RIGHT: Final = frozenset({"(", ".", ".."})
_CALLABLE: Final = frozenset({"NAME", "ADMITTED", "CHARGED", "SPENT"})
_OPENING: Final = frozenset({"(", "{"})
_CLOSING: Final = frozenset({")", "}"})

_CLAUSES: Final = frozenset(
    {"FOR", "THEN", "WITHIN", "ELSE", "BECAUSE", "GIVEN", "WITNESSED", "FROM", "BY", "WITH", "TAPERED"}
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text and the comment that ends it; a comment alone is its text."""

    indent: int = 0
    text: str = ""
    comment: str = ""

    @property
    def end(self) -> int:
        """The column behind the text."""
        return self.indent + len(self.text)


def flat(lexemes: Sequence[Lexeme]) -> str:
    """Return lexemes on one line, without comments."""
    parts = []
    before: Lexeme | None = None
    for lexeme in lexemes:
        if before is not None and _is_apart(before, lexeme):
            parts.append(" ")
        parts.append(lexeme.text)
        before = lexeme
    return "".join(parts)


def is_commented(lexemes: Sequence[Lexeme]) -> bool:
    """Say whether comments stand between lexemes, so that they cannot stand on one line."""
    return any(a.beside or b.above for a, b in _neighbours(lexemes))


def wrap(lexemes: Sequence[Lexeme], first: int, rest: int, width: int) -> list[Line]:
    """Return the lines that lexemes take, without the comments above the first.

    Args:
        lexemes: At least one.
        first: The column of the first line.
        rest: The column of the others.
        width: The column that lines should end before.
    """
    text = flat(lexemes)
    if first + len(text) <= width and not is_commented(lexemes):
        return [Line(first, text.rstrip(), lexemes[-1].beside)]
    rest = min(rest, max(width // 2, STEP))
    for split, packs in _LOOSEST_FIRST:
        pieces = split(lexemes)
        if len(pieces) > 1:
            pieces = _packed(pieces, first, rest, width) if packs else pieces
            return _stacked(pieces, first, rest, width)
    group = _widest_group(lexemes)
    if group is not None:
        return _opened(lexemes, group, (first, rest), width)
    pieces = _after("EQUAL")(lexemes)
    pieces = pieces if len(pieces) > 1 else _words(lexemes)
    return _stacked(_packed(pieces, first, rest, width), first, rest, width)


def comment_lines(lexeme: Lexeme, indent: int) -> list[Line]:
    """Return the comments above a lexeme, without blank lines."""
    return [Line(indent, comment.text) for comment in lexeme.above]


def _stacked(pieces: Sequence[Sequence[Lexeme]], first: int, rest: int, width: int) -> list[Line]:
    """Return the lines of pieces under each other; what a piece itself breaks into stands further right."""
    if len(pieces) == 1:  # a word too long for any line
        return [Line(first, flat(pieces[0]).rstrip(), pieces[0][-1].beside)]
    lines = wrap(pieces[0], first, rest + STEP, width)
    for piece in pieces[1:]:
        lines += [*comment_lines(piece[0], rest), *wrap(piece, rest, rest + STEP, width)]
    return lines


def _opened(lexemes: Sequence[Lexeme], group: tuple[int, int], columns: tuple[int, int], width: int) -> list[Line]:
    """Return the lines of lexemes with one group in parentheses on lines of its own."""
    start, end = group
    first, rest = columns
    inner = max(rest, first + STEP)
    lines = wrap(lexemes[: start + 1], first, rest, width)
    lines += [*comment_lines(lexemes[start + 1], inner), *wrap(lexemes[start + 1 : end], inner, inner, width)]
    lines += [*comment_lines(lexemes[end], inner), *wrap(lexemes[end:], inner - STEP, inner, width)]
    return lines


def _packed(pieces: Sequence[Sequence[Lexeme]], first: int, rest: int, width: int) -> list[Sequence[Lexeme]]:
    """Join neighbouring pieces as long as they fit on one line together."""
    packed: list[list[Lexeme]] = [[*pieces[0]]]
    end = first + len(flat(pieces[0]))
    for before, piece in pairwise(pieces):
        length = len(flat(piece))
        fits = end + 1 + length <= width
        if fits and not is_commented(before) and not is_commented([before[-1], *piece]):
            packed[-1] += piece
            end += 1 + length
        else:
            packed.append([*piece])
            end = rest + length
    return [*packed]


# ---- Where lines can be broken ----------------------------------------------------------------------


def _before(*kinds: str) -> Callable[[Sequence[Lexeme]], list[Sequence[Lexeme]]]:
    """Return a function that splits before lexemes of some kinds, outside of parentheses."""
    chosen = frozenset(kinds)

    def split(lexemes: Sequence[Lexeme]) -> list[Sequence[Lexeme]]:
        places = [n for n, depth in enumerate(_depths(lexemes)) if depth == 0 and lexemes[n].kind in chosen]
        return _cut(lexemes, places)

    return split


def _after(kind: str) -> Callable[[Sequence[Lexeme]], list[Sequence[Lexeme]]]:
    """Return a function that splits behind lexemes of a kind, outside of parentheses."""

    def split(lexemes: Sequence[Lexeme]) -> list[Sequence[Lexeme]]:
        places = [n + 1 for n, depth in enumerate(_depths(lexemes)) if depth == 0 and lexemes[n].kind == kind]
        return _cut(lexemes, places)

    return split


_LOOSEST_FIRST: Final = (
    (_before(*_CLAUSES), True),
    (_before("OR"), False),
    (_before("AND"), False),
    (_after("SEMICOLON"), True),
    (_after("COMMA"), True),
    (_before("LESSTHAN"), True),
)
"""How to split, and whether to join what then fits on one line again."""


def _words(lexemes: Sequence[Lexeme]) -> list[Sequence[Lexeme]]:
    """Split between all words that a space or a comment separates; a brace stays with the word before it."""
    places = [
        n
        for n, (before, lexeme) in enumerate(_neighbours(lexemes), start=1)
        if before.beside or lexeme.above or (_is_apart(before, lexeme) and lexeme.kind != "LBRACE")
    ]
    return _cut(lexemes, places)


def _cut(lexemes: Sequence[Lexeme], places: Sequence[int]) -> list[Sequence[Lexeme]]:
    edges = [0, *(place for place in places if 0 < place < len(lexemes)), len(lexemes)]
    return [lexemes[start:end] for start, end in pairwise(edges)]


def _widest_group(lexemes: Sequence[Lexeme]) -> tuple[int, int] | None:
    """Return where the widest outermost parentheses or braces with several lexemes inside open and close.

    Those of a definition's parameters do not count.
    """
    depths = [*_depths(lexemes)]
    equal = next((n for n, lexeme in enumerate(lexemes) if lexeme.kind == "EQUAL"), 0)
    opening = [n for n, lexeme in enumerate(lexemes) if lexeme.text in _OPENING and depths[n] == 0]
    closing = [n for n, lexeme in enumerate(lexemes) if lexeme.text in _CLOSING and depths[n] == 0]
    groups = [(start, end) for start, end in zip(opening, closing, strict=False) if start >= equal and end - start > 2]
    return max(groups, key=lambda group: group[1] - group[0], default=None)


def _depths(lexemes: Sequence[Lexeme]) -> Iterator[int]:
    """Yield how many parentheses each lexeme is inside of; they themselves are outside of their own."""
    depth = 0
    for lexeme in lexemes:
        depth -= lexeme.text in _CLOSING
        yield depth
        depth += lexeme.text in _OPENING


def _is_apart(before: Lexeme, lexeme: Lexeme) -> bool:
    """Say whether a space stands between two neighbours."""
    if lexeme.text in _CLOSED_LEFT or before.text in _CLOSED_RIGHT:
        return False
    return lexeme.text != "(" or before.kind not in _CALLABLE


def _neighbours(lexemes: Sequence[Lexeme]) -> Iterator[tuple[Lexeme, Lexeme]]:
    return pairwise(lexemes)
