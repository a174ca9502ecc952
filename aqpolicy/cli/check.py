"""`aqpolicy check`: prove a policy free of conflicts and unbounded learning."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aqpolicy.errors import InputError, PolicyError

if TYPE_CHECKING:
    from aqpolicy.diagnostics import Diagnostic, Source
    from aqpolicy.pipeline import Pipeline


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "check",
        help="prove a policy free of conflicts and unbounded learning",
        description="Prove policies free of conflicts and unbounded learning, and show all that is wrong.",
        epilog="Exit status: 0 proved, 1 findings, 2 input error, 3 a question was left open.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="policies to check")
    parser.add_argument("--model", metavar="MODEL.json", help="also bind the depth groups to this model description")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Check every file and return the gravest status."""
    description = read_bytes(args.model) if args.model else None
    return max(_check(read_source(file), description) for file in args.files)


def read_source(file: str) -> Source:
    """Read a policy.

    Raises:
        InputError: It cannot be read as UTF-8 text.
    """
    from aqpolicy.diagnostics import Source

    try:
        return Source(file, read_bytes(file).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"`{file}` is not UTF-8 text") from error


def read_bytes(file: str) -> bytes:
    """Read a file.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read `{file}`: {error.strerror}") from error


def _check(source: Source, description: bytes | None) -> int:
    from aqpolicy.pipeline import Pipeline

    pipeline = Pipeline(source)
    try:
        findings = (*pipeline.result.findings, *_unbound(pipeline, description))
    except PolicyError as error:
        return show(error.diagnostics, source)
    if findings:
        return show(findings, source)
    print(f"{source.name}: {summary(pipeline)}")
    return 0


def _unbound(pipeline: Pipeline, description: bytes | None) -> tuple[Diagnostic, ...]:
    """Return what does not fit between policy and model."""
    from aqpolicy.compiler import parse_description

    if description is None:
        return ()
    try:
        pipeline.bound(parse_description(description))
    except PolicyError as error:
        return error.diagnostics
    return ()


def summary(pipeline: Pipeline) -> str:
    """Return what was proved, in a line."""
    policy = pipeline.policy
    counts = ((policy.rules, "rule"), (policy.budgets, "budget"), (policy.proofs, "prove statement"))
    parts = [f"{len(items)} {name}{'' if len(items) == 1 else 's'}" for items, name in counts]
    proofs = ", every prove statement holds" if policy.proofs else ""
    return f"{', '.join(parts)}: no conflict, bounded, no dead rule{proofs} ({len(pipeline.result.proved)} proofs)"


def show(findings: tuple[Diagnostic, ...], source: Source) -> int:
    """Print findings and return the status that they amount to."""
    from aqpolicy.diagnostics import render_all, wants_color

    print(render_all(findings, source, color=wants_color(sys.stdout)), end="\n\n")
    errors = [finding for finding in findings if finding.severity == "error"]
    print(f"{source.name}: {len(errors)} error{'' if len(errors) == 1 else 's'}")
    if any(finding.code == "AQ300" for finding in errors):
        return 3
    return 1 if errors else 0
