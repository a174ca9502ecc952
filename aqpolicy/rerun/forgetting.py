"""Exact forgetting: a run goes back to before its first affected step and is trained again without some examples.

What comes out is, bit for bit, the model and the optimizer that never had them: the
same schedule, with these examples refused from the beginning. The log keeps what
was superseded and says what was forgotten, and why. Nothing is subtracted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aqpolicy.errors import InputError, LineageError
from aqpolicy.gate import Gate
from aqpolicy.gate.records.checkpoint import KIND, SUFFIX
from aqpolicy.lineage import LineageReader, logged_models
from aqpolicy.lineage.entry import CKPT
from aqpolicy.rerun.origin import FORGOTTEN, Origin
from aqpolicy.rerun.plan import Plan
from aqpolicy.rerun.recipe import Trained, train_again
from aqpolicy.rerun.rehearsal import REHEARSED, rehearse
from aqpolicy.trace import Run, audit_run
from aqpolicy.trace.behaviour import Named
from aqpolicy.trust import SigningKey, digest_text, replace_file, sha256

LONGEST_REASON = 1000
"""Letters of a reason."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What came of it."""

    plan: Plan
    reason: str
    rehearsed: int
    """Steps that were taken again as they were, and found equal."""
    digest: str
    """Of model and optimizer."""
    model: str
    """Digest of the published model, as the log has it."""
    never_trained: str
    """The digest of the training from the beginning without the examples; empty where that was not asked for."""
    audited: int
    """Steps that an audit of the result derived again."""
    left: tuple[str, ...]
    """Files of the folder that still hold what was learned."""

    @property
    def is_exact(self) -> bool | None:
        """Whether the result is the model that never had the examples; None where it was not compared."""
        return self.digest == self.never_trained if self.never_trained else None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON data."""
        return {"format": "aqpolicy forgotten 1", **asdict(self), "is_exact": self.is_exact}


def forget(
    origin: Origin, plan: Plan, recipe: Named, log_key: Path | SigningKey, *, reason: str, check: bool = False
) -> Forgotten:
    """Train a run again without some examples, as a new attempt in its own log.

    Some steps are rehearsed before anything is written. Where it is broken off, the run is one that has not ended:
    to forget the same again finishes it.

    Args:
        origin: The run.
        plan: What is to be done, from `plan_forgetting`; it needs something to be done.
        recipe: The run's recipe.
        log_key: The key that signs the run's log.
        reason: Why, for the log.
        check: Also train from the beginning without them, and compare.

    Raises:
        IllegalTrainingSetupError: The machine or the recipe does not make the run again; nothing was written.
        AqpolicyError: The training failed.
    """
    if not 0 < len(reason) <= LONGEST_REASON or not reason.isprintable():
        raise InputError(f"a reason is one line of at most {LONGEST_REASON} letters")
    if not plan.is_needed:
        raise InputError("nothing of these examples was ever admitted; there is nothing to forget")
    origin.refuse_other_stack()
    common = 0 if plan.first is None else plan.first - plan.step
    rehearsed = rehearse(origin, recipe, plan.checkpoint, max(common + 1, REHEARSED))
    refused = origin.refused | set(plan.examples)
    trained = train_again(
        recipe,
        origin.resumed(
            plan.checkpoint, log_key, refused=refused, began=lambda gate: _tell(gate, origin.run, plan, reason)
        ),
    )
    never = never_trained(origin, recipe, refused).digest if check else ""
    report = audit_run(origin.run.folder, origin.keyring)
    return Forgotten(
        plan=plan,
        reason=reason,
        rehearsed=rehearsed,
        digest=trained.digest,
        model=_published(origin),
        never_trained=never,
        audited=report.steps,
        left=left_over(origin),
    )


def never_trained(origin: Origin, recipe: Named, refused: Collection[str]) -> Trained:
    """Train from the beginning, without a log, with some examples refused."""
    return train_again(recipe, origin.unrecorded(refused=refused))


def left_over(origin: Origin) -> tuple[str, ...]:
    """Return the files of a run's folder that hold a model or checkpoint which the log counts no longer.

    They still hold what was learned from the examples; so do the sketches and factors of the superseded steps.
    """
    run = origin.run.folder
    with LineageReader(run, origin.keyring) as log:
        every = {str(facts.get("model")) for _, facts in log.facts(CKPT)}
        counted = {str(model["model"]) for model in log.models}
    files = [path for path in run.iterdir() if path.suffix in {SUFFIX, ".pt"}]
    return tuple(sorted(path.name for path in files if sha256(path.read_bytes()).hex() in every - counted))


def _tell(gate: Gate, run: Run, plan: Plan, reason: str) -> None:
    """Write what is forgotten into the log, durably, before the first step without it."""
    log: Any = gate.machinery.recorder.log
    if log is None:
        raise LineageError("the run's log is not written by this process")
    facts = {**plan.to_json(), "reason": reason}
    data = json.dumps(facts, indent=1, sort_keys=True).encode() + b"\n"
    replace_file(run.folder / f"forgotten-{sha256(data).hex()[:16]}.json", data)
    for source in plan.sources:
        event: Mapping[str, Any] = {
            "event": FORGOTTEN,
            "credential": source.credential,
            "example": source.example,
            "examples": len(source.examples),
            "reason": reason,
            "from_step": plan.step,
            "plan": digest_text(sha256(data)),
            "time_s": int(time.time()),
        }
        log.append_status(event)


def _published(origin: Origin) -> str:
    _, models = logged_models(origin.run.folder, origin.keyring)
    return next((str(model["model"]) for model in reversed(models) if model.get("kind") != KIND), "")
