"""The memorization report that goes with a model: signed, and the same bytes for the same log.

Format: docs/formats/memorization.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from aqpolicy.provenance.signed_form import Form
from aqpolicy.trust import Keyring, SigningKey, seal
from aqpolicy.units import MICRO

REPORT_TYPE: Final = "application/vnd.aqpolicy.memorization+json;version=1"

REPORT_ROLE: Final = "log"
"""Who may sign it: whoever answers for the run's log, which it is drawn from."""

MOST: Final = 400
"""How many examples one report names at most."""

LARGEST_AMOUNT: Final = 2**53 - 1

Text = Annotated[str, StringConstraints(max_length=256)]
Digest = Annotated[str, StringConstraints(pattern=r"\Asha256:[0-9a-f]{64}\z")]
Count = Annotated[int, Field(ge=0, le=LARGEST_AMOUNT)]
Amount = Annotated[int, Field(ge=-LARGEST_AMOUNT, le=LARGEST_AMOUNT)]
"""Millionths: of a nat, of a norm, or of one."""


class Over(Form, title="example over its threshold"):
    """One example that stands out of its class, with all its signals."""

    example: Text
    credential: Text
    kind: Text
    visits: Count
    exposures: Count
    influence: Amount
    norm: Amount
    loss: Amount
    last: Amount
    retained: Amount
    by_group: tuple[Amount, ...]
    """Influence per depth group, in the order of `groups`."""


class Class(Form, title="class of examples"):
    """The threshold of one class."""

    kind: Text
    examples: Count
    threshold: Amount
    over: Count


class Report(Form, title="memorization report"):
    """Which examples stand out, by which signal, in which model."""

    format: Literal["aqpolicy memorization 1"]
    origin: Text
    size: Count
    root: Digest
    """Origin, size and root of the log's head that it is drawn from."""
    model: Digest
    """The published model's file."""
    bundle: Digest
    manifest: Digest
    optimizer: Text
    signal: Literal["influence", "norm", "loss", "retained"]
    within: Text
    quantile: Annotated[int, Field(gt=0, lt=MICRO)]
    examples: Count
    groups: tuple[Text, ...]
    agreement: Annotated[int, Field(ge=-MICRO, le=MICRO)] | None
    """Rank correlation of the signal with plain loss."""
    classes: tuple[Class, ...]
    over: tuple[Over, ...]

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if len(self.over) > MOST:
            raise ValueError(f"a report names at most {MOST} examples")
        if sum(one.examples for one in self.classes) != self.examples:
            raise ValueError("the classes do not hold all examples")
        if [one.over for one in self.classes] != [sum(e.kind == one.kind for e in self.over) for one in self.classes]:
            raise ValueError("it does not name those that are over the threshold of their class")
        if any(len(one.by_group) != len(self.groups) for one in self.over):
            raise ValueError("an example has another number of depth groups")
        return self


def seal_report(report: Report, signers: Sequence[SigningKey]) -> bytes:
    """Return the bytes of a report's file."""
    return seal(REPORT_TYPE, report.to_payload(), signers)


def open_report(data: bytes, keyring: Keyring) -> Report:
    """Verify and read the bytes of a report's file.

    Trust:
        data is untrusted; keyring comes from the operator.

    Raises:
        SignatureError: No trusted key of the role `log` signed it.
        CanonicalError: The bytes are no canonical envelope.
        ProvenanceError: They are no memorization report of this version.
    """
    return Report.open(data, keyring, REPORT_TYPE, REPORT_ROLE)
