"""`aqpolicy check`: prove policies free of conflicts and unbounded learning, and report in any format.

What is reported is decided by `lint`, how it looks by `diagnostics.formats`; this
module reads, asks, and counts the exit status.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aqpolicy.cli.output import counts, draw, read_bytes, read_policies, read_source, show, status_of
from aqpolicy.errors import InputError, PolicyError

if TYPE_CHECKING:
    from aqpolicy.analysis import Obligation
    from aqpolicy.diagnostics import Diagnostic, Source
    from aqpolicy.lint import Settings
    from aqpolicy.pipeline import Pipeline

__all__ = ["read_bytes", "read_source", "register", "run", "show", "summary"]


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    from aqpolicy.diagnostics.formats import FORMATS

    parser = subparsers.add_parser(
        "check",
        help="prove a policy free of conflicts and unbounded learning",
        description="Prove policies free of conflicts and unbounded learning, and show all that is wrong. "
        "Defaults come from the nearest `aqpolicy.toml`, or `[tool.aqpolicy]` in `pyproject.toml`.",
        epilog="Exit status: 0 proved, 1 findings at or above the fail level, 2 usage or input error, "
        "3 a question was left open.",
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="policies, folders of policies, or `-` for stdin")
    parser.add_argument("--model", metavar="MODEL.json", help="also bind the depth groups to this model description")
    parser.add_argument("--format", choices=list(FORMATS), help="how findings are written (default: full)")
    parser.add_argument(
        "--fail-level", choices=["error", "warning", "note"], help="the mildest finding that fails (default: error)"
    )
    parser.add_argument("--effort", type=int, metavar="N", help="steps of the solver for one question")
    parser.add_argument(
        "--smt2", metavar="DIR", help="also write every proof obligation as an SMT-LIB 2 script, for another solver"
    )
    parser.add_argument("--stdin-filename", default="<stdin>", metavar="NAME", help="what messages call the stdin")
    parser.set_defaults(func=run, refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Check every file and return the gravest status."""
    from aqpolicy.diagnostics.formats import FOR_PEOPLE, FORMATS

    if not args.files:
        args.refuse("name the policies or folders to check, such as `aqpolicy check policies`")
    settings = _settings(args)
    model = read_bytes(args.model) if args.model else None
    today = date.today()  # noqa: DTZ011 - a date in a policy is a day where its reader is
    checked: list[Checked] = []
    for policy in read_policies(args.files, args.stdin_filename):
        checked.append(check_source(policy, settings, model, today))
        if args.smt2 is not None:
            _write_scripts(checked[-1], Path(args.smt2))
        if settings.format in FOR_PEOPLE:
            _print(checked[-1], settings.format)
    # A finding in a file that several policies import is one finding.
    findings = tuple(dict.fromkeys(finding for each in checked for finding in each.findings))
    if settings.format not in FOR_PEOPLE:
        document = FORMATS[settings.format](findings, _distinct(checked))
        print(document, end="\n" if document else "")
    elif len(checked) > 1:
        print(f"{len(checked)} policies: {counts(findings) or 'no findings'}")
    return status_of(findings, settings.fail_level)


@dataclass(frozen=True, slots=True)
class Checked:
    """What is said of one policy: the findings, every text that they may point into, and what was proved."""

    source: Source
    findings: tuple[Diagnostic, ...]
    sources: tuple[Source, ...]
    proved: str
    policy: str = ""
    """Its name, where it has one."""
    obligations: tuple[Obligation, ...] = ()


def check_source(source: Source, settings: Settings, model: bytes | None, today: date) -> Checked:
    """Ask everything about one policy; the only place that runs the checker for this command."""
    from aqpolicy.cli.output import check_settings, library
    from aqpolicy.compiler.demands import unenforceable
    from aqpolicy.lint import lint
    from aqpolicy.pipeline import Pipeline

    tree, proved, name = None, "", ""
    obligations: tuple[Obligation, ...] = ()
    pipeline = Pipeline(source, library(source, settings))
    try:
        tree = pipeline.tree
        unbound, counts = _bound(pipeline, model)
        pipeline.settings = check_settings(settings, counts)
        found = (*pipeline.findings, *unbound, *unenforceable(pipeline.policy, "note"))
        proved, name, obligations = summary(pipeline), pipeline.policy.name, pipeline.result.obligations
    except PolicyError as error:
        found = error.diagnostics
    reported = lint(tree, source, found, settings, today)
    return Checked(source, reported, tuple(pipeline.sources.values()), proved, name, obligations)


def _write_scripts(checked: Checked, folder: Path) -> None:
    """Write what was asked about a policy into a folder of its name, one script for each question.

    Raises:
        InputError: A file cannot be written.
    """
    from aqpolicy.analysis import smt2
    from aqpolicy.trust import replace_file

    place = folder / (checked.policy or Path(checked.source.name).stem)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write into `{place}`: {error.strerror}") from error
    for number, obligation in enumerate(checked.obligations, start=1):
        slug = re.sub(r"[^a-z0-9]+", "-", obligation.name.lower()).strip("-")[:60]
        replace_file(place / f"{number:04d}-{slug}.smt2", smt2(obligation).encode())
    print(f"{place}: {len(checked.obligations)} scripts; each says which answer of a solver proves it", file=sys.stderr)


def summary(pipeline: Pipeline) -> str:
    """Return what was proved, in a line."""
    policy = pipeline.policy
    parts = [
        f"{len(items)} {name}{'' if len(items) == 1 else 's'}"
        for items, name in ((policy.rules, "rule"), (policy.budgets, "budget"), (policy.proofs, "prove statement"))
    ]
    proofs = ", every prove statement holds" if policy.proofs else ""
    return f"{', '.join(parts)}: no conflict, bounded, no dead rule{proofs} ({len(pipeline.result.proved)} proofs)"


def _bound(pipeline: Pipeline, model: bytes | None) -> tuple[tuple[Diagnostic, ...], Mapping[str, int] | None]:
    """Return what does not fit between policy and model, and how many parameters each group has."""
    from aqpolicy.compiler import parse_description
    from aqpolicy.compiler.binding import parameter_counts

    if model is None:
        return (), None
    description = parse_description(model)
    try:
        pipeline.bound(description)
    except PolicyError as error:
        return error.diagnostics, None
    return (), parameter_counts(pipeline.policy, description)


def _settings(args: argparse.Namespace) -> Settings:
    """Return the project's settings with what the command line says put over them.

    Raises:
        InputError: They cannot be read.
    """
    from aqpolicy.lint.settings import MAX_EFFORT, find_settings

    said = {"format": args.format, "fail_level": args.fail_level, "effort": args.effort}
    if args.effort is not None and not 1 <= args.effort <= MAX_EFFORT:
        args.refuse(f"--effort must be from 1 to {MAX_EFFORT}")
    return replace(find_settings(), **{name: value for name, value in said.items() if value is not None})


def _print(checked: Checked, name: str) -> None:
    """Print one policy in a format for people."""
    if name == "full":
        draw(checked.findings, checked.sources)
    elif checked.findings:
        from aqpolicy.diagnostics.formats import FORMATS

        print(FORMATS[name](checked.findings, checked.sources))
    print(_last_line(checked))


def _last_line(checked: Checked) -> str:
    """Return the line that closes a policy: what is proved, unless there are errors, and how much there is to mend."""
    has_errors = any(finding.severity == "error" for finding in checked.findings)
    said = [checked.proved if not has_errors else "", counts(checked.findings)]
    return f"{checked.source.name}: {'; '.join(filter(None, said))}"


def _distinct(checked: Iterable[Checked]) -> Sequence[Source]:
    """Return every text once, in the order of reading."""
    return tuple({source.name: source for each in checked for source in each.sources}.values())
