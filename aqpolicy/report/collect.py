"""Gather what a page shows of a verified run: masses, budgets, policy, log.

It reads a run that `trace.open_run` verified and an audit that derived every
decision again; it computes sums, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from aqpolicy.bundle.tables import NO_LIMIT, BudgetTable
from aqpolicy.errors import InputError
from aqpolicy.lineage import NO_INDEX, NO_SURPRISAL
from aqpolicy.report.data import BurnDown, Chapter, HeatMap, LogPart, PolicyPart, Report, Table
from aqpolicy.report.indirect import indirect_influence
from aqpolicy.report.markup import number
from aqpolicy.trace import AuditReport, Footprint, Run
from aqpolicy.trust import digest_text, sha256
from aqpolicy.units import MICRO

LIMITS: Final = (
    (
        "Closing a depth group closes the direct path: the group's parameters receive exactly nothing from the "
        "example. The example may still influence them indirectly, by changing what other examples' gradients are. "
        "Only an example that is denied everywhere has no influence at all."
    ),
    (
        "Contribution is not counterfactual: what an example's gradients added is not what would be missing without "
        "it. Estimates are first-order and no retraining; claims about whole classes need a run without them."
    ),
    (
        "Behaviours are traced in what was recorded of the gradients: sketches or factors, rounded to bytes or less. "
        "The error statement beside each trace says how far the books close and what recording alone is off by."
    ),
    (
        "Admitted mass is a sum of gradient norms over visits. It says how much an observation was allowed to write, "
        "not how far the weights went."
    ),
    (
        "The log proves what was recorded and that it has not been changed since, not that the recorder was honest. "
        "It is supporting evidence, not a certificate."
    ),
)
_UNKNOWN: Final = "not in the manifest"

Classify = Callable[[Mapping[str, str | int]], str]
"""Names the class of an observation by its attributes."""


def report_of_run(run: Run, audit: AuditReport, policy: PolicyPart | None = None) -> Report:
    """Return the part of a report that every run has."""
    return Report(
        title=f"What {run.bundle.policy_name} let this model learn",
        subtitle=f"Run {run.run_id}, policy {run.bundle.policy_name} {run.bundle.policy_version}",
        chapters=(
            Chapter("Verified", "Signatures, digests and every decision of the log were derived again.", "measured"),
        ),
        facts=run_facts(run, audit),
        policies=(policy,) if policy is not None else (policy_of_bundle(run),),
        heat_maps=(heat_map_of(run, f"Policy {run.bundle.policy_name}"),),
        budgets=tuple(burn_downs_of(run)),
        log=log_of(run, audit),
        limits=(LIMITS[0], indirect_influence(run), *LIMITS[1:]),
    )


def run_facts(run: Run, audit: AuditReport) -> tuple[tuple[str, str], ...]:
    """Return what a reader asks first."""
    return (
        ("Steps", f"{audit.steps} in {audit.epochs} epochs"),
        ("Visits", f"{audit.rows} of {audit.examples} examples"),
        ("Effects", counted(audit.effects)),
        ("Causes", counted(audit.causes)),
        ("Bundle", digest_text(run.bundle.digest)),
        ("Manifest", f"{digest_text(run.manifest.digest)}, {run.manifest.size} signed observations"),
    )


def counted(counts: Mapping[str, int]) -> str:
    """Return names and numbers in a line, the most first."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))


def policy_of_bundle(run: Run) -> PolicyPart:
    """Return what the bundle itself says of its policy, where the source is not at hand."""
    claims = "\n".join(f"# {claim}" for claim in run.bundle.findings)
    note = "The source is not part of a run. Give it with --policy to show it; it must be the one that was compiled."
    return PolicyPart(run.bundle.policy_name, claims, (), f"{len(run.bundle.findings)} claims proved", note)


def policy_of_source(run: Run, path: Path) -> PolicyPart:
    """Return a policy's source, which must be the very one that the run's bundle was made from.

    Raises:
        InputError: It cannot be read or is another one.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {error.strerror}") from error
    if digest_text(sha256(data)) != run.bundle.digests.get("source"):
        raise InputError(f"`{path}` is not the source that the run's bundle was compiled from")
    verdict = f"{len(run.bundle.findings)} claims proved"
    return PolicyPart(f"{run.bundle.policy_name} {run.bundle.policy_version}", data.decode("utf-8"), (), verdict)


_COUNTED = {
    True: "the gradient mass (sum of the examples' gradient norms)",
    False: "the visits (norms were not recorded)",
}
"""What a heat map counts, by whether norms were measured."""


def heat_map_of(run: Run, title: str, classify: Classify | None = None) -> HeatMap:
    """Return admitted and denied mass by depth group and class.

    The class is that of the first category of the policy's vocabulary that is
    called `authority`, or else of its first category. Where the run did not measure
    norms, every visit counts one, times its share.
    """
    measured = run.genesis.get("record") != "decisions"
    name_class = classify or _by_category(run)
    admitted: dict[str, list[float]] = {}
    denied: dict[str, list[float]] = {}
    groups = run.tables.groups
    known = [name_class(run.manifest.attributes(index)) for index in range(run.manifest.size)]
    for _, row in run.rows:
        name = _UNKNOWN if row.manifest_index == NO_INDEX else known[row.manifest_index]
        inside = admitted.setdefault(name, [0.0] * len(groups))
        held = denied.setdefault(name, [0.0] * len(groups))
        masses = run.masses(row) if measured else tuple(share / MICRO for share in run.applied(row))
        norms = row.norms if measured else (1.0,) * len(groups)
        for group, (mass, norm) in enumerate(zip(masses, norms, strict=True)):
            inside[group] += mass
            held[group] += max(norm - mass, 0.0)
    classes = tuple(sorted(admitted))
    return HeatMap(
        title,
        f"Share of {_COUNTED[measured]} that was admitted; the depth groups in order from the input",
        groups,
        classes,
        tuple(tuple(admitted[name][group] for name in classes) for group in range(len(groups))),
        tuple(tuple(denied[name][group] for name in classes) for group in range(len(groups))),
    )


def _by_category(run: Run) -> Classify:
    categories = [table.name for table in run.tables.attributes if table.kind == "category"]
    chosen = "authority" if "authority" in categories else next(iter(categories), "")
    return lambda attributes: f"{chosen} {attributes.get(chosen, 'missing')}" if chosen else "all"


def burn_downs_of(run: Run) -> Iterator[BurnDown]:
    """Yield what was left of every limit of every budget, step by step."""
    for place, budget in enumerate(run.tables.budgets):
        spent = [sum(row.charges[place] for row in block.rows) for block in run.blocks]
        lowered = sum(_over(run.tables.rows[row.route].charged[place], row.surprisal, budget) for _, row in run.rows)
        if budget.per_epoch != NO_LIMIT:
            yield _burn_down(run, budget.name, spent, budget.per_epoch, lowered, per_epoch=True)
        if budget.per_run != NO_LIMIT:
            yield _burn_down(run, budget.name, spent, budget.per_run, lowered, per_epoch=False)


def _burn_down(run: Run, name: str, spent: list[int], limit: int, lowered: int, *, per_epoch: bool) -> BurnDown:
    left, points, epoch = limit, [(0, limit / MICRO)], 0
    for block, charge in zip(run.blocks, spent, strict=True):
        if per_epoch and block.epoch != epoch:
            epoch, left = block.epoch, limit
            points.append((block.step, limit / MICRO))
        left -= charge
        points.append((block.step + 1, left / MICRO))
    window = "each epoch" if per_epoch else "the whole run"
    return BurnDown(name, f"what is left of the limit for {window}", limit / MICRO, tuple(points), lowered)


def _over(share: int, surprisal: int, budget: BudgetTable) -> bool:
    """Whether an update was lowered by what the budget says of a single one."""
    return surprisal != NO_SURPRISAL and budget.per_update != NO_LIMIT and share * surprisal > budget.per_update * MICRO


def footprint_table(found: Footprint) -> Table:
    """Return what depended on a source, by depth group."""
    rows = tuple(
        (
            part.group,
            str(part.visits),
            str(part.steps),
            number(part.mass),
            f"{part.mass_of_run:.1%}",
            "–" if part.displacement is None else number(part.displacement),
        )
        for part in found.groups
    )
    return Table(
        f"{found.kind} {found.source}: {len(found.examples)} examples, {len(found.visits)} visits "
        f"({counted(found.effects)})",
        ("Depth group", "Visits let in", "Steps", "Admitted norm", "Of the run", "Moved the end by at most"),
        rows,
        note=f"{len(found.corroborated)} examples of others name it in their consensus history. A footprint counts "
        "what depended on the source directly; it does not undo it.",
    )


def log_of(run: Run, audit: AuditReport, tampering: str = "") -> LogPart:
    """Return the signed head of a run's log."""
    head = (run.folder / "head.note").read_text(encoding="utf-8", errors="replace")
    spent = ", ".join(f"{name} {value / MICRO:.6g} nat" for name, value in audit.spent.items())
    pairs = (
        ("Entries", f"{audit.entries}, all under the signed head"),
        ("Decisions derived again", f"{audit.rows}, all as policy and manifest say"),
        ("Spent", f"{spent}; never over a limit"),
        ("Ended", "yes" if audit.ended else "no: the log may still grow"),
    )
    return LogPart(head, pairs, tampering)
