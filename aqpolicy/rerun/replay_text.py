"""What another policy would have decided, in lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aqpolicy.rerun.replaying import Change, Replay, reason_text
from aqpolicy.rerun.retraining import Retrained
from aqpolicy.trace.text import plain
from aqpolicy.units import MICRO, micro_text

_LINES = 12
"""Lines of a table before the rest is counted."""


def replay_lines(found: Replay) -> Iterator[str]:
    """Yield how many decisions change, by effect, depth group, credential and rule, and the first of each kind."""
    yield f"run          {found.run}, policy {plain(found.policy)}, {found.visits} visits"
    yield f"asked        policy {plain(found.other)}, without training"
    if found.narrowed:
        yield f"shown        changes of {', '.join(map(plain, found.narrowed))}"
    part = len(found.changes) / found.visits if found.visits else 0.0
    yield f"changed      {len(found.changes)} decisions ({part:.1%})"
    if found.halted:
        yield (
            f"halted       budget `{plain(found.halted)}` would have stopped the run in step {found.halted_step}; "
            f"{found.unreached} visits behind it would not have taken place"
        )
    yield from _table("by effect", found.by_effect)
    yield from _groups(found)
    yield from _table("by credential", found.by_credential, found.seen)
    yield from _table("by rule", found.by_rule)
    yield from _spent(found)
    for kind, changes in found.examples().items():
        yield f"such as, {kind}"
        for change in changes:
            yield f"  {_change(change)}"
    yield "what only training can tell (--train)"
    for text in found.unforeseen:
        yield f"  {plain(text)}"


def _table(title: str, counts: Mapping[str, int], of: Mapping[str, int] | None = None) -> Iterator[str]:
    if not counts:
        return
    yield title
    for name, count in list(counts.items())[:_LINES]:
        rest = "" if of is None else f" of {of[name]}"
        yield f"  {count:>7}{rest}  {plain(name)}"
    if len(counts) > _LINES:
        yield f"  and {len(counts) - _LINES} more"


def _groups(found: Replay) -> Iterator[str]:
    if found.by_group:
        yield "by depth group"
    for group, kinds in found.by_group.items():
        yield f"  {plain(group):<16} {', '.join(f'{kind} {count}' for kind, count in kinds.items())}"


def _spent(found: Replay) -> Iterator[str]:
    if found.spent:
        yield "nats charged, over the run"
    for name, sides in found.spent.items():
        then, now = ("-" if spent is None else micro_text(spent) for spent in sides)
        yield f"  {plain(name):<16} {then} -> {now}"


def _change(change: Change) -> str:
    sides = [
        f"{one.effect} ({reason_text(one)}) {'/'.join(f'{share / MICRO:g}' for share in one.shares)}"
        for one in (change.before, change.after)
    ]
    by = plain(change.credential)
    return f"step {change.step}, `{plain(change.example)}` by {by}: {' -> '.join(sides)}; rules {plain(change.rules)}"


def retrained_lines(found: Retrained) -> Iterator[str]:
    """Yield what came of training again."""
    yield f"trained      run {found.run} in {plain(found.folder)}, {found.steps} steps; its audit holds"
    yield f"             model and optimizer {found.digest}"
    for group, away in found.apart.items():
        far = "moved, and did not in the first run" if away is None else f"{away:.3g} of its way from the first run's"
        yield f"  {plain(group):<16} {far}"
    for difference in found.differences:
        yield f"  not the machine of the first run: {plain(difference)}; some of this comes from that"
