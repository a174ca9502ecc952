"""`aqpolicy diff`: prove two policies equal, or list where the new one is wider and where it is narrower.

What differs is `analysis`'s answer; this module reads both policies, from files or from
git, and lays the answer out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from aqpolicy.errors import PolicyError

if TYPE_CHECKING:
    from aqpolicy.analysis import Change, Comparison
    from aqpolicy.lint import Settings
    from aqpolicy.model import Library
    from aqpolicy.model.policy import Policy

EQUIVALENT: Final = "equivalent: proved for every observation"
UNREADABLE: Final = 2


def register(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "diff",
        help="prove two policies equal, or list what became more and less permissive",
        description="Prove that two policies decide the same for every observation, or list what changed: wider "
        "first, each change with where it happens, one observation and both decisions on it.",
        epilog="A policy is a file, or REVISION:path as git knows it, such as `origin/main:policies/triage.aqp`. "
        "Exit status: 0 compared, 1 a change that --fail-on names, 2 usage or input error, 3 a question was left open.",
    )
    parser.add_argument("old", metavar="OLD", help="the policy as it was")
    parser.add_argument("new", metavar="NEW", help="the policy as it is to be")
    parser.add_argument(
        "--fail-on",
        choices=["widened", "narrowed", "any"],
        help="exit 1 if it admits more, less, or either",
    )
    parser.add_argument(
        "--format", choices=["full", "concise", "json"], default="full", help="how it is written (default: full)"
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Compare, and say all that differs."""
    from aqpolicy.analysis import compare
    from aqpolicy.cli.output import check_settings
    from aqpolicy.lint import find_settings

    settings = find_settings()
    old, new = _load(args.old, settings), _load(args.new, settings)
    if old is None or new is None:
        return UNREADABLE
    comparison = compare(old, new, check_settings(settings))
    if args.format == "json":
        print(json.dumps(_document(comparison, old, new), indent=2))
    else:
        write = _concise if args.format == "concise" else _full
        print("\n".join(write(comparison, old, new)))
    return int(_fails(comparison, args.fail_on))


def _fails(comparison: Comparison, fail_on: str | None) -> bool:
    directions = {change.direction for change in comparison.changes}
    matches = {"widened": "wider" in directions, "narrowed": "narrower" in directions, "any": not comparison.equivalent}
    # Where changes are left unlisted, they may be of either kind.
    return fail_on is not None and (matches[fail_on] or comparison.more)


def _load(name: str, settings: Settings) -> Policy | None:
    """Return a policy of a file or a revision; None where it has errors, which are shown.

    Raises:
        InputError: It cannot be read.
    """
    from aqpolicy.cli.output import library, read_source, show
    from aqpolicy.cli.revision import Revision
    from aqpolicy.model import gather, resolve_stack
    from aqpolicy.syntax import parse

    revision, colon, path = name.partition(":")
    found: Library
    if colon and not Path(name).exists():
        found = Revision(revision, settings.policy_roots)
        source = found.read(path)
    else:
        source = read_source(name)
        found = library(source, settings)
    try:
        return resolve_stack(gather(parse(source), source, found))
    except PolicyError as error:
        show(error.diagnostics, source)
        return None


# ---- Who decides


@dataclass(frozen=True, slots=True)
class _Deciding:
    """The rules that decide a change's witness in one of the policies."""

    policy: Policy
    rules: tuple[str, ...]

    def places(self) -> list[str]:
        spans = {rule.name: rule.span for rule in self.policy.rules}
        return [f"{name} [{spans[name].file}:{spans[name].line}]" for name in self.rules]


def _deciding(policy: Policy, change: Change) -> _Deciding:
    """Return who decides; nobody where the witness says too little about a policy."""
    from aqpolicy.semantics import evaluate
    from aqpolicy.trial.observation import read_value

    witness = change.witness or {}
    known = [attribute for attribute in policy.attributes if attribute.name in witness]
    observation = {attribute.name: read_value(attribute, witness[attribute.name]) for attribute in known}
    return _Deciding(policy, evaluate(policy, observation).rules)


def _sides(change: Change, old: Policy, new: Policy) -> tuple[tuple[Literal["old", "new"], str, _Deciding], ...]:
    return ("old", change.old, _deciding(old, change)), ("new", change.new, _deciding(new, change))


def _ordered(comparison: Comparison) -> list[Change]:
    """Return the changes, the wider ones first."""
    return sorted(comparison.changes, key=lambda change: change.direction != "wider")


# ---- For people


def _full(comparison: Comparison, old: Policy, new: Policy) -> Iterator[str]:
    if comparison.equivalent:
        yield EQUIVALENT
        return
    for change in _ordered(comparison):
        yield f"{change.direction}: {'; '.join(change.what)}"
        if change.regions:
            lead = "  where "
            for region in change.regions:
                yield f"{lead}{region}"
                lead = "  or where "
        if change.more:
            yield "  or elsewhere"
        if change.witness is not None:
            yield f"  such as {', '.join(f'{name} = {value}' for name, value in change.witness.items())}"
            for word, decision, deciding in _sides(change, old, new):
                yield f"    {word}: {decision}{_by(deciding)}"
        yield ""
    yield from (f"vocabulary: {line}" for line in comparison.vocabulary)
    yield _verdict(comparison)


def _by(deciding: _Deciding) -> str:
    return f"; by {', '.join(deciding.places())}" if deciding.rules else ""


def _concise(comparison: Comparison, old: Policy, new: Policy) -> Iterator[str]:
    if comparison.equivalent:
        yield EQUIVALENT
        return
    for change in _ordered(comparison):
        where = (
            f" where {', or '.join(change.regions)}{', or elsewhere' if change.more else ''}" if change.regions else ""
        )
        by = _deciding(new if change.direction == "wider" else old, change) if change.witness else None
        yield f"{change.direction}: {'; '.join(change.what)}{where}{_by(by) if by else ''}"
    yield from (f"vocabulary: {line}" for line in comparison.vocabulary)
    yield _verdict(comparison)


def _where(change: Change) -> str:
    elsewhere = ", or elsewhere" if change.more else ""
    return f" where {', or '.join(change.regions)}{elsewhere}" if change.regions else ""


def _verdict(comparison: Comparison) -> str:
    directions = [change.direction for change in comparison.changes]
    counted = [(directions.count("wider"), "wider"), (directions.count("narrower"), "narrower")]
    said = " and ".join(f"{word} in {number} way{'' if number == 1 else 's'}" for number, word in counted if number)
    more = "; there are more changes than are listed" if comparison.more else ""
    return f"the new policy is {said}{more}" if said else "the policies decide alike what both know"


# ---- For programs


def _document(comparison: Comparison, old: Policy, new: Policy) -> dict[str, object]:
    return {
        "version": 1,
        "verdict": comparison.verdict,
        "vocabulary": list(comparison.vocabulary),
        "changes": [_change_document(change, old, new) for change in _ordered(comparison)],
        "more": comparison.more,
    }


def _change_document(change: Change, old: Policy, new: Policy) -> dict[str, object]:
    sides = _sides(change, old, new) if change.witness is not None else ()
    return {
        "direction": change.direction,
        "what": list(change.what),
        "regions": list(change.regions),
        "more_regions": change.more,
        "witness": None if change.witness is None else dict(change.witness),
        **{word: {"decision": decision, "by": deciding.places()} for word, decision, deciding in sides},
    }
