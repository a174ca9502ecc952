"""What the proof of a row proves, in plain words, and what it leaves open."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from aqpolicy.cli.log.rows import group_number, nats_text, norm_text, reason_text
from aqpolicy.units import MICRO, date_text, micro_text

if TYPE_CHECKING:
    from aqpolicy.bundle import Bundle
    from aqpolicy.lineage.proved import ProvedRow
    from aqpolicy.provenance.evidence import ProvedLabel
    from aqpolicy.trust import Checkpoint


_DAY: Final = 86_400


def statement(
    proved: ProvedRow,
    label: ProvedLabel | None = None,
    bundle: Bundle | None = None,
    *,
    group: str | None = None,
    head: Checkpoint | None = None,
) -> Iterator[str]:
    """Return the lines.

    Args:
        proved: The row.
        label: The label that is joined to it.
        bundle: What the step was decided by, where it is at hand.
        group: The depth group to speak of; all, where none is given.
        head: The head that the reader knew before.

    Raises:
        InputError: The run has no such depth group.
        ProofError: The bundle is not the one that the step was decided by.
    """
    number = group_number(proved.names.groups, group)
    yield from _place(proved)
    yield from _verdict(proved)
    yield from _groups(proved, bundle, number)
    yield from _standing(proved)
    yield from _head(proved, head)
    if label is not None:
        yield from _label(label)
    for line in _open(proved, label, bundle, head):
        yield f"open      {line}"


def _place(proved: ProvedRow) -> Iterator[str]:
    entry, row = proved.entry, proved.row
    name = f"`{ascii(proved.example)[1:-1]}`, " if proved.example else ""
    when = [f"attempt {entry.attempt}", f"epoch {entry.epoch}"]
    for what, names, at in (
        ("phase", proved.names.phases, entry.phase),
        ("stage", proved.names.stages, entry.stage),
    ):
        when += [f"{what} {names[at]}"] if at < len(names) else []
    yield f"example   {name}key {row.example_key.hex()}"
    yield f"step      {entry.step} ({', '.join(when)}), rank {proved.rank}, row {proved.position} of it"
    yield f"decided   by bundle sha256:{entry.bundle.hex()}"
    yield f"          row {row.route} of its mask table"


def _verdict(proved: ProvedRow) -> Iterator[str]:
    row = proved.row
    because = f", because {reason_text(row.reason_code)}" if row.reason_code else ""
    yield f"effect    {row.effect}, cause {row.cause}{because}"
    yield f"surprisal {nats_text(row.surprisal)}"
    charged = [f"{name} {micro_text(c)} nat" for name, c in zip(proved.names.budgets, row.charges, strict=True) if c]
    yield f"charged   {', '.join(charged) or 'nothing'}"


def _groups(proved: ProvedRow, bundle: Bundle | None, number: int | None) -> Iterator[str]:
    lowered = {at: (code, share) for at, code, share in proved.row.exceptions}
    shares = None if bundle is None else _shares(proved, bundle)
    for at, name in enumerate(proved.names.groups):
        if number not in (None, at):
            continue
        if at in lowered:
            code, share = lowered[at]
            applied = f"share {micro_text(share)}, not the table's: {reason_text(code)}"
        elif shares is not None:
            applied = f"share {micro_text(shares[at])}, the table's"
        else:
            applied = "the table's share"
        yield f"group     {name}: {applied}; norm {norm_text(proved.row.norms[at])}"


def _shares(proved: ProvedRow, bundle: Bundle) -> tuple[int, ...]:
    from aqpolicy.errors import ProofError

    if bundle.digest != proved.entry.bundle:
        raise ProofError(f"step {proved.entry.step} was decided by another bundle than the one that was given")
    tables, route = bundle.tables, proved.row.route
    if tables.groups != proved.names.groups or route >= len(tables.rows):
        raise ProofError("the row does not fit the bundle that the step was decided by")
    return tables.rows[route].shares


def _standing(proved: ProvedRow) -> Iterator[str]:
    if proved.superseded_by is not None:
        yield f"stands    no: attempt {proved.superseded_by} took the step's place; it was computed, then superseded"
    elif proved.stands_until is not None:
        yield f"stands    up to entry {proved.stands_until}: no later attempt took the step's place before it"


def _head(proved: ProvedRow, known: Checkpoint | None) -> Iterator[str]:
    head = proved.head
    yield f"log       {head.origin}, entry {proved.index} of {head.size}"
    same = ", the head that was given" if known is not None else ""
    yield f"signed    by {', '.join(key.label for key in proved.signers)}{same}"


def _label(label: ProvedLabel) -> Iterator[str]:
    from aqpolicy.units import value_text

    known = ", ".join(f"{name} {value_text(value)}" for name, value in label.attributes.items())
    day = date_text(label.observed_at // _DAY * MICRO)
    yield f"label     {known or 'nothing is known'}; declared of {day}; taxonomy {label.taxonomy}"
    yield f"          of manifest {label.manifest} for {label.purpose}, whose root the step names and its issuer signed"
    yield f"labelled  under credential {label.credential}, whose key {label.key.label} signed the session"
    if label.granted is not None:
        granted = label.granted
        span = f"from {granted.valid_from} to {granted.valid_until}"
        yield f"granted   to {granted.pseudonym} as {granted.authority}, {span}, by a trusted key"


def _open(
    proved: ProvedRow, label: ProvedLabel | None, bundle: Bundle | None, head: Checkpoint | None
) -> Iterator[str]:
    """Return what is not proved."""
    if proved.superseded_by is None and proved.stands_until is None:
        yield "whether another attempt took the step's place (a proof shows it once a later step or model is logged)"
    elif proved.superseded_by is None:
        yield "whether an attempt that was logged later took the step's place"
    if bundle is None:
        yield "what the table's shares are (give --bundle)"
    yield "that decision and charges follow from the policy (`aqpolicy log verify` derives them again)"
    if label is None:
        yield "what is known of the example, and who says so (`aqpolicy log prove --manifest`)"
    else:
        yield "that the credential covers the label and was not revoked (`aqpolicy log show --events` has revocations)"
    if label is not None and label.granted is None:
        yield "who granted the credential: the issuer of the manifest vouches for it"
    if head is None:
        yield "that others are shown the same log (compare its head with one that you know: --head)"
