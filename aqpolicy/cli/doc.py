"""`aqpolicy doc`: write a policy as a page for the people who sign it.

Only a policy that is proved is written; of any other the findings are shown.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aqpolicy.cli.output import check_settings, library, read_source, show
from aqpolicy.errors import PolicyError

if TYPE_CHECKING:
    from aqpolicy.report.sheet import Sheet


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "doc",
        help="write a policy as a page for the people who sign it",
        description="Prove a policy and write it as a page for people: who may teach what, every rule and budget in "
        "sentences, what is proved, what it is made of, and room for signatures.",
        epilog="Exit status: 0 written, 1 errors in the policy, 2 usage or input error, 3 a question was left open.",
    )
    parser.add_argument("policy", metavar="POLICY", help="the policy's file")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page, replaced if there (default: stdout)")
    parser.add_argument("--format", choices=["html", "markdown"], default="html", help="(default: html)")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Prove, then write."""
    from aqpolicy.lint.settings import find_settings
    from aqpolicy.pipeline import Pipeline
    from aqpolicy.report.policy_sheet import sheet_of
    from aqpolicy.trust import replace_file

    source, settings = read_source(args.policy), find_settings()
    pipeline = Pipeline(source, library(source, settings), check_settings(settings), settings.levels)
    try:
        page = _rendered(sheet_of(pipeline), args.format)
    except PolicyError as error:
        return show(error.diagnostics, source, pipeline.sources.values())
    if args.out is None:
        print(page, end="")
    else:
        replace_file(args.out, page.encode("utf-8"))
        print(f"{args.out}: {pipeline.policy.name} {pipeline.policy.version}, {pipeline.digests()['source']}")
    return 0


def _rendered(sheet: Sheet, form: str) -> str:
    from aqpolicy.report.policy_markdown import render_markdown
    from aqpolicy.report.policy_page import render_sheet

    return render_markdown(sheet) if form == "markdown" else render_sheet(sheet)
