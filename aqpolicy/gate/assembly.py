"""Build the parts of a gate: nothing of the model is touched before all that can refuse has agreed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal, TextIO

import torch
from torch import Tensor, nn

from aqpolicy.bundle import Tables, refuse_unenforced
from aqpolicy.errors import IllegalTrainingSetupError
from aqpolicy.gate.accounts.accountant import Accountant
from aqpolicy.gate.accounts.decisions import Decisions, Observations
from aqpolicy.gate.course import Course
from aqpolicy.gate.machinery import Machinery
from aqpolicy.gate.motion.checks import ParameterSets
from aqpolicy.gate.motion.drift import DriftMeter
from aqpolicy.gate.motion.meters import Meters
from aqpolicy.gate.motion.metrics import Metric, Metrics, metrics_of
from aqpolicy.gate.motion.mover import Mover
from aqpolicy.gate.motion.probes import Probes
from aqpolicy.gate.motion.tables import embedding_tables
from aqpolicy.gate.motion.verification import Verifier
from aqpolicy.gate.ranks import ranks_of
from aqpolicy.gate.records.promotion import Promotions
from aqpolicy.gate.records.publication import Publisher
from aqpolicy.gate.records.recorder import Recorder
from aqpolicy.gate.records.size import record_size
from aqpolicy.gate.resume import restore_random_states
from aqpolicy.gate.routing.arrival import Plan
from aqpolicy.gate.routing.backward import Backward
from aqpolicy.gate.routing.factors import FactorPlan
from aqpolicy.gate.routing.groups import Group, bind_groups
from aqpolicy.gate.routing.mixing import mixing_modules
from aqpolicy.gate.routing.sketch import SketchPlan
from aqpolicy.gate.view.explain import Explainer
from aqpolicy.gate.view.last_visits import LastVisits
from aqpolicy.gate.view.live import Live

Record = Literal["decisions", "norms", "sketch", "factors"]
"""What the log keeps of each example and group."""


@dataclass(frozen=True, slots=True)
class Options:
    """What `attach` was asked for, beside model, optimizer, bundle and manifest."""

    record: Record = "norms"
    bits: int = 8
    """Of a number in `factors`."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Examples that are denied whatever the policy says, each with the reason."""
    metrics: Mapping[str, Metric] | None = None
    probes: Probes | None = None
    scaler: Any = None
    clip: float | None = None
    today: date | None = None
    progress: bool | TextIO = False
    state: Mapping[str, Any] | None = None
    start: Sequence[Tensor] | None = None
    """The parameters that the run began with, where it was resumed."""


def assemble(  # noqa: PLR0917 - what `attach` was given
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    bundle: Any,
    manifest: Observations,
    options: Options,
    run: Path | None,
) -> Machinery:
    """Return the parts of a gate; on any refusal the model is left as it was."""
    tables: Tables = bundle.tables
    refuse_unenforced(tables.requires)
    inner, ranks = ranks_of(model)
    mixing = mixing_modules(inner)
    groups = bind_groups(inner, tables.groups, bundle.parameters)
    plan = SketchPlan(tuple(group.shapes for group in groups))
    recording = _recording(options, plan, groups)
    size = record_size(options.record, [group.shapes for group in groups], options.bits, plan.widths)
    sets = ParameterSets(inner, optimizer, groups)
    meters, course = Meters(tables), Course(tables, options.today)
    metrics = Metrics(inner, options.metrics, metrics_of(tables))
    drift = _drift(inner, groups, meters, options.probes)
    decisions, accountant = Decisions(tables, manifest, options.refused), Accountant(tables, manifest.size)
    visits = LastVisits(tables, manifest.size)
    recorder = Recorder(tables)
    mover = Mover(
        optimizer,
        groups,
        meters,
        drift=drift,
        scaler=options.scaler,
        clip=options.clip,
        resumed=options.state is not None,
        tables=embedding_tables(inner, groups) if run is not None else (),
        accounts=recording is not None,
    )
    verifier = Verifier(
        tables,
        metrics.value,
        inner,
        optimizer,
        also=(mover.book,),
        entropies=None if drift is None else drift.entropies,
    )
    try:
        backward = Backward(inner, groups, tables, measure=options.record != "decisions", plan=recording)
    except BaseException:
        mover.release()
        raise
    start = _start(mover.shadow.values, options.start)

    def travelled() -> list[Tensor]:
        """Return, per group, the sketch of how far the parameters went since the gate was attached."""
        moved = {
            id(p): now.detach() - then
            for p, now, then in zip(mover.shadow.parameters, mover.shadow.values, start, strict=True)
        }
        flat = [
            torch.cat([moved[id(p)].reshape(-1) for p in group.parameters])
            if group.parameters
            else torch.zeros(0, device="cpu")
            for group in groups
        ]
        return [plan.sketch(group.index, part) if len(part) else part for group, part in zip(groups, flat, strict=True)]

    machinery = Machinery(
        model=inner,
        tables=tables,
        ranks=ranks,
        sets=sets,
        mixing=mixing,
        course=course,
        decisions=decisions,
        accountant=accountant,
        backward=backward,
        plan=plan,
        recording=recording,
        mover=mover,
        meters=meters,
        metrics=metrics,
        verifier=verifier,
        recorder=recorder,
        publisher=Publisher(run, recorder, Promotions(tables), metrics, plan, travelled),
        visits=visits,
        explainer=Explainer(tables, manifest, options.refused, visits),
        size=size,
        live=_live(bundle, tables, options.progress, run, str(size)) if ranks.rank == 0 else Live(None, tables),
        start=start,
    )
    if options.state is not None:
        _restore(machinery, options.state)
    return machinery


def _recording(options: Options, plan: SketchPlan, groups: Sequence[Group]) -> Plan | None:
    """Return how gradients are recorded.

    Raises:
        IllegalTrainingSetupError: As factors, and a parameter is in two groups.
    """
    if options.record == "sketch":
        return plan
    if options.record != "factors":
        return None
    every = [id(parameter) for group in groups for parameter in group.parameters]
    if len(set(every)) < len(every):
        raise IllegalTrainingSetupError(
            'a parameter is tied across two depth groups, so its gradient belongs to neither; use record="sketch", or '
            "let one group hold all its uses"
        )
    return FactorPlan(tuple(len(group.parameters) for group in groups), options.bits)


def _live(bundle: Any, tables: Tables, progress: bool | TextIO, run: Path | None, opening: str) -> Live:
    version = getattr(bundle, "policy_version", "")
    return Live(run, tables, progress, policy=f"{bundle.policy_name} {version}".strip(), opening=opening)


def _start(values: Sequence[Tensor], saved: Sequence[Tensor] | None) -> tuple[Tensor, ...]:
    """Return the parameters that the run began with: these, or those that a checkpoint kept."""
    if saved is None:
        return tuple(value.clone() for value in values)
    if [one.shape for one in saved] != [value.shape for value in values]:
        raise IllegalTrainingSetupError("the checkpoint is of another model: its parameters have other shapes")
    return tuple(one.to(value) for one, value in zip(saved, values, strict=True))


def _drift(model: nn.Module, groups: Sequence[Group], meters: Meters, probes: Probes | None) -> DriftMeter | None:
    covered = meters.drifting_groups
    if not covered and probes is None:
        return None
    if probes is None:
        raise IllegalTrainingSetupError(
            "the policy has a drift budget; give attach the inputs to measure it on, probes=..."
        )
    owned = [{id(parameter) for parameter in group.parameters} for group in groups]
    modules = list(model.modules())
    sites = [
        [module for module in modules if any(id(p) in own for p in module.parameters(recurse=False))] for own in owned
    ]
    return DriftMeter(model, sites, probes, covered=covered)


def _restore(machinery: Machinery, state: Mapping[str, Any]) -> None:
    """Go on from where an earlier run stopped.

    Raises:
        IllegalTrainingSetupError: The state is of another policy, manifest or model.
    """
    try:
        machinery.course.load_state_dict(state["course"])
        machinery.accountant.load_state_dict(state["accountant"])
        machinery.meters.load_state_dict(state["meters"])
        machinery.verifier.load_state_dict(state["verifier"])
        machinery.publisher.promotions.load_state_dict(state["promotions"])
        machinery.mover.book.load_state_dict(state["book"])
        restore_random_states(state["random"])
    except (KeyError, TypeError) as error:
        raise IllegalTrainingSetupError(f"the saved state is not one of Gate.state_dict: {error}") from error
