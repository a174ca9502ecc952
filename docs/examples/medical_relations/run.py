"""Fine-tune MiniLM-L6 on medical relations: ungoverned, filtered, weighted and governed; then compare.

    python docs/examples/medical_relations/run.py            # everything, on two cores in about 25 minutes
    python docs/examples/medical_relations/run.py --quick    # whether all of it works, in about two

Results go to OUT/results.json and to the screen; with --publish also beside this file and into README.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded, here and in every process

import torch
import transformers
from encoder import build, read_tokens, weights_folder
from experiment import FULL, QUICK, Outcome, Scale, Setting, jobs, run_jobs
from governance import HERE, prepare
from labels import SOURCES
from results import Results, Written, page, publish, read_results
from sentences import CITATION, RELATIONS, Relation, read_corpus

from aqpolicy.errors import AqpolicyError, InputError
from aqpolicy.trace import audit_run, footprint, open_run
from aqpolicy.trust import load_keyring, replace_file

ROOT: Final = HERE.parents[2]
DATA: Final = ROOT.parent / "shared" / "data" / "crowdtruth-medrel"
_MARKER: Final = ".medical-relations"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with gold.csv, units.csv and judgments.csv")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "fine-tune", help="a folder of its own")
    parser.add_argument("--quick", action="store_true", help="a few steps of every training, to see that all works")
    parser.add_argument("--seeds", type=int, help="how many trainings of each kind")
    parser.add_argument("--from", dest="file", type=Path, help="train nothing; show results that an earlier call wrote")
    parser.add_argument("--publish", action="store_true", help="write results.json and README.md beside this file")
    args = parser.parse_args(arguments)
    scale = QUICK if args.quick else FULL
    if args.seeds is not None:
        scale = Scale(args.seeds, scale.steps, scale.reviewed, scale.unreviewed, scale.most_tested)
    try:
        results = read_results(args.file) if args.file else _compared(args.data, args.out, scale)
        if args.publish:
            replace_file(HERE / "results.json", results.to_json().encode())
            publish(results, HERE / "README.md")
    except AqpolicyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(page(results))
    return 0


def _compared(data: Path, out: Path, scale: Scale) -> Results:
    results = compare(data, _fresh(out), scale)
    replace_file(out / "results.json", results.to_json().encode())
    _say(f"results are in {out / 'results.json'}")
    return results


def compare(data: Path, out: Path, scale: Scale) -> Results:
    """Train every arm of every seed, and return what came out."""
    since = time.perf_counter()
    weights_folder()  # fails early, with the reason, where a package is missing
    corpus = read_corpus(data)
    _say(f"{len(corpus.sentences)} sentences ({corpus.left_out} left out: terms not found). {CITATION}")
    papers = prepare(out, corpus.sentences, build())
    _say(f"both policies proved, bound to the encoder and signed; all labels signed: {out}")
    setting = Setting(corpus.sentences, read_tokens(corpus.sentences), papers, scale)
    wanted, outcomes = jobs(scale), list[Outcome]()
    for outcome in run_jobs(setting, wanted):
        outcomes.append(outcome)
        _progress(outcome, len(outcomes), len(wanted), time.perf_counter() - since)
    written = {relation: written_by(setting, relation) for relation in RELATIONS}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return Results(scale, tuple(outcomes), written, time.perf_counter() - since, versions)


def written_by(setting: Setting, relation: Relation) -> Written:
    """Audit the logged governed run of a relation, and return who wrote how much of each depth group."""
    keyring = load_keyring(setting.papers.keyring)
    run = setting.run_folder(relation)
    audit_run(run, keyring)
    opened = open_run(run, keyring)
    parts = {source: footprint(opened, credential=source).groups for source in SOURCES}
    _say(f"the log of the governed {relation} run holds: every decision was derived again")
    return {source: {part.group: round(part.mass_of_run, 6) for part in groups} for source, groups in parts.items()}


def _fresh(out: Path) -> Path:
    """Return the folder, emptied of what an earlier call left; anything else in it is refused."""
    if out.exists() and any(out.iterdir()):
        if not (out / _MARKER).is_file():
            raise InputError(f"`{out}` holds files that this example did not make; choose another folder with --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARKER).write_text("Made by docs/examples/medical_relations/run.py, which replaces it as a whole.\n")
    return out


def _progress(outcome: Outcome, done: int, all_of_them: int, seconds: float) -> None:
    job = outcome.job
    left = seconds / done * (all_of_them - done) / 60
    what = f"{job.relation}, {job.arm}, seed {job.seed}"
    _say(
        f"{done:3d} of {all_of_them}  {what:<28} F1 {outcome.f1:.3f}  AUC {outcome.area:.3f}  {left:4.0f} minutes left"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
