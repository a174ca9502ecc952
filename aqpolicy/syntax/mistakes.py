"""Say what is wrong where the grammar says only that something is.

Input: where the parser stopped; output: one diagnostic in the author's words,
and where to look for the next statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, cast

from lark import Lark, Token, UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from aqpolicy.diagnostics import Diagnostic, Label, Source, Span, did_you_mean
from aqpolicy.syntax.build import token_span
from aqpolicy.units import UNITS

STATEMENTS: Final = (
    "policy",
    "taxonomy",
    "depth",
    "define",
    "profile",
    "rule",
    "combine",
    "budget",
    "otherwise",
    "prove",
)
"""The words that open a statement."""

LATER_STATEMENTS: Final = ("bands", "extends", "import", "complete", "phase", "case", "test")
"""Statements of the language that this version does not have."""

LATER: Final[Mapping[str, str]] = MappingProxyType(
    {
        "bands": "`bands` of an attribute",
        "band": "`bands` of an attribute",
        "extends": "`extends`",
        "import": "`import`",
        "complete": "`complete`",
        "phase": "`phase`",
        "phases": "`phase`",
        "case": "test cases",
        "test": "test cases",
        "verify": "`verify ... else rollback`",
        "defer": "`defer until`",
        "movement": "`movement` limits",
        "amplify": "`amplify`",
        "promote": "`promote`",
        "linear": "ramps of shares by depth",
        "from": "ramps of shares by depth",
        "rises": "`prove ... rises with`",
        "spent": "`prove spent(...)`",
        "-": "shares computed from an attribute",
    }
)
"""Words of the language that this version does not have, and what they would open."""

_KINDS: Final = MappingProxyType(
    {"NAME": "a name", "DECIMAL": "a number", "SEMVER": "a version such as `1.0.0`", "STRING": 'a text in "quotes"'}
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
        """List what was expected; all opening words of statements count as one, and so do all units."""
        listed = list(self.kinds)
        words = self.words
        for several, name in ((STATEMENTS, "a statement"), (UNITS, "a unit")):
            if words.issuperset(several):
                words -= set(several)
                listed.append(name)
        listed += [f"`{word}`" for word in sorted(words, key=lambda word: (not word.isalpha(), word))]
        return " or ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)


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
    if (wanted := _later_word(previous, word)) is not None:
        return Mistake(later(wanted, span), span.end)
    hint = (_ASKS_FOR[word],) if word in _ASKS_FOR and "is" in expected.words else ()
    diagnostic = Diagnostic(
        "AQ101",
        "error",
        f"expected {expected.text}, found {_quoted(word)}",
        (Label(span, "not expected here"),),
        help=hint or did_you_mean(word, expected.words),
    )
    return Mistake(diagnostic, span.start if word in STATEMENTS else span.end)


def later(word: str, span: Span) -> Diagnostic:
    """Return the diagnostic for a construct that this version of the language does not have."""
    return Diagnostic(
        "AQ110",
        "error",
        f"{LATER[word]}: part of the language, but not of this version",
        (Label(span, "not in this version"),),
        notes=("nothing of a policy is ever skipped, so the file is refused",),
    )


def _is_misplaced_word(previous: Token, expected: _Expected) -> bool:
    """Say whether the parser took a word of the language for a name, and stumbled over what followed."""
    return previous.type == "NAME" and (str(previous) in STATEMENTS or str(previous) in expected.words)


def _later_word(previous: Token | None, word: str) -> str | None:
    """Return the word of a later version that the author seems to use here."""
    if previous == "from":  # a ramp `from surface 1 to ...`, begun like a profile's group
        return "from"
    if previous == "prove" and word == "admitted":
        return "rises"
    return word if word in LATER else None


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
    if char in LATER:
        return Mistake(later(char, span), span.end)
    diagnostic = Diagnostic(
        "AQ102",
        "error",
        f"unexpected character {_quoted(char)}",
        (Label(span, f"expected {expected.text}"),),
        help=(_ASKS_FOR[char],) if char in _ASKS_FOR else (),
    )
    return Mistake(diagnostic, span.end)


def _quoted(text: str) -> str:
    return f"`{text}`" if "`" not in text else "a backtick"
