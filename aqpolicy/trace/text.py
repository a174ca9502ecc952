"""Traces and footprints as lines for a terminal. Text that comes from signed files is shown with escapes only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aqpolicy.trace.footprint import Footprint, SourceVisit
from aqpolicy.units import micro_text

if TYPE_CHECKING:
    from aqpolicy.trace.result import Hop, Signed, Trace
    from aqpolicy.trace.rollup import Entry

_LINES = 12
"""Lines of a roll-up before the rest is counted."""


def plain(text: str) -> str:
    """Return a text without anything that a terminal would obey."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def trace_lines(trace: Trace) -> Iterator[str]:
    """Yield a trace: behaviour, depth groups, updates, examples, annotators, rules, signed observations."""
    yield f"behaviour    {plain(trace.behaviour)} = {trace.value:.6g}"
    yield f"run          {trace.run}, policy {plain(trace.policy)}, model sha256:{trace.model}"
    yield f"total        {trace.total:+.4g} over {trace.visits} visits; weight decay {trace.opening:+.4g}"
    yield f"             {trace.statement.method}"
    yield ""
    yield "depth groups          score  contribution  along its way"
    for region in trace.regions:
        yield f"  {plain(region.name):<16} {region.score:>+9.4g}  {region.contribution:>+12.4g}  {region.holds:>+13.4g}"
    if trace.rows:
        yield ""
        yield "rows of parameters       score  contribution  along its way"
        for part in trace.rows:
            name = f"{plain(part.parameter)}[{part.row}]"
            yield f"  {name:<20} {part.score:>+7.4g}  {part.contribution:>+12.4g}  {part.holds:>+13.4g}"
    yield ""
    yield "chain: depth group, update, example"
    for hop in trace.chain:
        yield from _hop_lines(trace, hop, 1)
    yield ""
    yield from _entry_lines("annotators", trace.annotators, trace)
    for name, entries in trace.classes.items():
        yield from _entry_lines(f"by {plain(name)}", entries, trace)
    yield from _entry_lines("consensus events, by who states them", trace.consensus, trace)
    yield from _entry_lines("rules", trace.rules, trace)
    yield from _entry_lines("examples", trace.examples, trace)
    yield from _entry_lines("updates", trace.steps, trace, "step ")
    yield "signed observations (issuer, session and leaf verified)"
    for signed in trace.observations:
        yield from _signed_lines(signed)
    yield ""
    yield from _statement_lines(trace)


def _hop_lines(trace: Trace, hop: Hop, depth: int) -> Iterator[str]:
    signed = trace.observation(hop.example) if hop.example else None
    behind = f"  by {plain(signed.credential)}, leaf {signed.leaf_index}" if signed else ""
    yield f"{'  ' * depth}{hop.share:>+7.1%}  {plain(hop.name)}  {hop.score:+.4g}{behind}"
    for child in hop.children:
        yield from _hop_lines(trace, child, depth + 1)


def _entry_lines(title: str, entries: Sequence[Entry], trace: Trace, prefix: str = "") -> Iterator[str]:
    yield f"{title:<28} score  contribution  per visit  visits"
    for entry in entries[:_LINES]:
        name = f"{prefix}{plain(entry.name)}"
        line = (
            f"  {name:<22} {entry.score:>+9.4g}  {entry.contribution:>+12.4g}  {entry.mean:>+9.3g}  {entry.visits:>6}"
        )
        yield line + _null_text(entry)
    if len(entries) > _LINES:
        yield f"  and {len(entries) - _LINES} more"
    total = sum(entry.score for entry in entries)
    if abs(total - trace.total) > 1e-6 * max(1.0, sum(abs(entry.score) for entry in entries)):
        yield f"  (the strongest only; all visits make {trace.total:+.4g})"
    yield ""


def _null_text(entry: Entry) -> str:
    if entry.distinguishable is None:
        return ""
    band = f"chance makes {entry.low:+.3g} to {entry.high:+.3g}"
    return f"  {band}" if entry.distinguishable else f"  not distinguishable: {band}"


def _signed_lines(signed: Signed) -> Iterator[str]:
    said = ", ".join(plain(text) for text in (signed.holder, signed.authority) if text)
    who = f"{plain(signed.credential)} ({said})" if said else plain(signed.credential)
    yield f"  {plain(signed.example)}: observed {_time(signed.observed_at)} by {who}"
    if signed.revoked:
        yield f"    REVOKED: {plain(signed.revoked)}"
    yield f"    manifest leaf {signed.leaf_index}, {signed.leaf}"
    yield "    " + ", ".join(f"{plain(name)} {_value(value)}" for name, value in signed.attributes.items())
    yield f"    decided by {', '.join(map(plain, signed.rules)) or 'no rule'}"
    for event in signed.history:
        agreed = f"consensus {event.consensus:g} of {event.judgments}"
        yield f"    history: {plain(event.credential)} {_time(event.observed_at)}, {agreed}"


def _statement_lines(trace: Trace) -> Iterator[str]:
    statement = trace.statement
    yield "how far to believe this"
    yield f"  scope      {statement.scope}"
    for part in statement.closure:
        worst = statement.worst_step_residual.get(part.group, 0.0)
        yield (
            f"  closure    {plain(part.group)}: {part.residual:.2%} of its way unexplained (rounding explains "
            f"{part.tolerance / part.travelled if part.travelled else 0.0:.2%}); worst single step {worst:.1e}"
        )
    yield (
        f"  behaviour  booked {statement.behaviour_booked:+.6g}, travelled {statement.behaviour_travelled:+.6g}; "
        f"off by about {statement.rounding_error:.2g} by rounding and {statement.sketch_error:.2g} by sketching"
    )
    yield f"  null       {statement.null}"


def footprint_lines(found: Footprint, *, visits: bool = False) -> Iterator[str]:
    """Yield a footprint; with `visits`, each visit as the log has it."""
    yield f"{found.kind} {plain(found.source)} in run {found.run}"
    used = f"{len(found.examples)} examples were in a step, {found.unused} in none"
    yield f"  {used}; {len(found.visits)} visits in {len(found.steps)} steps"
    yield f"  something was admitted in {len(found.admitted_steps)} of them{_range(found.admitted_steps)}"
    yield "  " + ", ".join(f"{effect} {count}" for effect, count in found.effects.items())
    if found.corroborated:
        yield f"  {len(found.corroborated)} examples of others name it in their consensus history"
    yield "  group              visits  steps  admitted norm  of the run  moved the end by at most"
    for part in found.groups:
        bound = "no exact book" if part.displacement is None else f"{part.displacement:.4g}"
        yield (
            f"  {plain(part.group):<16} {part.visits:>8} {part.steps:>6}  {part.mass:>13.4g}  {part.mass_of_run:>10.1%}"
            f"  {bound}"
        )
    for epoch, masses in found.epochs.items():
        parts = zip(found.groups, masses, strict=True)
        yield f"  epoch {epoch}: " + ", ".join(f"{plain(part.group)} {mass:.4g}" for part, mass in parts)
    for name, charge in found.charged.items():
        yield f"  charged to budget {plain(name)}: {micro_text(charge)} nat"
    if visits:
        yield from map(_visit_line, found.visits)


def _visit_line(visit: SourceVisit) -> str:
    shares = " ".join(micro_text(share) for share in visit.shares)
    norms = " ".join(f"{norm:.3g}" for norm in visit.norms)
    surprisal = "none" if visit.surprisal is None else f"{micro_text(visit.surprisal)} nat"
    charges = " ".join(micro_text(charge) for charge in visit.charges) or "none"
    return (
        f"  step {visit.step} (epoch {visit.epoch}): {visit.effect}, {visit.cause}, {visit.reason}; shares {shares}; "
        f"norms {norms}; surprisal {surprisal}; charges {charges}"
    )


def comparison_lines(masses: Mapping[str, tuple[int, tuple[float, ...]]], groups: Sequence[str]) -> Iterator[str]:
    """Yield what was admitted of every annotator, by depth group, the most first."""
    yield "all annotators: admitted norm by depth group, and per visit over all groups"
    for name, (visits, parts) in sorted(masses.items(), key=lambda item: -sum(item[1][1])):
        shown = ", ".join(f"{plain(group)} {mass:.4g}" for group, mass in zip(groups, parts, strict=True))
        yield f"  {plain(name):<22} {visits:>6} visits  {shown}; {sum(parts) / visits if visits else 0.0:.3g} per visit"


def _range(steps: Sequence[int]) -> str:
    return f" (steps {steps[0]} to {steps[-1]})" if steps else ""


def _time(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
    except (OverflowError, ValueError, OSError):
        return f"at {seconds} s"


def _value(value: str | int) -> str:
    return plain(value) if isinstance(value, str) else micro_text(value)
