"""Measure what the gate costs: time and memory beside plain training and beside its peers, in one run.

`make bench-gate` runs it. Every number is a median of ratios of steps that take
turns; two that follow each other see the same machine, so the ratio holds where
the milliseconds do not. What is timed was compared with a slow loop first.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from gate.cases import Case, core_cases, published_weights
from gate.growth import AXES, DECIDING, along
from gate.pages import as_text, write_html, write_page
from gate.reports import tables, unmet
from gate.results import Cell, Results
from gate.suite import Settings, core, whole
from gate.ways import WAYS

PARTS = ("core", "whole", "growth")
PACKAGES = ("torch", "transformers", "peft", "opacus")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write the pages; return 1 where something failed under the gate."""
    args = _parser().parse_args(arguments)
    results = _measured(args) if args.read is None else Results.load(args.read)
    for table in tables(results):
        print("\n" + as_text(table))
    if args.json is not None:
        results.save(args.json)
    write_html(results, args.html)
    if args.page is not None:
        write_page(results, args.page)
    failed = unmet(results)
    print("\n".join(["", *failed, f"{len(results.cells)} cells; the curves are in {args.html}"]))
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help="of small models; a quarter, but five, where a step takes a second")
    parser.add_argument("--models", type=_names, help="keys of models, with commas between: mlp, convnet, minilm, ...")
    parser.add_argument("--modes", type=_names, default=list(WAYS), help=f"some of {','.join(WAYS)}")
    parser.add_argument("--parts", type=_names, default=list(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--devices", type=_names, help="cpu, cuda, or both; by default all that there are")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="small batches and two rounds, to see that all works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the page of the docs")
    parser.add_argument("--html", type=Path, metavar="FILE", default=Path("build/bench-gate/index.html"))
    parser.add_argument("--read", type=Path, metavar="FILE", help="measure nothing, tell what `--json` wrote")
    return parser


def _names(text: str) -> list[str]:
    return text.split(",")


def _measured(args: argparse.Namespace) -> Results:
    warnings.simplefilter("ignore")  # of the peers
    torch.set_num_threads(args.threads)
    rounds = args.rounds or (2 if args.quick else 20)
    cases = [case for case in core_cases(quick=args.quick) if args.models is None or case.key in args.models]
    families = {case.key: case.family for case in cases}
    results = Results(_facts(args, rounds), {case.key: case.title for case in cases}, dict(families))
    start = time.perf_counter()
    torch.backends.cudnn.allow_tf32 = False  # gradients are compared before anything is timed
    for device in args.devices or ["cpu"] + ["cuda"] * torch.cuda.is_available():
        settings = Settings(rounds, args.modes, device, args.threads, args.quick)
        for name, cells in _parts(cases, args.parts, settings):
            results.cells += cells
            print(f"{time.perf_counter() - start:7.1f} s  {name}, {device}", file=sys.stderr, flush=True)
    results.facts["took"] = f"{time.perf_counter() - start:.0f} s"
    return results


def _parts(cases: Sequence[Case], wanted: Sequence[str], settings: Settings) -> Iterator[tuple[str, list[Cell]]]:
    """Measure part by part, each with its name."""
    for case in cases if "core" in wanted else ():
        yield f"core, {case.key}", list(core(case, settings))
    for case in cases if "whole" in wanted else ():
        if case.peers:
            yield f"everything on, {case.key}", list(whole(case, settings))
    for axis in (*AXES, *DECIDING) if "growth" in wanted else ():
        if axis in DECIDING and settings.device != "cpu":
            continue
        rounds = settings.rounds if settings.quick else max(settings.rounds // 4, 5)
        yield f"growth by {axis}", list(along(axis, rounds, settings.device, quick=settings.quick))


def _facts(args: argparse.Namespace, rounds: int) -> dict[str, str]:
    """Return where and how it is measured."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{_processor()}, {torch.get_num_threads()} threads",
        **({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}),
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
        "minilm": "published weights" if published_weights() else "weights of chance",
        "rounds": f"{rounds}, fewer where a step takes a second",
        "quick": "yes" if args.quick else "no",
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
