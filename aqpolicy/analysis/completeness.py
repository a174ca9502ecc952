"""AQ316: observations that no rule admits or refuses."""

from __future__ import annotations

from collections.abc import Iterator

from aqpolicy.analysis.prover import Obligation, Prover
from aqpolicy.analysis.query import LeftOver
from aqpolicy.analysis.question import Question, confirm, policies_of, replay
from aqpolicy.analysis.settings import CheckSettings
from aqpolicy.analysis.wording import MOST_REGIONS, region_notes
from aqpolicy.diagnostics import Diagnostic, Label
from aqpolicy.model.policy import Policy


def questions(policy: Policy, _settings: CheckSettings) -> Iterator[Question]:
    """Ask whether anything is left to `otherwise`."""
    claim = "every observation is admitted or refused by a rule"
    obligation = Obligation(claim, policies_of(policy), LeftOver())
    yield Question(claim, policy.complete or policy.otherwise.span, left_over, (obligation,))


def left_over(prover: Prover) -> Iterator[Diagnostic]:
    """Yield what is left to `otherwise`: a note, or an error where the policy says that it is complete.

    Unsat iff for every observation some grant stands, or restrictions close every group.
    """
    policy = prover.policies[0]
    witness = prover.witness(LeftOver())
    if witness is None:
        return
    confirm(replay(prover, witness).cause == "default", "an observation is left to `otherwise`")
    regions = prover.regions(LeftOver(), MOST_REGIONS + 1)
    promise = [Label(policy.complete, "says that there are none")] if policy.complete else []
    yield Diagnostic(
        code="AQ316",
        severity="error" if policy.complete else "note",
        message="some observations are left to `otherwise`: no rule admits or refuses them",
        labels=(*promise, Label(policy.otherwise.span, "decides them")),
        notes=region_notes(regions, "they lie"),
        help=("write a rule that admits them, or one that denies them and says why",),
        witness=prover.text(witness),
    )
