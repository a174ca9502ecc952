"""`aqpolicy compile`: turn a policy into a signed bundle for one model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aqpolicy.errors import PolicyError

if TYPE_CHECKING:
    from aqpolicy.diagnostics import Diagnostic
    from aqpolicy.pipeline import Pipeline


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    from aqpolicy.diagnostics.formats import FORMATS

    parser = subparsers.add_parser(
        "compile",
        help="turn a policy into a signed bundle for one model",
        description="Check a policy, compile it for a model and sign the bundle; findings stop it before it writes.",
        epilog="Exit status: 0 written, 1 findings, 2 input error, 3 a question was left open.",
    )
    parser.add_argument("file", metavar="FILE", help="the policy")
    parser.add_argument("--model", required=True, metavar="MODEL.json", help="written by `aqpolicy describe`")
    parser.add_argument(
        "--key", required=True, action="append", metavar="KEYFILE", help="signing key; repeat for several signatures"
    )
    parser.add_argument("--out", required=True, metavar="BUNDLE.aqb", help="the bundle to write, replaced if there")
    parser.add_argument("--format", choices=list(FORMATS), default="full", help="how findings are written")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Write the bundle."""
    from aqpolicy.bundle import seal_bundle
    from aqpolicy.cli.check import summary
    from aqpolicy.cli.output import check_settings, library, read_bytes, read_source
    from aqpolicy.lint import find_settings
    from aqpolicy.pipeline import Pipeline
    from aqpolicy.trust import digest_text, load_signing_key, replace_file, sha256

    source, settings = read_source(args.file), find_settings()
    keys = [load_signing_key(path) for path in args.key]
    pipeline = Pipeline(source, library(source, settings), check_settings(settings), settings.levels)
    try:
        payload = pipeline.payload(read_bytes(args.model))
    except PolicyError as error:
        return _refuse(error.diagnostics, pipeline, args.format)
    replace_file(Path(args.out), seal_bundle(payload, keys))
    print(f"{source.name}: {summary(pipeline)}")
    print(f"{args.out}: {digest_text(sha256(payload))}")
    return 0


def _refuse(findings: tuple[Diagnostic, ...], pipeline: Pipeline, style: str) -> int:
    """Say why no bundle is written; return the status that the findings amount to."""
    from aqpolicy.cli.output import show, status_of
    from aqpolicy.diagnostics.formats import FORMATS

    if style == "full":
        return show(findings, pipeline.source, pipeline.sources)
    print(FORMATS[style](findings, tuple(pipeline.sources.values())))
    return status_of(findings)
