"""`aqpolicy why`: how one observation is decided, by which rules, and what would have to be different.

The account comes from `trial`, the nearest admitted observation from `analysis`; this
module reads the observation and lays the account out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from aqpolicy.errors import InputError, PolicyError
from aqpolicy.units import micro_text

if TYPE_CHECKING:
    from aqpolicy.diagnostics import Span
    from aqpolicy.lint import Settings
    from aqpolicy.pipeline import Pipeline
    from aqpolicy.trial import Account
    from aqpolicy.trial.account import RuleAccount
    from aqpolicy.trial.marks import Mark

EXAMPLE: Final = "authority=board, consensus=0.95"


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "why",
        help="show what decides for one observation",
        description="Show how one observation is decided: what every rule says to it, with each part of its "
        "condition, what restrictions took, and the nearest observation that would be admitted.",
        epilog="Exit status: 0 decided, 1 the policy has errors, 2 usage or input error, 3 a question was left open.",
    )
    parser.add_argument("policy", metavar="POLICY", help="the policy")
    parser.add_argument("--observation", metavar="TEXT", help=f"such as '{EXAMPLE}'; attributes of the run as well")
    parser.add_argument(
        "--json", metavar="FILE", help='the same as a JSON object, `-` for stdin; "judgments" are weighed'
    )
    parser.add_argument("--format", choices=["full", "json"], default="full", help="how it is written (default: full)")
    parser.set_defaults(func=run, refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Give the account."""
    from aqpolicy.cli.output import library, read_source, show
    from aqpolicy.lint import find_settings
    from aqpolicy.pipeline import Pipeline
    from aqpolicy.trial import Faults, account_of, add_evidence, read_observation

    if (args.observation is None) == (args.json is None):
        args.refuse(f"give the observation, either as --observation '{EXAMPLE}' or as --json FILE")
    source, settings = read_source(args.policy), find_settings()
    pipeline = Pipeline(source, library(source, settings))
    try:
        policy = pipeline.policy
    except PolicyError as error:
        return show(error.diagnostics, source, pipeline.sources)
    written = _written(args)
    faults = Faults()
    # An attribute may have this name too, but never a list for its value.
    judgments = written.pop("judgments") if isinstance(written.get("judgments"), list) else None
    observation = read_observation(policy, written, faults)
    if judgments is not None:
        add_evidence(policy, judgments, observation, faults.within("judgments"))
    faults.stop()
    account = account_of(policy, pipeline.stack, observation)
    nearest = _nearest(pipeline, account, settings)
    if args.format == "json":
        print(json.dumps(_document(account, nearest), indent=2))
    else:
        print("\n".join(_lines(account, nearest)))
    return 0


def _written(args: argparse.Namespace) -> dict[str, object]:
    """Return the observation as it was given.

    Raises:
        InputError: It cannot be read.
    """
    from aqpolicy.cli.output import STDIN, read_bytes
    from aqpolicy.trial import parse_observation
    from aqpolicy.trial.json_lines import exact_json

    if args.observation is not None:
        return parse_observation(args.observation)
    data = sys.stdin.buffer.read() if args.json == STDIN else read_bytes(args.json)
    try:
        value = exact_json(data.decode("utf-8"))
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise InputError(f"`{args.json}` is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"`{args.json}` holds no JSON object of attributes and values")
    return value


def _nearest(pipeline: Pipeline, account: Account, settings: Settings) -> dict[str, tuple[str, str]] | None:
    """Return what differs in the nearest admitted observation, from and to; None where that was not asked."""
    from aqpolicy.analysis import nearest
    from aqpolicy.analysis.observation import observation_text
    from aqpolicy.cli.output import check_settings

    if account.missing or any(account.decision.shares):
        return None
    found = nearest(account.policy, account.observation, check_settings(settings))
    if found is None:
        return {}
    attributes = pipeline.policy.attributes
    here, there = (observation_text(attributes, each) for each in (account.observation, found))
    return {name: (here[name], value) for name, value in there.items() if here[name] != value}


# ---- For people


def _lines(account: Account, nearest: Mapping[str, tuple[str, str]] | None) -> Iterator[str]:
    policy, decision = account.policy, account.decision
    yield f"{decision.effect}, {decision.cause}: {decision.reason}"
    yield from _missing_lines(account)
    yield from _table(account)
    yield from _spending(account)
    for asked in account.obligations:
        yield f"  asks: {asked.text}  {_place(asked.span)}"
    for told in account.rules:
        yield ""
        yield from _rule_lines(told)
    if not account.missing and not decision.rules:
        yield ""
        yield f'no rule decides: otherwise deny because "{policy.otherwise.because}"  {_place(policy.otherwise.span)}'
    if nearest is not None:
        yield ""
        yield from _nearest_lines(nearest)


def _missing_lines(account: Account) -> Iterator[str]:
    from aqpolicy.trial.observation import values_text

    if not account.missing:
        return
    width = max(len(attribute.name) for attribute in account.missing)
    yield "the observation lacks attributes; while one is missing, everything is denied. Add:"
    for attribute in account.missing:
        origin = "" if attribute.origin == "manifest" else f"  (from the {attribute.origin})"
        yield f"  {attribute.name:<{width}}  {values_text(attribute)}{origin}"


def _table(account: Account) -> Iterator[str]:
    """Yield a line for each group: its share, and the bound on its norm."""
    names, decision = account.policy.group_names, account.decision
    width = max(map(len, names))
    for name, share, norm in zip(names, decision.shares, decision.norms, strict=True):
        bound = "" if norm is None or not share else f"  norm at most {micro_text(norm)}"
        yield f"  {name:<{width}}  {micro_text(share)}{bound}"


def _spending(account: Account) -> Iterator[str]:
    for budget, share in zip(account.policy.budgets, account.decision.charged, strict=True):
        if share:
            yield f"  charges {micro_text(share)} of its surprisal to {budget.name}  {_place(budget.span)}"


def _rule_lines(told: RuleAccount) -> Iterator[str]:
    rule = told.rule
    title = f' "{rule.title}"' if rule.title else ""
    yield f"rule {rule.name}{title}  {_place(rule.span)}"
    yield f"  {_standing(told)}"
    yield from _mark_lines(told.condition, "  ")
    for effect in told.effects:
        yield f"  {effect.text}{f': {effect.came}' if effect.came else ''}"


def _standing(told: RuleAccount) -> str:
    if not told.applies:
        return "does not apply"
    if told.overridden_by:
        names = ", ".join(f"`{name}`" for name in told.overridden_by)
        return f"applies, but its grant yields to {names}"
    return "applies"


def _mark_lines(mark: Mark, indent: str) -> Iterator[str]:
    found = f"  ({mark.found})" if mark.found else ""
    place = f"  {_place(mark.defined)}" if mark.defined else ""
    yield f"{indent}{'true ' if mark.holds else 'false'} {mark.text}{found}{place}"
    for part in mark.parts:
        yield from _mark_lines(part, indent + "  ")


def _nearest_lines(nearest: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    if not nearest:
        yield "no observation at all is admitted: `aqpolicy check` says why"
        return
    yield "the nearest observation that would be admitted:"
    width = max(map(len, nearest))
    for name, (here, there) in nearest.items():
        yield f"  {name:<{width}}  {here} -> {there}"


def _place(span: Span) -> str:
    return f"[{span.file}:{span.line}]"


# ---- For programs


def _document(account: Account, nearest: Mapping[str, tuple[str, str]] | None) -> dict[str, object]:
    from aqpolicy.analysis.observation import observation_text
    from aqpolicy.trial.fixture import obligation_names

    policy, decision = account.policy, account.decision
    names = obligation_names(policy)
    return {
        "version": 1,
        "policy": {"name": policy.name, "version": policy.version},
        "observation": observation_text(policy.attributes, account.observation),
        "missing": [attribute.name for attribute in account.missing],
        "effect": decision.effect,
        "cause": decision.cause,
        "reason": decision.reason,
        "by": list(decision.rules),
        "shares": {n: micro_text(share) for n, share in zip(policy.group_names, decision.shares, strict=True)},
        "norms": {
            name: None if norm is None else micro_text(norm)
            for name, norm in zip(policy.group_names, decision.norms, strict=True)
        },
        "charges": {b.name: micro_text(share) for b, share in zip(policy.budgets, decision.charged, strict=True)},
        "obligations": [names[number] for number in decision.obligations],
        "rules": [_rule_document(told) for told in account.rules],
        "nearest": None if not nearest else {name: {"from": a, "to": b} for name, (a, b) in nearest.items()},
    }


def _rule_document(told: RuleAccount) -> dict[str, object]:
    return {
        "name": told.rule.name,
        "title": told.rule.title,
        "file": told.rule.span.file,
        "line": told.rule.span.line,
        "applies": told.applies,
        "decides": told.decides,
        "overridden_by": list(told.overridden_by),
        "condition": _mark_document(told.condition),
        "effects": [{"text": e.text, "came": e.came, "line": e.span.line} for e in told.effects],
    }


def _mark_document(mark: Mark) -> dict[str, object]:
    return {
        "text": mark.text,
        "holds": mark.holds,
        "found": mark.found,
        "file": mark.span.file,
        "line": mark.span.line,
        "parts": [_mark_document(part) for part in mark.parts],
    }
