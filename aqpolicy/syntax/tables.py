"""Make the parser of the shipped grammar, from tables that were generated of it beforehand.

Building an LALR parser from a grammar takes a quarter of a second, reading its
tables a few milliseconds. The tables are JSON (never pickles), name the grammar
and the version of lark that they were made of, and are not used for any other:
then the parser is built from the grammar, which remains the reference.
"""

from __future__ import annotations

import json
from functools import cache
from hashlib import sha256
from typing import Any, Final

import lark
from lark import Lark
from lark.grammar import Rule
from lark.lexer import TerminalDef

from aqpolicy.shipped import grammar_text, parse_tables_text

OPTIONS: Final[dict[str, Any]] = {"parser": "lalr", "propagate_positions": True, "maybe_placeholders": True}


@cache
def policy_parser() -> Lark:
    """Return the parser of the routing language; one for the whole process."""
    grammar = grammar_text()
    stored = json.loads(parse_tables_text(), object_hook=_with_numbers)
    if stored["made_of"] != _origin(grammar):
        return build_parser(grammar)
    parser = Lark.__new__(Lark)
    parser._load({"data": stored["data"], "memo": stored["memo"]})  # noqa: SLF001 - what lark's own stand-alone parsers call
    return parser


def build_parser(grammar: str) -> Lark:
    """Return a parser made from the grammar itself."""
    return Lark(grammar, **OPTIONS)


def parse_tables(grammar: str) -> str:
    """Return the tables of a grammar as JSON text."""
    data, memo = build_parser(grammar).memo_serialize([TerminalDef, Rule])
    stored = {"made_of": _origin(grammar), "data": data, "memo": memo}
    return json.dumps(stored, sort_keys=True, separators=(",", ":")) + "\n"


def _origin(grammar: str) -> dict[str, str]:
    return {"grammar": sha256(grammar.encode()).hexdigest(), "lark": lark.__version__}


def _with_numbers(item: dict[str, Any]) -> dict[Any, Any]:
    """Give states and references their numbers back: JSON has only texts for keys."""
    return {int(key) if key.isdecimal() else key: value for key, value in item.items()}
