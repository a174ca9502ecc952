"""What forgetting comes to, in lines for people."""

from __future__ import annotations

from aqpolicy.rerun.forgetting import Forgotten
from aqpolicy.rerun.plan import Plan
from aqpolicy.trace.text import plain

_SHOWN = 8


def plan_lines(plan: Plan) -> list[str]:
    """Return what forgetting means for a run."""
    lines = [
        f"run {plan.run}: {_many(len(plan.examples), 'example')} to forget, {_named(plan.examples)}",
        *(
            f"  credential `{plain(source.credential)}`: {_many(len(source.examples), 'example')}"
            for source in plan.sources
            if not source.example
        ),
    ]
    if plan.corroborated:
        count = _many(len(plan.corroborated), "example")
        lines.append(f"  {count} of others were only corroborated by it and stay: {_named(plan.corroborated)}")
    if not plan.is_needed:
        return [*lines, "  no step had anything of them: the model is one that never had them; nothing is to be done"]
    if plan.first is None:
        lines.append("  no step that counts had anything of them, but the run has not ended")
    else:
        lines.append(f"  {_many(plan.visits, 'visit')} could have changed something, the first in step {plan.first}")
    where = "the beginning" if plan.checkpoint == "beginning" else f"checkpoint `{plain(plan.checkpoint)}`"
    again = plan.steps - plan.step
    return [*lines, f"  training goes on from {where}, step {plan.step}: {_many(again, 'step')} of {plan.steps} again"]


def forgotten_lines(found: Forgotten) -> list[str]:
    """Return what came of it."""
    lines = [
        f"{_many(found.rehearsed, 'step')} rehearsed as they were: equal to the log, bit for bit",
        f"trained again without them; the log says so, and why: {plain(found.reason)}",
        f"  model {found.model}",
        f"  model and optimizer {found.digest}",
        f"  audit: {_many(found.audited, 'step')} derived again, all as the policy says",
    ]
    if found.is_exact is not None:
        same = "the same, bit for bit" if found.is_exact else f"ANOTHER, {found.never_trained}: this is not forgotten"
        lines.append(f"  trained from the beginning without them: {same}")
    if found.left:
        lines.append(f"  these files still hold what was learned; delete them: {', '.join(map(plain, found.left))}")
    return [
        *lines,
        "  the superseded steps of the log stay provable, with their sketches; delete them only with the log",
    ]


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _named(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"`{plain(name)}`" for name in names[:_SHOWN]) + more
