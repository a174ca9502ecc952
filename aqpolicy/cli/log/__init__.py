"""`aqpolicy log`: verify, show and prove what the lineage log of a run says.

One module per verb, each with `register(verbs)`; what verbs share is in `arguments`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

VERBS: Final = (
    "verify",
    "show",
    "find",
    "stats",
    "prove",
    "check_proof",
    "compare",
    "export",
    "check_fork",
)
"""Modules of this package, in the order of the help."""


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    summary = "verify, show and prove what the lineage log of a run says"
    parser = subparsers.add_parser("log", help=summary, description=f"{summary.capitalize()}.")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name in VERBS:
        import_module(f"aqpolicy.cli.log.{name}").register(verbs)
