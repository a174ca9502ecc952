"""Parse a policy text; report every syntax error that can be told apart.

After an error the parser goes on at the next line that opens a statement, so
one slip never hides another. It looks up no names.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from lark import Lark, Token, UnexpectedInput
from lark import Tree as ParseTree
from lark.parsers.lalr_interactive_parser import InteractiveParser

from aqpolicy.diagnostics import Diagnostic, Label, Source
from aqpolicy.errors import PolicyError
from aqpolicy.shipped import grammar_text
from aqpolicy.syntax.build import TreeBuilder, token_span
from aqpolicy.syntax.mistakes import LATER_STATEMENTS, STATEMENTS, Mistake, explain
from aqpolicy.syntax.scan import scan
from aqpolicy.syntax.tree import Tree

MAX_ERRORS: Final = 20
"""Syntax errors reported for one text."""

MAX_NESTING: Final = 64
"""Parentheses around parentheses; every later stage may then simply recurse."""

_NEXT_STATEMENT: Final = re.compile(rf"^[ \t]*(?=(?:{'|'.join([*STATEMENTS, *LATER_STATEMENTS])})\b)", re.MULTILINE)


def parse(source: Source) -> Tree:
    """Return the tree of a policy text.

    Raises:
        PolicyError: The text has syntax errors (AQ1xx); all that were found.
    """
    refused = scan(source)
    if refused:
        raise PolicyError(refused)
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


@cache
def _parser() -> Lark:
    # No `cache=True`: lark's cache is a pickle at a predictable name in the temp folder.
    return Lark(grammar_text(), parser="lalr", propagate_positions=True, maybe_placeholders=True)


def _parse_from(source: Source, start: int) -> tuple[ParseTree[Token] | None, list[Mistake]]:
    """Parse from an offset on; return the parse tree, or None and the first mistake.

    What lies before is blanked, line by line, so that positions stay those of the source.
    """
    text = re.sub(r"[^\n]", " ", source.text[:start]) + source.text[start:]
    state = _parser().parse_interactive(text)
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
        return None, [explain(source, _parser(), _accepted(state), previous, error)]


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
