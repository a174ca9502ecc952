"""`aqpolicy explain`: the page of one code, or the list of all codes. It needs no policy."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from aqpolicy.errors import InputError, InternalError

if TYPE_CHECKING:
    from aqpolicy.diagnostics import Code


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "explain",
        help="say what a finding means and what to do about it",
        description="Print what a code means: an example, why it matters, what to do. Without a code, list them all.",
    )
    parser.add_argument("code", nargs="?", metavar="CODE", help="such as AQ301, 301 or conflicting-grants")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print a page, or the list."""
    from aqpolicy.diagnostics import CODES

    if args.code is not None:
        print(page_of(find_code(args.code)))
        return 0
    width = max(len(code.slug) for code in CODES.values())
    for code in CODES.values():
        print(f"{code.number}  {code.slug:<{width}}  {code.title}")
    return 0


def find_code(word: str) -> Code:
    """Return the code that a user means by its number or its name, in any case.

    Raises:
        InputError: There is no such code.
    """
    from aqpolicy.diagnostics import CODES, did_you_mean

    names = {name: code for code in CODES.values() for name in (code.number, code.slug)}
    lowered = {name.lower(): code for name, code in names.items()} | {code.number[2:]: code for code in CODES.values()}
    if (code := lowered.get(word.lower())) is not None:
        return code
    wanted = f"AQ{word}" if word.isdigit() else word
    advice = did_you_mean(wanted, names) or ("`aqpolicy explain` lists them all",)
    raise InputError(f"there is no code `{word}`; {advice[0]}")


def page_of(code: Code) -> str:
    """Return the documentation page of a code.

    Raises:
        InternalError: This installation holds no page for it.
    """
    from aqpolicy.shipped import rules_folder

    try:
        return (rules_folder() / f"{code.number}-{code.slug}.md").read_text(encoding="utf-8").rstrip()
    except OSError as error:
        raise InternalError(f"this installation of aqpolicy has no page for {code.number}") from error
