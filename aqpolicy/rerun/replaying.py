"""What changes where another policy decides about a run: which visits, whose, in which depth groups, by which rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from aqpolicy.bundle import Bundle
from aqpolicy.errors import InputError
from aqpolicy.lineage import NO_INDEX, Row, StepBlock
from aqpolicy.rerun.deciding import Decision, decisions, recorded, unforeseen
from aqpolicy.trace import Run
from aqpolicy.trace.words import REASONS

KINDS: Final = ("opened", "closed", "raised", "lowered", "other limit")
"""What can become of a depth group for a visit."""

EXAMPLES: Final = 3
"""Visits of each kind that are shown."""


@dataclass(frozen=True, slots=True)
class Change:
    """A visit about which the other policy decides otherwise."""

    step: int
    example: str
    credential: str
    before: Decision
    after: Decision
    groups: Mapping[str, str]
    """What becomes of it, for each depth group where something does."""

    @property
    def kind(self) -> str:
        """From which effect to which."""
        return f"{self.before.effect} -> {self.after.effect}"

    @property
    def rules(self) -> str:
        """From which rules to which."""
        return f"{_joined(self.before.rules)} -> {_joined(self.after.rules)}"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON data."""
        sides = {name: _decision_json(one) for name, one in (("before", self.before), ("after", self.after))}
        return {
            "step": self.step,
            "example": self.example,
            "credential": self.credential,
            **sides,
            "groups": dict(self.groups),
        }


@dataclass(frozen=True, slots=True)
class Replay:
    """What another policy would have decided in a run."""

    run: str
    policy: str
    other: str
    visits: int
    changes: tuple[Change, ...]
    seen: Mapping[str, int]
    """Visits of each credential, changed or not."""
    spent: Mapping[str, tuple[int | None, int | None]]
    """Per budget, micro-nats under the run's policy and under the other; None where a policy has no such budget."""
    halted: str
    """The budget that would have stopped the run, or nothing."""
    halted_step: int | None
    unreached: int
    """Visits behind that stop: they would not have taken place."""
    unforeseen: tuple[str, ...]
    """What only training can tell."""
    narrowed: tuple[str, ...] = ()
    """The depth groups and credentials that changes are shown of; all where there is none."""

    def by(self, name: Callable[[Change], str]) -> dict[str, int]:
        """Return how many changes there are of each name, most first."""
        return dict(sorted(Counter(map(name, self.changes)).items(), key=lambda pair: (-pair[1], pair[0])))

    @property
    def by_effect(self) -> dict[str, int]:
        """Changes by the effects before and after."""
        return self.by(lambda change: change.kind)

    @property
    def by_credential(self) -> dict[str, int]:
        """Changes by the credential behind the example."""
        return self.by(lambda change: change.credential)

    @property
    def by_rule(self) -> dict[str, int]:
        """Changes by the rules before and after."""
        return self.by(lambda change: change.rules)

    @property
    def by_group(self) -> dict[str, dict[str, int]]:
        """Per depth group, how many visits were opened, closed, raised, lowered or limited otherwise."""
        found: dict[str, Counter[str]] = {}
        for change in self.changes:
            for group, kind in change.groups.items():
                found.setdefault(group, Counter())[kind] += 1
        return {group: {kind: counts[kind] for kind in KINDS if counts[kind]} for group, counts in found.items()}

    def examples(self) -> dict[str, tuple[Change, ...]]:
        """Return the first changes of each kind, of different examples."""
        found: dict[str, dict[str, Change]] = {kind: {} for kind in self.by_effect}
        for change in self.changes:
            kept = found[change.kind]
            if len(kept) < EXAMPLES:
                kept.setdefault(change.example, change)
        return {kind: tuple(kept.values()) for kind, kept in found.items()}

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON data, changes by their numbers and the first examples."""
        plain = {name: value for name, value in asdict(replace(self, changes=())).items() if name != "changes"}
        return {
            "format": "aqpolicy replay 1",
            **plain,
            "changed": len(self.changes),
            "by_effect": self.by_effect,
            "by_group": self.by_group,
            "by_credential": self.by_credential,
            "by_rule": self.by_rule,
            "examples": {kind: [change.to_json() for change in some] for kind, some in self.examples().items()},
        }


def replay(run: Run, bundle: Bundle, by: Collection[str] = ()) -> Replay:
    """Say what another policy would have decided about every visit of a run.

    Args:
        run: The run, verified.
        bundle: The other policy, verified.
        by: Depth groups and credentials to show the changes of; all by default.

    Raises:
        TraceError: The policy cannot be asked about this run.
        InputError: A name is that of no depth group and no credential.
    """
    groups, credentials = {*run.tables.groups, *bundle.tables.groups}, set(run.manifest.credentials)
    if missing := sorted(set(by) - groups - credentials):
        raise InputError(f"`{missing[0]}` is neither a depth group nor a credential of the run")
    steps, halted = decisions(run, bundle)
    changes, seen, spent = [], Counter[str](), [0] * len(bundle.tables.budgets)
    reached = [(block, decided) for block, decided in zip(run.blocks, steps, strict=True) if decided is not None]
    for block, decided in reached:
        for row, after in zip(block.rows, decided, strict=True):
            change = _change(run, bundle, block, row, after)
            seen[change.credential] += 1
            spent = [sum(pair) for pair in zip(spent, after.charges, strict=True)]
            if _differ(run, bundle, change):
                changes.append(change)
    visits = sum(len(block.rows) for block in run.blocks)
    return Replay(
        run=run.run_id,
        policy=f"{run.bundle.policy_name} {run.bundle.policy_version}",
        other=f"{bundle.policy_name} {bundle.policy_version}",
        visits=visits,
        changes=tuple(change for change in changes if _concerns(change, set(by) & groups, set(by) & credentials)),
        seen=dict(seen),
        spent=_spending(run, bundle, spent),
        halted=halted,
        halted_step=reached[-1][0].step if halted else None,
        unreached=visits - sum(seen.values()),
        unforeseen=unforeseen(run, bundle),
        narrowed=tuple(sorted(by)),
    )


def _change(run: Run, bundle: Bundle, block: StepBlock, row: Row, after: Decision) -> Change:
    known = row.manifest_index != NO_INDEX
    credential = run.manifest.observation(row.manifest_index).credential if known else "(unknown)"
    before = recorded(run, row)
    return Change(block.step, run.name_of(row), credential, before, after, _groups(run, bundle, before, after))


def _differ(run: Run, bundle: Bundle, change: Change) -> bool:
    """Return whether two policies decide otherwise; where the groups are others, by effect and shared groups alone."""
    if change.groups or change.before.effect != change.after.effect:
        return True
    said = (change.before.cause, change.before.reason) != (change.after.cause, change.after.reason)
    return said and run.tables.groups == bundle.tables.groups


def _groups(run: Run, bundle: Bundle, before: Decision, after: Decision) -> dict[str, str]:
    """Return what becomes of each depth group that both policies have."""
    now = {name: (after.shares[at], after.norms[at]) for at, name in enumerate(bundle.tables.groups)}
    found = {}
    for at, name in enumerate(run.tables.groups):
        if name in now:
            kind = _kind((before.shares[at], before.norms[at]), now[name])
            if kind:
                found[name] = kind
    return found


def _kind(before: tuple[int, int], after: tuple[int, int]) -> str:
    if before[0] != after[0]:
        if not before[0] or not after[0]:
            return "opened" if after[0] else "closed"
        return "raised" if after[0] > before[0] else "lowered"
    return "other limit" if before[0] and before[1] != after[1] else ""


def _spending(run: Run, bundle: Bundle, spent: Sequence[int]) -> dict[str, tuple[int | None, int | None]]:
    then = {budget.name: sum(row.charges[at] for _, row in run.rows) for at, budget in enumerate(run.tables.budgets)}
    now = {budget.name: spent[at] for at, budget in enumerate(bundle.tables.budgets)}
    return {name: (then.get(name), now.get(name)) for name in sorted({*then, *now})}


def _concerns(change: Change, groups: Collection[str], credentials: Collection[str]) -> bool:
    """Return whether a change is in one of the depth groups and by one of the credentials, where any are given."""
    return (not groups or bool(set(groups) & set(change.groups))) and (
        not credentials or change.credential in credentials
    )


def _joined(rules: Sequence[str]) -> str:
    return ", ".join(rules) or "(none)"


def reason_text(one: Decision) -> str:
    """Return a decision's reason in words."""
    return REASONS[one.reason] if one.reason < len(REASONS) else f"code {one.reason}"


def _decision_json(one: Decision) -> dict[str, Any]:
    return {
        "effect": one.effect,
        "cause": one.cause,
        "reason": reason_text(one),
        "shares": list(one.shares),
        "norms": list(one.norms),
        "rules": list(one.rules),
    }
