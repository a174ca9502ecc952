"""`aqpolicy test`: run the test cases that policies hold, and the fixtures that lie beside them.

What a test means is `trial`'s and `analysis`'s question; this module finds the files,
lays the outcomes out and counts the exit status.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aqpolicy.errors import InputError, PolicyError

if TYPE_CHECKING:
    from aqpolicy.diagnostics import Source
    from aqpolicy.lint import Settings
    from aqpolicy.trial import Coverage, Records, RuleCoverage
    from aqpolicy.trial.suite import Trial

CLEAN, FAILED, UNDECIDED = 0, 1, 3


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    from aqpolicy.diagnostics.formats import FORMATS

    parser = subparsers.add_parser(
        "test",
        help="run the test cases of policies",
        description="Run the `test` cases of policies, decided for every observation that they are given, and the "
        "fixtures beside them: `NAME.cases.yaml` or `.jsonl` for `NAME.aqp`, and `cases.yaml` or `.jsonl`.",
        epilog="Exit status: 0 all hold, 1 some do not, 2 usage or input error, 3 a question was left open.",
    )
    parser.add_argument("files", nargs="*", metavar="POLICY", help="policies, folders of policies, or `-` for stdin")
    parser.add_argument(
        "--fixtures", nargs="+", action="extend", default=[], metavar="FILE", help="further fixtures: YAML, JSON lines"
    )
    parser.add_argument("--format", choices=list(FORMATS), help="how outcomes are written (default: full)")
    parser.add_argument("--run", metavar="TITLE", help="only tests whose title holds this text, or fits this glob")
    parser.add_argument("--require-tests", action="store_true", help="a policy without any test fails")
    parser.add_argument("--coverage", action="store_true", help="show what the tests show of each rule")
    parser.add_argument("--min-coverage", type=int, metavar="N", help="fail below N %% of the outcomes of all rules")
    parser.set_defaults(func=run, refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Run everything and return the gravest status."""
    from aqpolicy.diagnostics.formats import FOR_PEOPLE
    from aqpolicy.lint import find_settings

    if not args.files and not args.fixtures:
        args.refuse("name the policies or folders to test, such as `aqpolicy test policies`")
    settings = find_settings()
    style = args.format or settings.format
    plans = _plans(args.files, args.fixtures)
    covers = args.coverage or args.min_coverage is not None
    trials = []
    for plan in plans:
        trials.append(_try(plan, settings, _chooser(args.run), covers=covers))
        if style in FOR_PEOPLE:
            _print(trials[-1], style)
    if args.run is not None and not any(trial.outcomes or trial.faults for trial in trials):
        raise InputError(f"no test has a title that fits `{args.run}`")
    if style not in FOR_PEOPLE:
        _print_document(trials, style)
    elif len(trials) > 1:
        print(f"{len(trials)} policies: {_summary(trials)}")
    return max(_status(trial, args) for trial in trials)


def _status(trial: Trial, args: argparse.Namespace) -> int:
    """Return the status of one policy's tests; what was left open is graver than what failed."""
    if trial.count("undecided"):
        return UNDECIDED
    lacks = args.require_tests and not trial.outcomes
    covered = trial.coverage is None or args.min_coverage is None or trial.coverage.percent >= args.min_coverage
    return FAILED if trial.findings or lacks or not covered else CLEAN


# ---- What is run


@dataclass(slots=True)
class _Plan:
    """One policy, and the files of fixtures about it."""

    source: Source
    records: list[Records] = field(default_factory=list)

    def is_about(self, path: Path) -> bool:
        return Path(self.source.name).resolve() == path.resolve()

    def add(self, records: Records) -> None:
        """Add a file, once."""
        file = Path(records.source.name).resolve()
        if all(Path(known.source.name).resolve() != file for known in self.records):
            self.records.append(records)


def _plans(files: Sequence[str], fixtures: Sequence[str]) -> list[_Plan]:
    """Return what is to be run, in the order of the command line.

    Raises:
        InputError: A file cannot be read, or it is not clear what a file of fixtures is about.
    """
    from aqpolicy.cli.output import read_policies, read_source
    from aqpolicy.trial import read_records
    from aqpolicy.trial.beside import fixture_files, policy_of

    plans = [_Plan(source) for source in read_policies(files)]
    only = plans[0] if len(plans) == 1 else None
    for plan in plans:
        for file in fixture_files(Path(plan.source.name)):
            records = read_records(read_source(str(file)))
            if plan.is_about(policy_of(records)):
                plan.add(records)
    for name in fixtures:
        records = read_records(read_source(name))
        if records.policy is None and only is not None:
            only.add(records)
            continue
        path = policy_of(records)
        found = next((plan for plan in plans if plan.is_about(path)), None)
        if found is None:
            found = _Plan(read_source(str(path)))
            plans.append(found)
        found.add(records)
    return plans


def _chooser(pattern: str | None) -> Callable[[str], bool]:
    """Return whether a title is asked for: it fits a glob, or holds a text."""
    if pattern is None:
        return lambda _title: True
    wanted = pattern.lower()
    if not any(sign in wanted for sign in "*?["):
        wanted = f"*{wanted}*"
    return lambda title: fnmatchcase(title.lower(), wanted)


def _try(plan: _Plan, settings: Settings, is_chosen: Callable[[str], bool], *, covers: bool) -> Trial:
    """Run the tests of one policy; a policy with errors is not tested."""
    from aqpolicy.cli.output import check_settings, library
    from aqpolicy.pipeline import Pipeline
    from aqpolicy.trial.suite import Suite, Trial

    pipeline = Pipeline(plan.source, library(plan.source, settings))
    try:
        policy = pipeline.policy
    except PolicyError as error:
        return Trial(plan.source, tuple(pipeline.sources.values()), faults=error.diagnostics)
    suite = Suite(policy, plan.records, check_settings(settings), is_chosen)
    outcomes, coverage = suite.run(covers=covers)
    sources = (*pipeline.sources.values(), *(records.source for records in plan.records))
    return Trial(plan.source, sources, outcomes, coverage=coverage)


# ---- For people


def _print(trial: Trial, style: str) -> None:
    """Print the tests of one policy: all of them in full, or only what does not hold."""
    from aqpolicy.cli.output import draw
    from aqpolicy.diagnostics.formats import FORMATS
    from aqpolicy.diagnostics.words import visible

    if style == "full":
        draw(trial.faults, trial.sources)
        for outcome in trial.outcomes:
            word = {"passed": "ok", "failed": "FAIL", "undecided": "OPEN"}[outcome.word]
            print(f"{word:<4}  {visible(outcome.title)}")
            draw(outcome.findings, trial.sources)
    elif trial.findings:
        print(FORMATS[style](trial.findings, trial.sources))
    if trial.coverage is not None:
        for line in _coverage_lines(trial.coverage):
            print(line)
    print(f"{trial.source.name}: {_summary([trial])}")


def _summary(trials: Sequence[Trial]) -> str:
    words = ("passed", "failed", "undecided")
    counted = [(sum(trial.count(word) for trial in trials), word) for word in words]
    broken = sum(bool(trial.faults) for trial in trials)
    parts = [f"{number} {word}" for number, word in counted if number]
    if broken:
        parts.append(f"{broken} not tested, as {'it has' if broken == 1 else 'they have'} errors")
    nothing = 'no test; write one into the policy: `test "title" { given CONDITION expect admit }`'
    covered = [f"{trial.coverage.percent} % covered" for trial in trials if trial.coverage is not None]
    return ", ".join(parts or [nothing]) + (f", {covered[0]}" if len(trials) == 1 and covered else "")


def _coverage_lines(coverage: Coverage) -> Iterator[str]:
    width = max(len(rule.rule) for rule in coverage.rules)
    for rule in coverage.rules:
        yield f"  {rule.rule:<{width}}  {_covered(rule)}  [{rule.span.file}:{rule.span.line}]"


def _covered(rule: RuleCoverage) -> str:
    decides = "decides" if rule.decided else "applies, never decides" if rule.applied else "never applies"
    if not rule.is_conditional:
        return decides
    return f"{decides}, {'stays out' if rule.stayed_out else 'never stays out'}"


# ---- For programs


def _print_document(trials: Sequence[Trial], style: str) -> None:
    from aqpolicy.diagnostics.formats import FORMATS
    from aqpolicy.trial.documents import json_document, junit_document

    own = {"json": json_document, "junit": junit_document}
    if style in own:
        document = own[style](trials)
    else:
        sources = {source.name: source for trial in trials for source in trial.sources}
        findings = tuple(dict.fromkeys(finding for trial in trials for finding in trial.findings))
        document = FORMATS[style](findings, tuple(sources.values()))
    print(document, end="\n" if document else "")
