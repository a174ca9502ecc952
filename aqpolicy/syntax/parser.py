"""Parse a policy text; report every syntax error that can be told apart.

After an error the parser goes on at the next line that opens a statement, so
one slip never hides another. It looks up no names.
"""

from __future__ import annotations

import re
from typing import Final

from lark import Token, UnexpectedInput
from lark import Tree as ParseTree
from lark.parsers.lalr_interactive_parser import InteractiveParser

from aqpolicy.diagnostics import Diagnostic, Label, Source
from aqpolicy.errors import PolicyError
from aqpolicy.syntax.build import TreeBuilder, token_span
from aqpolicy.syntax.mistakes import STATEMENTS, Mistake, explain
from aqpolicy.syntax.scan import scan
from aqpolicy.syntax.tables import policy_parser
from aqpolicy.syntax.tree import Tree

MAX_ERRORS: Final = 20
"""Syntax errors reported for one text."""

MAX_NESTING: Final = 64
"""Parentheses around parentheses; every later stage may then simply recurse."""

_BRACKET: Final = re.compile(r"[()]")
_NEXT_STATEMENT: Final = re.compile(rf"^[ \t]*(?=(?:{'|'.join(STATEMENTS)})\b)", re.MULTILINE)


def parse(source: Source) -> Tree:
    """Return the tree of a policy text.

    Raises:
        PolicyError: The text has syntax errors (AQ1xx); all that were found.
    """
    refused = scan(source)
    if refused:
        raise PolicyError(refused)
    tree = _parse_whole(source.text)
    if tree is not None:
        return TreeBuilder(source.name).transform(tree)
    tree, problems = _parse_from(source, 0)
    found = list(problems)
    while problems and len(found) < MAX_ERRORS:
        resume = _NEXT_STATEMENT.search(source.text, problems[0].resume)
        if resume is None:
            break
        _, problems = _parse_from(source, resume.end())
        found += problems
    if tree is None or found:
        raise PolicyError(tuple(problem.diagnostic for problem in found))
    return TreeBuilder(source.name).transform(tree)


def _parse_whole(text: str) -> ParseTree[Token] | None:
    """Return the parse tree of a right text, quickly; None where the slower way has something to say."""
    depth = 0
    for bracket in _BRACKET.finditer(text):
        depth = depth + 1 if bracket[0] == "(" else max(depth - 1, 0)
        if depth > MAX_NESTING:
            return None
    try:
        return policy_parser().parse(text)
    except UnexpectedInput:
        return None


def _parse_from(source: Source, start: int) -> tuple[ParseTree[Token] | None, list[Mistake]]:
    """Parse from an offset on; return the parse tree, or None and the first mistake.

    What lies before is blanked, line by line, so that positions stay those of the source.
    """
    text = re.sub(r"[^\n]", " ", source.text[:start]) + source.text[start:]
    state = policy_parser().parse_interactive(text)
    previous: Token | None = None
    nesting = 0
    try:
        for token in state.iter_parse():
            previous = token
            nesting += {"(": 1, ")": -1}.get(str(token), 0)
            if nesting > MAX_NESTING:
                return None, [_too_deep(source, token)]
        return _finish(state, previous), []
    except UnexpectedInput as error:
        return None, [explain(source, policy_parser(), _accepted(state), previous, error)]


def _finish(state: InteractiveParser, previous: Token | None) -> ParseTree[Token]:
    tree: ParseTree[Token] = state.feed_eof(previous)  # type: ignore[no-untyped-call]  # lark leaves it untyped
    return tree


def _accepted(state: InteractiveParser) -> set[str]:
    names: set[str] = state.accepts()  # type: ignore[no-untyped-call]  # lark leaves it untyped
    return names


def _too_deep(source: Source, token: Token) -> Mistake:
    span = token_span(source.name, token)
    diagnostic = Diagnostic(
        "AQ106",
        "error",
        f"parentheses are nested deeper than {MAX_NESTING}",
        (Label(span, "one too many"),),
        help=("give the inner condition a name with `define`",),
    )
    return Mistake(diagnostic, span.end)
