"""Say what is wrong where the grammar says only that something is.

Input: where the parser stopped; output: one diagnostic in the author's words,
and where to look for the next statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, cast

from lark import Lark, Token, UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from aqpolicy.diagnostics import Diagnostic, Label, Source, Span, did_you_mean
from aqpolicy.syntax.build import token_span
from aqpolicy.units import UNITS

STATEMENTS: Final = (
    "policy",
    "extends",
    "import",
    "taxonomy",
    "bands",
    "phases",
    "stages",
    "evidence",
    "depth",
    "define",
    "profile",
    "rule",
    "combine",
    "complete",
    "budget",
    "assume",
    "otherwise",
    "prove",
    "test",
)
"""The words that open a statement."""

_OPENINGS: Final = MappingProxyType(
    {
        "an action": ("admit", "deny", "limit", "defer", "verify", "promote"),
        "a clause": ("for", "on", "within", "surprisal", "movement", "drift", "exposures"),
    }
)
"""What the parts of a rule and of a budget are called, and the words that open them."""

_CLASSES: Final = MappingProxyType(
    {"a statement": STATEMENTS, **_OPENINGS, "a comparison": ("is", "<", "<=", ">", ">="), "a unit": UNITS}
)
"""Words that are expected together, and what they are together."""

_KINDS: Final = MappingProxyType(
    {
        "NAME": "a name",
        "DECIMAL": "a number",
        "DATE": "a date such as `2026-12-31`",
        "SEMVER": "a version such as `1.0.0`",
        "STRING": 'a text in "quotes"',
    }
)

_ASKS_FOR: Final = MappingProxyType(
    {
        "=": "write `is` to compare for equality",
        "!": "write `is not`",
        "&": "write `and`",
        "|": "write `or`",
        "%": "write a share as a decimal: 0.5 for half",
        "'": 'a text stands in "double quotes"',
        "/": "a comment starts with `#`",
    }
)


@dataclass(frozen=True, slots=True)
class Mistake:
    """A diagnostic, and the offset from which the next statement may be looked for."""

    diagnostic: Diagnostic
    resume: int


def explain(
    source: Source, parser: Lark, accepted: Iterable[str], previous: Token | None, error: UnexpectedInput
) -> Mistake:
    """Return the mistake behind a parser's exception; `accepted` are the terminals that would have been right."""
    expected = _Expected.of(parser, accepted)
    if isinstance(error, UnexpectedToken) and error.token.type == "$END":
        return _unexpected_end(source, previous, expected)
    if isinstance(error, UnexpectedToken):
        return _unexpected_token(source, error.token, previous, expected)
    if isinstance(error, UnexpectedCharacters):
        return _unexpected_character(source, error, expected)
    raise error  # lark has no third kind


@dataclass(frozen=True, slots=True)
class _Expected:
    """What the grammar would have taken: words of the language, and kinds of things."""

    words: frozenset[str]
    kinds: tuple[str, ...]

    @classmethod
    def of(cls, parser: Lark, accepted: Iterable[str]) -> _Expected:
        names = set(accepted)
        words = {str(t.pattern.value) for t in parser.terminals if t.name in names and t.name not in _KINDS}
        return cls(frozenset(words), tuple(text for name, text in _KINDS.items() if name in names))

    @property
    def text(self) -> str:
        """List what was expected; words that are expected together are told by what they are together."""
        together = {name: words for name, words in _CLASSES.items() if self.words.issuperset(words)}
        others = self.words.difference(*together.values())
        single = (f"`{word}`" for word in sorted(others, key=lambda word: (not word.isalpha(), word)))
        return _either([*self.kinds, *together, *single])

    def advice(self, found: str) -> tuple[str, ...]:
        """Return help lines for a word that was not expected: what was probably meant, or what there is."""
        near = did_you_mean(found, filter(str.isalpha, self.words))
        return near or tuple(
            f"{name} starts with {_either([f'`{word}`' for word in words])}"
            for name, words in _OPENINGS.items()
            if self.words.issuperset(words)
        )


def _unexpected_end(source: Source, previous: Token | None, expected: _Expected) -> Mistake:
    end = len(source.text.rstrip())
    span = token_span(source.name, previous) if previous else Span(source.name, 0, 0, 1, 1)
    label = Label(span, f"expected {expected.text} after this")
    return Mistake(Diagnostic("AQ105", "error", "the file ends inside a statement", (label,)), end)


def _unexpected_token(source: Source, token: Token, previous: Token | None, expected: _Expected) -> Mistake:
    if previous is not None and _is_misplaced_word(previous, expected):
        return _reserved_word(source, previous)
    span = token_span(source.name, token)
    word = str(token)
    hint = (_ASKS_FOR[word],) if word in _ASKS_FOR and "is" in expected.words else ()
    diagnostic = Diagnostic(
        "AQ101",
        "error",
        f"expected {expected.text}, found {_quoted(word)}",
        (Label(span, "not expected here"),),
        help=hint or expected.advice(word),
    )
    return Mistake(diagnostic, span.start if word in STATEMENTS else span.end)


def _is_misplaced_word(previous: Token, expected: _Expected) -> bool:
    """Say whether the parser took a word of the language for a name, and stumbled over what followed."""
    return previous.type == "NAME" and (str(previous) in STATEMENTS or str(previous) in expected.words)


def _reserved_word(source: Source, token: Token) -> Mistake:
    span = token_span(source.name, token)
    diagnostic = Diagnostic(
        "AQ104",
        "error",
        f"expected a name, found the word `{token}` of the language",
        (Label(span, "a name is missing before this, or this is meant as one"),),
        help=("write the name, or choose another",),
    )
    return Mistake(diagnostic, span.start)


def _unexpected_character(source: Source, error: UnexpectedCharacters, expected: _Expected) -> Mistake:
    at = cast("int", error.pos_in_stream)  # lark declares it as None
    char = source.text[at]
    end = at + len(source.text[at:].split("\n", 1)[0])
    span = Span(source.name, at, at + 1, error.line, error.column)
    if char == '"':
        label = Label(Span(source.name, at, end, error.line, error.column), "the closing quote is missing")
        return Mistake(Diagnostic("AQ103", "error", "a text in quotes does not end on its line", (label,)), end)
    diagnostic = Diagnostic(
        "AQ102",
        "error",
        f"unexpected character {_quoted(char)}",
        (Label(span, f"expected {expected.text}"),),
        help=(_ASKS_FOR[char],) if char in _ASKS_FOR else (),
    )
    return Mistake(diagnostic, span.end)


def _either(items: Sequence[str]) -> str:
    return " or ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def _quoted(text: str) -> str:
    return f"`{text}`" if "`" not in text else "a backtick"
