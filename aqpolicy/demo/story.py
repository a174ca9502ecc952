"""The demo in seven chapters, each in the words of a person who watches it.

Everything is done by the same functions as the commands use. The story says of
every part whether it is real, assigned or planted, and prints what came out,
whatever that is.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from aqpolicy.demo import evidence, policies, tracing
from aqpolicy.demo.experiment import WITHOUT, Job, Result, jobs, result_of, run_jobs, setting_of
from aqpolicy.demo.images import draw
from aqpolicy.demo.labels import STOLEN, Labels, label_readings
from aqpolicy.demo.lidc import CITATION, read_lidc
from aqpolicy.demo.screen import Screen
from aqpolicy.demo.tampering import flip_one_byte
from aqpolicy.demo.training import EPOCHS, Examples, tensors
from aqpolicy.demo.workspace import Workspace, issue_labels
from aqpolicy.diagnostics import render
from aqpolicy.pipeline import Pipeline
from aqpolicy.provenance import load_manifest
from aqpolicy.report import (
    LIMITS,
    Bars,
    Chapter,
    Measured,
    Report,
    Table,
    TraceView,
    burn_downs_of,
    footprint_table,
    heat_map_of,
    log_of,
    render_report,
    run_facts,
)
from aqpolicy.report.markup import measured
from aqpolicy.trace import AuditReport, Run, audit, footprint, open_run
from aqpolicy.trust import Keyring, SigningKey, digest_text, replace_file

RUNS: Final = ("ungoverned", "governed")


@dataclass
class Story:
    """What is known so far; each chapter adds to it."""

    screen: Screen
    work: Workspace
    seeds: tuple[int, ...]
    keys: dict[str, SigningKey] = field(init=False)
    keyring: Keyring = field(init=False)
    labels: Labels = field(init=False)
    examples: Examples = field(init=False)
    pipelines: dict[str, Pipeline] = field(init=False)
    results: dict[Job, Result] = field(init=False)
    runs: dict[str, Run] = field(init=False)
    audits: dict[str, AuditReport] = field(init=False)
    displacement: tuple[Bars, ...] = ()
    tampering: str = ""
    surfaced: bool = False
    """Whether the stolen credential comes first, beyond chance, in the trace of the ungoverned model's loss."""
    views: list[TraceView] = field(default_factory=list)
    footprints: dict[str, Table] = field(default_factory=dict)
    told: list[Chapter] = field(default_factory=list)


def tell(out: Path, seeds: tuple[int, ...], screen: Screen | None = None) -> Story:
    """Tell the whole story into a folder.

    Raises:
        InputError: The labels are not installed, or the folder holds something else.
    """
    torch.set_num_threads(1)
    story = Story(screen or Screen(), Workspace.create(out), seeds)
    for chapter in (_labels, _policy, _compile, _train, _verify, _trace, _report):
        chapter(story)
    _summary(story)
    return story


def _labels(story: Story) -> None:
    screen = story.screen
    screen.chapter("Labels: radiologists who disagree")
    screen.progress(0, 3, "reading the radiologists' outlines")
    readings, outlines = read_lidc()
    screen.progress(1, 3, "drawing what they drew")
    images = draw(outlines, len(readings))
    story.labels = labels = label_readings(readings)
    story.examples = tensors(labels, images)
    screen.progress(2, 3, "signing and verifying")
    story.keys, story.keyring = story.work.make_keys()
    _sign(story, images)
    screen.progress(3, 3, "labels")
    training = labels.training
    planted = sum(reading.planted for reading in training)
    low = sum(reading.low_consensus for reading in training)
    screen.say(f"REAL: {len(readings)} readings of {_nodules(readings)} lung nodules by up to four radiologists each.")
    screen.say(f"Source: {CITATION}.")
    screen.say(
        f"ASSIGNED: LIDC's readers are anonymous; ten credentials and reading times are assigned. PLANTED: the "
        f"credential {STOLEN} is stolen and signs inverted ratings, {planted} of {len(training)} training labels."
    )
    screen.say(
        f"{len(labels.readings)} readings of training patients became signed observations in labels.aqm; "
        f"{len(training)} say benign or malignant, {low} of them with consensus under 0.75. Held out: "
        f"{len(labels.held_out)} nodules of other patients, on which their panels agree, with true ratings."
    )
    story.told += [
        Chapter("Labels", f"{len(readings)} readings by radiologists who really disagree. {CITATION}.", "real"),
        Chapter(
            "Credentials", "The readers are anonymous: ten credentials and reading times are assigned.", "assigned"
        ),
        Chapter(
            "A theft",
            f"The credential {STOLEN} signs inverted ratings: {planted} of {len(training)} training labels. "
            "Consensus, its history and entropy are computed afterwards, as a platform would have seen them.",
            "planted",
        ),
    ]


def _nodules(readings: tuple[object, ...]) -> int:
    return len({(getattr(reading, "scan", 0), getattr(reading, "nodule", 0)) for reading in readings})


def _sign(story: Story, images: NDArray[np.uint8]) -> None:
    examples = [images[reading.row].tobytes() for reading in story.labels.readings]
    issue_labels(story.work.manifest_path, story.labels.readings, examples, story.keys)
    load_manifest(story.work.manifest_path, story.keyring)


def _policy(story: Story) -> None:
    screen = story.screen
    screen.chapter("Policy: what may be learned from whom, and how deep")
    story.pipelines = policies.copy_policies(story.work)
    for name in ("radiology", "open"):
        pipeline = story.pipelines[name]
        errors = len(policies.findings_of(pipeline)) or "no"
        screen.say(f"policies/{name}.aqp: {len(pipeline.result.proved)} claims proved, {errors} errors")
    broken = story.pipelines["broken"]
    findings = policies.findings_of(broken)
    screen.say(f"policies/broken.aqp, its sibling with two mistakes, has {len(findings)} findings:")
    for finding in findings:
        screen.show(render(finding, broken.source))
    story.told.append(
        Chapter(
            "Policy", f"Proved free of conflicts and unbounded learning; its broken sibling has {len(findings)} errors."
        )
    )


def _compile(story: Story) -> None:
    screen = story.screen
    screen.chapter("Compile: one signed bundle for one model")
    for name in ("radiology", "open"):
        digest = policies.compile_policy(story.work, name, story.pipelines[name], story.keys["author"])
        screen.say(f"{name}.aqb  {digest}")
    rows = len(story.pipelines["radiology"].compilation.tables.rows)
    screen.say(f"The radiology policy is a table of {rows} rows: evaluator, solver and table agree on each.")
    story.told.append(Chapter("Compile", f"A table of {rows} rows, bound to the network and signed."))


def _train(story: Story) -> None:
    screen = story.screen
    screen.chapter("Train: the same network, ungoverned and governed")
    setting = setting_of(story.work.root, story.examples, story.labels.training)
    wanted = jobs(story.seeds)
    screen.say(
        f"{len(wanted)} trainings of {EPOCHS} epochs: {len(story.seeds)} seeds, ungoverned, governed, and with "
        "low-consensus labels dropped; then without the low-consensus and without the stolen labels, to see what "
        "these moved."
    )
    story.results = run_jobs(setting, wanted, lambda done, total, job: screen.progress(done, total, _said(job)))
    found = evidence.comparison(story.results, _trained_on(story), len(story.labels.held_out))
    screen.say(f"{found.caption}:")
    screen.table([("", *found.metrics), *((name, *map(measured, values)) for name, values in found.rows)])
    story.told.append(Chapter("Train", f"{len(wanted)} trainings; the comparison below is what came out.", "measured"))


def _said(job: Job | None) -> str:
    if job is None:
        return "training"
    return f"{job.kind}, seed {job.seed}{f', without {job.without}' if job.without else ''}"


def _trained_on(story: Story) -> dict[str, int]:
    training = story.labels.training
    tables = story.pipelines["radiology"].compilation.tables
    taught = sum(any(tables.rows[tables.row_of(reading.attributes)].shares) for reading in training)
    kept = setting_of(story.work.root, story.examples, training).trusted_panel
    return {"ungoverned": len(training), "governed": taught, "filtered": len(kept)}


def _verify(story: Story) -> None:
    screen, work = story.screen, story.work
    screen.chapter("Verify: every entry, every decision, every charge")
    story.runs, story.audits = {}, {}
    for name in RUNS:
        story.runs[name] = open_run(work.path(name), story.keyring)
        shown = partial(screen.progress, what=f"deriving the {name} run again")
        story.audits[name] = found = audit(story.runs[name], shown)
        screen.say(
            f"{name}: {found.entries} entries, {found.steps} steps, {found.rows} decisions derived again: all hold"
        )
    story.tampering = flip_one_byte(work.path("governed"), work.path("tampered"), story.keyring)
    screen.say(f"A copy with one flipped bit: {story.tampering}")
    story.told.append(
        Chapter("Verify", "Both logs were verified and derived again; one flipped bit in a copy was found and located.")
    )


def _trace(story: Story) -> None:
    screen = story.screen
    screen.chapter("Trace: why is the model wrong, and whose labels were that")
    story.told.append(Chapter("Trace", "Why each model is as wrong as it is, and why it is wrong where it is most so."))
    for at, name in enumerate(RUNS):
        run = story.runs[name]
        screen.progress(2 * at, 4, "tracing")
        wrong = tracing.most_wrong(run, story.labels, story.examples)
        loss = tracing.trace_loss(run, story.examples)
        story.surfaced |= name == "ungoverned" and tracing.stands_out(loss)
        screen.progress(2 * at + 1, 4, "tracing")
        single = tracing.trace_wrong(run, wrong, story.examples)
        screen.progress(2 * at + 2, 4, "tracing")
        screen.say(f"The {name} model's loss on the held-out nodules, {loss.value:.3f} nat: {tracing.standing(loss)}.")
        screen.say(f"Its worst of {wrong.errors} errors: it {wrong.words}. {tracing.standing(single)}.")
        summary = f"{tracing.standing(loss)}. The trace does not know which credential was stolen."
        story.views.append(tracing.view(loss, f"Why is the {name} model as wrong as it is?", summary))
        summary = f"The model {wrong.words}. {tracing.standing(single)}."
        story.views.append(tracing.view(single, f"Why is the {name} model wrong here?", summary))
    _moved(story)
    for name in RUNS:
        found = footprint(story.runs[name], credential=STOLEN)
        replace_file(story.work.path(f"footprint-{name}.json"), found.to_json())
        story.footprints[name] = footprint_table(found)
        admitted = sum(any(visit.shares) for visit in found.visits)
        mass = ", ".join(f"{part.group} {part.mass_of_run:.1%}" for part in found.groups)
        screen.say(
            f"Footprint of {STOLEN} in the {name} run: {len(found.examples)} examples, {admitted} of "
            f"{len(found.visits)} visits admitted; part of all admitted mass: {mass}."
        )


def _moved(story: Story) -> None:
    """Compare what doubtful labels wrote with what training without them changes."""
    screen, training = story.screen, story.labels.training
    denied = setting_of(story.work.root, story.examples, training).denied
    written = {
        name: {without: tracing.written(story.runs[name], denied[without]) for without in WITHOUT} for name in RUNS
    }
    story.displacement = evidence.displacements(story.results, written)
    for bars in story.displacement:
        screen.say(f"{bars.title}. {bars.note} ({bars.unit}):")
        screen.table([("", *bars.groups), *((name, *map(measured, values)) for name, values in bars.arms)])


def _report(story: Story) -> None:
    screen = story.screen
    screen.chapter("Report: one page")
    replace_file(story.work.path("report.html"), render_report(_page(story)).encode("utf-8"))
    screen.say(f"{story.work.path('report.html')}: open it in a browser; it makes no request.")


def _page(story: Story) -> Report:
    governed, audit = story.runs["governed"], story.audits["governed"]
    ungoverned = story.runs["ungoverned"]
    foot = Table(
        f"{story.footprints['ungoverned'].caption}, in the ungoverned run; then in the governed run",
        ("Run and depth group", *story.footprints["ungoverned"].columns[1:]),
        tuple((f"{name}: {row[0]}", *row[1:]) for name in RUNS for row in story.footprints[name].rows),
        note=story.footprints["ungoverned"].note,
    )
    return Report(
        title="What this model was allowed to learn",
        subtitle="Lung nodules, readers who disagree, one stolen credential, and a policy between labels and weights.",
        chapters=(*story.told, Chapter("What came out", _outcome(story), "measured")),
        facts=run_facts(governed, audit),
        policies=(
            policies.part_of(story.pipelines["radiology"], "The radiology policy", "Compiled, signed and obeyed."),
            policies.part_of(
                story.pipelines["broken"], "Its broken sibling", "Two mistakes; refused, with an observation for each."
            ),
        ),
        heat_maps=(
            heat_map_of(governed, "Governed", evidence.consensus_class),
            heat_map_of(ungoverned, "Ungoverned", evidence.consensus_class),
        ),
        budgets=tuple(burn_downs_of(governed)),
        comparison=evidence.comparison(story.results, _trained_on(story), len(story.labels.held_out)),
        displacement=story.displacement,
        traces=tuple(story.views),
        footprint=foot,
        log=log_of(governed, audit, story.tampering),
        limits=LIMITS,
    )


def _summary(story: Story) -> None:
    screen, work = story.screen, story.work
    seconds = screen.close()
    digest = digest_text(story.runs["governed"].bundle.digest)
    screen.say("What happened:")
    screen.say(_outcome(story))
    screen.say(f"Done in {seconds:.0f} s ({', '.join(f'{title} {spent:.0f}' for title, spent in _times(screen))}).")
    screen.say(f"In {work.root}:")
    screen.show(
        "report.html             the page\n"
        "labels.aqm              signed labels            keyring.json   who is trusted, for what\n"
        f"radiology.aqb           the governed bundle      {digest[:25]}\n"
        "ungoverned/ governed/   two runs: log, model, what auditing them needs\n"
        "tampered/               a run with one flipped bit\n"
        "policies/ keys/         sources, and the demo's private keys"
    )
    screen.say("What to try next:")
    scripts = Path(sys.executable).parent
    path = "" if shutil.which("aqpolicy") else f'export PATH="{scripts}:$PATH"\n'
    screen.show(
        f"{path}cd {work.root}\n"
        "aqpolicy check policies/broken.aqp\n"
        "aqpolicy inspect radiology.aqb --keyring keyring.json\n"
        "aqpolicy log verify tampered --keyring keyring.json\n"
        f"aqpolicy trace ungoverned --keyring keyring.json --model {tracing.MODEL} --behaviour {tracing.LOSS}\n"
        f"aqpolicy trace governed --keyring keyring.json --from-annotator {STOLEN}\n"
        f"aqpolicy revoke ungoverned --keyring keyring.json --credential {STOLEN} --reason 'compromised: key stolen' "
        "--key keys/log.key\n"
        "aqpolicy report governed --keyring keyring.json --policy policies/radiology.aqp --out governed.html"
    )


def _times(screen: Screen) -> list[tuple[str, float]]:
    return [(title.partition(":")[0].lower(), spent) for title, spent in screen.times]


def _outcome(story: Story) -> str:
    """Say in a few sentences what came out."""
    areas = {kind: measured(result_of(story.results, kind, "area")) for kind in evidence.NAMES}
    written, retrained = (
        {kind: _at(bars, "semantic", kind) for kind in ("ungoverned", "governed")} for bars in story.displacement[:2]
    )
    surfaced = "stands out" if story.surfaced else "does not stand out"
    return (
        f"AUC on held-out nodules: {areas['ungoverned']} ungoverned, {areas['governed']} governed, {areas['filtered']} "
        "with low-consensus labels dropped. Low-consensus labels wrote "
        f"{written['ungoverned'].mean:.3g} into the ungoverned model's semantic layers and "
        f"{written['governed'].mean:.3g} into the governed model's. Trained again without them, these layers end "
        f"{retrained['ungoverned'].mean:.3g} and {retrained['governed'].mean:.3g} away: a closed group is still "
        f"reached through other labels' gradients. The stolen credential {surfaced} in the trace of the ungoverned "
        "model's loss, which does not know of the theft. Both logs hold."
    )


def _at(bars: Bars, group: str, arm: str) -> Measured:
    return dict(bars.arms)[arm][bars.groups.index(group)]
