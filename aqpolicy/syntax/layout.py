"""Write a policy text in its one layout: same tokens, same comments, spaces and line breaks made anew.

It never changes what a text says: only a semicolon that separates the items of a
block comes or goes. Laying out twice changes nothing more. Comments stay before what
they stood before, or at the end of the line that they ended; blank lines between
statements, and between the items of a block, stay as one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from types import MappingProxyType
from typing import Final

from aqpolicy.diagnostics import Source
from aqpolicy.syntax.lexemes import END, Comment, Lexeme, read_lexemes
from aqpolicy.syntax.mistakes import STATEMENTS
from aqpolicy.syntax.wrapping import STEP, Line, flat, is_commented, wrap

WIDTH: Final = 100
"""The column that lines should end before."""

_OPENERS: Final = frozenset(word.upper() for word in STATEMENTS)
_BLANK: Final = Line()
_SHARE: Final = "DECIMAL"


@dataclass(frozen=True, slots=True)
class _Form:
    """How statements of a kind are laid out; `opens` are the kinds of lexemes that begin an item."""

    opens: frozenset[str] = frozenset()
    not_after: frozenset[str] = frozenset()
    """Kinds of lexemes behind which an item goes on, whatever comes."""
    has_block: bool = False
    is_compact: bool = False
    """A block stands on one line wherever it fits, not only where it was written so."""
    separator: bool = False
    """Items on one line have semicolons between them."""
    column: str = ""
    """The kind of lexeme that is aligned under its like."""


def _form(opens: str, not_after: str = "", **how: object) -> _Form:
    return _Form(frozenset(opens.split()), frozenset(not_after.split()), **how)  # type: ignore[arg-type]  # fields of _Form


_PLAIN: Final = _Form()
_FORMS: Final[Mapping[str, _Form]] = MappingProxyType(
    {
        "TAXONOMY": _form("AUTHORITY REVIEW TIER ATTRIBUTE", has_block=True, column="COLON"),
        "BANDS": _form("NAME", has_block=True, is_compact=True, separator=True, column="LESSTHAN"),
        "STAGES": _form("NAME", "REQUIRES DOT", has_block=True, separator=True, column="REQUIRES"),
        "EVIDENCE": _form("WEIGH ONE AT", has_block=True, separator=True),
        "DEPTH": _form("NAME PROTECTED", "PROTECTED", has_block=True, separator=True, column="EQUAL"),
        "PROFILE": _form(
            "ALL NAME AMPLIFY FROM",
            "AMPLIFY FROM TO",
            has_block=True,
            is_compact=True,
            separator=True,
            column="DECIMAL",
        ),
        "RULE": _form("WHEN UNTIL ADMIT DENY LIMIT DEFER VERIFY PROMOTE OVERRIDES", "DEFER THEN"),
        "BUDGET": _form("FOR ON WITHIN SURPRISAL MOVEMENT DRIFT EXPOSURES"),
        "TEST": _form("GIVEN EXPECT", has_block=True),
    }
)

_IN_COLUMNS: Final[Mapping[str, str]] = MappingProxyType({"DEFINE": "EQUAL", "PROFILE": "LBRACE"})
"""Statements that are aligned when they follow each other, and where."""

_ATTRIBUTES: Final = frozenset({"AUTHORITY", "REVIEW", "TIER"})
"""Attributes of a taxonomy that are declared without a colon."""

_DIRECTIVE: Final = "# aqpolicy:"
"""How a comment begins that silences findings on its line, or on the next if it stands alone."""

_OPEN_ENDED: Final = frozenset({"RULE", "BUDGET"})
"""Statements that no brace closes; an indented comment below them is theirs."""

_CONTINUING: Final = frozenset({"to", "tapered", "groups", "nat", "l2", "examples", "steps", "epochs"})
"""Names that would be read as a part of the item before them if no semicolon stood between."""


@dataclass(frozen=True, slots=True)
class _Statement:
    """One statement: what stands on its first line, its items, and the brace that closes its block."""

    kind: str
    head: Sequence[Lexeme]
    items: Sequence[Sequence[Lexeme]] = ()
    close: Lexeme | None = None
    is_one_line: bool = False
    tail: Sequence[Comment] = ()
    """Comments below the last item that belong to the statement."""

    @property
    def form(self) -> _Form:
        """How it is laid out."""
        return _FORMS.get(self.kind, _PLAIN)

    @property
    def is_tall(self) -> bool:
        """Whether its items stand on lines of their own; blank lines set it apart then."""
        return not self.is_one_line and bool(self.items or self.close)


def format_text(source: Source, width: int = WIDTH) -> str:
    """Return a text in the layout of the language.

    Raises:
        PolicyError: The text has syntax errors (AQ1xx); all that were found.
    """
    statements = [_statement(lexemes, tail, width) for lexemes, tail in _divided(read_lexemes(source))]
    lines: list[Line] = []
    is_apart = False
    for statement in _in_line(statements, width):
        drawn = [*_lead(statement.head[0], 0), *_lines(statement, width)]
        if is_apart or statement.is_tall:
            drawn = [_BLANK, *drawn] if drawn[:1] != [_BLANK] else drawn
        lines += drawn
        is_apart = statement.is_tall
    return _joined(lines)


# ---- From lexemes to statements ---------------------------------------------------------------------


def _divided(lexemes: Sequence[Lexeme]) -> Iterator[tuple[Sequence[Lexeme], Sequence[Comment]]]:
    """Yield the lexemes of each statement, and of the end, with the indented comments right below them."""
    starts = [n for n, lexeme in enumerate(lexemes) if lexeme.kind in _OPENERS or lexeme.kind == END]
    below: Sequence[Comment] = ()
    for start, end in zip(starts, [*starts[1:], len(lexemes)], strict=True):
        first, *others = lexemes[start:end]
        first = replace(first, above=first.above[len(below) :]) if below else first
        below = _below(lexemes[end]) if first.kind in _OPEN_ENDED else ()
        yield [first, *others], below


def _below(following: Lexeme) -> Sequence[Comment]:
    """Return the comments above a lexeme that belong to the statement before it."""
    return [*takewhile(lambda comment: comment.is_indented and not comment.after_blank, following.above)]


def _statement(lexemes: Sequence[Lexeme], tail: Sequence[Comment], width: int) -> _Statement:
    kind = lexemes[0].kind
    form = _FORMS.get(kind, _PLAIN)
    if not form.has_block:
        start = next((n for n, lexeme in enumerate(lexemes) if lexeme.kind in form.opens), len(lexemes))
        return _Statement(kind, lexemes[:start], _items(lexemes[start:], form), tail=tail)
    if lexemes[-1].kind != "RBRACE":
        return _Statement(kind, lexemes)
    start = next(n for n, lexeme in enumerate(lexemes) if lexeme.kind == "LBRACE") + 1
    statement = _Statement(kind, lexemes[:start], _items(lexemes[start:-1], form), lexemes[-1])
    return replace(statement, is_one_line=_stands_on_one_line(statement, lexemes[start:], width))


def _stands_on_one_line(statement: _Statement, block: Sequence[Lexeme], width: int) -> bool:
    if statement.form.is_compact:
        is_written_so = not any(item[0].opens_paragraph for item in statement.items[1:])
    else:
        is_written_so = not any(lexeme.starts_line for lexeme in block)
    is_bare = not is_commented([*statement.head, *block])
    return is_written_so and is_bare and len(_one_line(statement)) <= width


def _items(body: Sequence[Lexeme], form: _Form) -> list[list[Lexeme]]:
    """Divide what follows the head into its items, without the semicolons between them."""
    items: list[list[Lexeme]] = []
    before = ""
    for lexeme in body:
        if form.separator and lexeme.kind == "SEMICOLON":
            items[-1][-1] = replace(items[-1][-1], beside=lexeme.beside)
        elif lexeme.kind in form.opens and before not in form.not_after:
            items.append([lexeme])
        else:
            items[-1].append(lexeme)
        before = lexeme.kind
    return [_weighed(item) if item[0].kind == "WEIGH" else item for item in items]


def _weighed(item: Sequence[Lexeme]) -> list[Lexeme]:
    """Put semicolons between the weights of an item."""
    parts = [_ended([lexeme]) if lexeme.kind == "DECIMAL" else [lexeme] for lexeme in item[:-1]]
    return [lexeme for part in [*parts, item[-1:]] for lexeme in part]


def _ended(item: Sequence[Lexeme]) -> list[Lexeme]:
    """Put a semicolon behind an item."""
    *others, last = item
    return [*others, replace(last, beside=""), Lexeme("SEMICOLON", ";", beside=last.beside)]


# ---- Columns ----------------------------------------------------------------------------------------


def _in_line(statements: Sequence[_Statement], width: int) -> Iterator[_Statement]:
    """Yield the statements, those aligned that follow each other and are of the same kind."""
    run: list[_Statement] = []
    for statement in statements:
        if run and (statement.kind != run[0].kind or statement.is_tall or statement.head[0].opens_paragraph):
            yield from _aligned_run(run, width)
            run = []
        run.append(statement)
    yield from _aligned_run(run, width)


def _aligned_run(run: Sequence[_Statement], width: int) -> Iterator[_Statement]:
    kind = _IN_COLUMNS.get(run[0].kind)
    if kind is None or run[0].is_tall:
        yield from run
        return
    for statement, head in zip(run, _aligned([statement.head for statement in run], kind), strict=True):
        aligned = replace(statement, head=head)
        fits = not statement.is_one_line or len(_one_line(aligned)) <= width
        yield aligned if fits else statement


def _aligned_items(statement: _Statement) -> Iterator[Sequence[Lexeme]]:
    """Yield the items with their columns aligned, paragraph by paragraph."""
    paragraph: list[Sequence[Lexeme]] = []
    for item in statement.items:
        if paragraph and item[0].opens_paragraph:
            yield from _aligned(paragraph, statement.form.column)
            paragraph = []
        paragraph.append(item)
    yield from _aligned(paragraph, statement.form.column)


def _aligned(rows: Sequence[Sequence[Lexeme]], kind: str) -> list[Sequence[Lexeme]]:
    """Fill up what stands before a column, so that all rows that have it begin it at the same place."""
    places = [_column(row, kind) for row in rows]
    widths: dict[str, int] = {}
    for row, place in zip(rows, places, strict=True):
        if place:
            widths[row[place].kind] = max(widths.get(row[place].kind, 0), len(flat(row[:place])))
    return [
        _filled(row, place, widths[row[place].kind]) if place else row for row, place in zip(rows, places, strict=True)
    ]


def _column(row: Sequence[Lexeme], kind: str) -> int:
    """Return where the column of a row begins; 0 if it has none."""
    named = (n for n, lexeme in enumerate(row) if lexeme.kind == kind)
    place = 1 if row[0].kind in _ATTRIBUTES else next(named, 0)
    return 0 if is_commented(row[: place + 1]) else place


def _filled(row: Sequence[Lexeme], place: int, width: int) -> Sequence[Lexeme]:
    missing = width - len(flat(row[:place])) + (row[place].kind == "COLON")
    before = row[place - 1]
    return [*row[: place - 1], replace(before, text=before.text + " " * missing), *row[place:]]


# ---- From statements to lines -----------------------------------------------------------------------


def _lead(lexeme: Lexeme, indent: int) -> Iterator[Line]:
    """Yield what stands above a lexeme: comments and blank lines."""
    for comment in lexeme.above:
        if comment.after_blank:
            yield _BLANK
        yield Line(indent, comment.text)
    if lexeme.after_blank:
        yield _BLANK


def _lines(statement: _Statement, width: int) -> list[Line]:
    if statement.is_one_line and statement.close:
        return [Line(0, _one_line(statement), statement.close.beside)]
    lines = _wrapped(statement.head, 0, width) if statement.kind != END else []
    body = [*_body(statement, width)]
    lines += body[1:] if body[:1] == [_BLANK] else body
    return lines


def _wrapped(lexemes: Sequence[Lexeme], indent: int, width: int) -> list[Line]:
    """Return the lines of a head or an item; a directive to the checker goes on to speak for the first of them."""
    *others, last = lines = wrap(lexemes, indent, indent + STEP, width)
    was_one_line = not any(lexeme.starts_line for lexeme in lexemes[1:])
    if others and was_one_line and last.comment.startswith(_DIRECTIVE):
        return [Line(indent, last.comment), *others, replace(last, comment="")]
    return lines


def _one_line(statement: _Statement) -> str:
    items = [_aligned([item], statement.form.column)[0] for item in statement.items]
    if statement.form.separator:
        items = [*map(_ended, items[:-1]), *items[-1:]]
    return " ".join([flat(statement.head), *map(flat, items), "}"])


def _body(statement: _Statement, width: int) -> Iterator[Line]:
    """Yield the lines of the items and of the closing brace."""
    items = [*_aligned_items(statement)]
    for n, item in enumerate(items):
        lead = _lead(item[0], STEP)
        yield from lead if statement.form.has_block else (line for line in lead if line != _BLANK)
        must_end = statement.form.separator and n + 1 < len(items) and items[n + 1][0].text.rstrip() in _CONTINUING
        yield from _wrapped(_ended(item) if must_end else item, STEP, width)
    for comment in statement.tail:
        yield Line(STEP, comment.text)
    if statement.close:
        yield from _lead(replace(statement.close, after_blank=False), STEP)
        yield Line(0, "}", statement.close.beside)


def _joined(lines: Sequence[Line]) -> str:
    """Return the text of lines; the comments that end lines of a paragraph stand in one column."""
    texts: list[str] = []
    paragraph: list[Line] = []
    for line in [*lines, _BLANK]:
        if line != _BLANK:
            paragraph.append(line)
            continue
        column = max((each.end for each in paragraph if each.comment), default=0) + STEP
        texts += [_text(each, column) for each in paragraph]
        texts.append("")
        paragraph = []
    return "\n".join(texts).strip("\n") + "\n" if any(texts) else ""


def _text(line: Line, column: int) -> str:
    text = " " * line.indent + line.text
    return text.ljust(column) + line.comment if line.comment else text
