"""A trace as a "why?" path: behaviour, depth group, update, example, annotator and history, signed observation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aqpolicy.report.data import Table, TraceView, Why
from aqpolicy.units import micro_text

if TYPE_CHECKING:  # `trace.result` loads torch; a page needs only its shape
    from aqpolicy.trace.result import Hop, Signed, Trace
    from aqpolicy.trace.rollup import Entry

_RANKED = 10


def view_of_trace(trace: Trace, title: str, summary: str, flags: dict[str, str] | None = None) -> TraceView:
    """Return what a page shows of a trace.

    Args:
        trace: From `trace.query.trace_behaviour`.
        title: Heading.
        summary: What was asked, in a sentence or two.
        flags: Words that must not be missed, by credential, such as `planted`.
    """
    known = flags or {}
    root = Why(
        "behaviour",
        f"{trace.behaviour} = {trace.value:.4g}",
        f"Scores: {trace.statement.method}. The bars show each node's part of all that moved at its place.",
        facts=(("Policy", trace.policy), ("Visits", str(trace.visits)), ("Model", f"sha256:{trace.model}")),
        children=tuple(_group(trace, hop, known) for hop in trace.chain),
    )
    return TraceView(title, summary, root, _statement(trace), _ranking(trace, known))


def _group(trace: Trace, hop: Hop, flags: dict[str, str]) -> Why:
    facts = tuple(
        pair
        for region in trace.regions
        if region.name == hop.name
        for pair in (
            ("Contribution", f"{region.contribution:+.4g}"),
            ("Along the way its weights went", f"{region.holds:+.4g}"),
        )
    )
    updates = tuple(_update(trace, update, flags) for update in hop.children)
    return Why("depth group", hop.name, "", hop.share, facts, children=updates)


def _update(trace: Trace, hop: Hop, flags: dict[str, str]) -> Why:
    examples = tuple(_example(trace, example, flags) for example in hop.children)
    return Why("update", hop.name, "One optimizer step, one entry of the log.", hop.share, children=examples)


def _example(trace: Trace, hop: Hop, flags: dict[str, str]) -> Why:
    signed = trace.observation(hop.example) if hop.example else None
    if signed is None:
        return Why("example", hop.name, "The manifest does not hold it.", hop.share)
    decided = ("Decided by", ", ".join(signed.rules) or "no rule")
    said = tuple(
        (name, value if isinstance(value, str) else micro_text(value)) for name, value in signed.attributes.items()
    )
    flag = flags.get(signed.credential, "")
    return Why("example", hop.name, "", hop.share, (*said, decided), flag, (_annotator(signed, flag),))


def _annotator(signed: Signed, flag: str) -> Why:
    events = tuple(
        Why(
            "consensus event",
            f"{event.credential}: {event.consensus:.2f} agree after {event.judgments} "
            f"reading{'' if event.judgments == 1 else 's'}",
            facts=(("Time", _time(event.observed_at)),),
        )
        for event in signed.history
    )
    observation = Why(
        "signed observation",
        f"leaf {signed.leaf_index} of the manifest",
        "Signatures of issuer and session, and the leaf's place under them, were verified when the run was opened.",
        facts=(("Leaf", signed.leaf), ("Label digest", signed.label_digest), ("Signed", _time(signed.observed_at))),
    )
    revoked = (("Revoked", signed.revoked),) if signed.revoked else ()
    return Why("annotator", signed.credential, signed.holder, facts=revoked, flag=flag, children=(observation, *events))


def _ranking(trace: Trace, flags: dict[str, str]) -> Table:
    shown = trace.annotators[:_RANKED]
    return Table(
        "Annotators, the strongest first; positive raises the behaviour",
        ("Credential", "Estimate", "What chance makes", "", "Contribution", "Visits"),
        tuple(_ranked(entry, flags) for entry in shown),
        tuple(at for at, entry in enumerate(shown) if entry.name in flags),
        trace.statement.null,
    )


def _ranked(entry: Entry, flags: dict[str, str]) -> tuple[str, ...]:
    band = "–" if entry.low is None or entry.high is None else f"{entry.low:+.3g} to {entry.high:+.3g}"
    said = {True: "outside", False: "not distinguishable", None: ""}[entry.distinguishable]
    name = f"{entry.name} ({flags[entry.name]})" if entry.name in flags else entry.name
    return (name, f"{entry.score:+.4g}", band, said, f"{entry.contribution:+.4g}", str(entry.visits))


def _statement(trace: Trace) -> tuple[tuple[str, str], ...]:
    statement = trace.statement
    closures = tuple(
        (f"Closure of {part.group}", f"{part.residual:.2%} of its way unexplained; the books close: {part.closes}")
        for part in statement.closure
    )
    booked = (
        f"booked {statement.behaviour_booked:+.4g}, travelled {statement.behaviour_travelled:+.4g}; "
        f"sketching alone is off by about {statement.sketch_error:.2g}"
    )
    return (
        ("Method", statement.method),
        ("Scope", statement.scope),
        *closures,
        ("Behaviour", booked),
        ("Null", statement.null),
    )


def _time(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s"
