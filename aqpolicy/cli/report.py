"""`aqpolicy report`: write the evidence of a run as one self-contained page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "report",
        help="write the evidence of a run as a page",
        description="Verify a run and every decision of its log, then write one self-contained HTML page: policy, "
        "admitted and denied mass, budgets, signed checkpoint.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a finished run")
    parser.add_argument("--keyring", required=True, metavar="K", help="the keys that are trusted")
    parser.add_argument("--out", required=True, metavar="FILE.html", type=Path, help="the page, replaced if there")
    parser.add_argument("--policy", metavar="FILE", type=Path, help="the policy's source, to show it")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Verify, then write."""
    from aqpolicy.report import policy_of_source, render_report, report_of_run
    from aqpolicy.trace import audit, open_run
    from aqpolicy.trust import load_keyring, replace_file

    keyring = load_keyring(args.keyring)
    opened = open_run(args.run, keyring)
    policy = None if args.policy is None else policy_of_source(opened, args.policy)
    page = render_report(report_of_run(opened, audit(opened), policy))
    replace_file(args.out, page.encode("utf-8"))
    print(f"{args.out}: {opened.bundle.policy_name}, {len(opened.blocks)} steps, verified")
    return 0
