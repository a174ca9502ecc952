"""Hold traces to trainings without the examples, with dattri and captum beside them, on the same models and subsets.

`make bench-trace` runs it. Everything that is traced was trained through the gate and
is read from a verified log; the truth is plain training, many models at once, whose
agreement with the gate is measured first.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from gate.pages import as_text
from tracing.parts import QUICK, Size
from tracing.results import Finding, Results
from tracing.suite import PARTS

PACKAGES = ("torch", "dattri", "captum", "scikit-learn")

BEFORE = """\
# How far traces can be believed

This page is written by a run of `make bench-trace` and is not edited by hand.{quick}
What it measures are small models on small pictures, and two layers on a frozen encoder of sentences; nothing about
large models follows from it.

```text
{facts}
```

- **Truth** is training again: the same batches in the same order, each loss divided by the planned number of examples,
  the left-out ones with weight 0. It is done for many subsets at once without the gate; how near that is to what the
  gate makes stands in the first lines of each table.
- **LDS** is the rank correlation, over subsets, of the summed scores of what was kept with what came of it; the mean
  over behaviours. A behaviour is the margin of one held-out picture: the right answer against all others together.
  *This run* has the run's own initial weights and order, *other seeds* the mean over others.
- **estimate** and **contribution** are the two levels of `aqpolicy trace`, from records in the log. The peers get the
  run's model, or the weights after its epochs, with the options that their pages use; they get no log.
- Where a number was to be reached before it was measured, it stands beside what was found.

"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write the page; return 0 whatever was found."""
    args = _parser().parse_args(arguments)
    results = _measured(args) if args.read is None else Results.load(args.read)
    for table in results.tables():
        print("\n" + as_text(table))
    if args.json is not None:
        results.save(args.json)
    if args.page is not None:
        _write(results, args.page)
    missed = [one for one in results.findings if one.met is False]
    print(f"\n{len(results.findings)} findings, {len(missed)} not what they were to be")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="few of everything, to see that all works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the page of the docs")
    parser.add_argument("--read", type=Path, metavar="FILE", help="measure nothing, tell what `--json` wrote")
    return parser


def _measured(args: argparse.Namespace) -> Results:
    warnings.simplefilter("ignore")  # of the peers
    torch.set_num_threads(args.threads)
    start, results = time.perf_counter(), Results(_facts(args))
    for part in args.parts:
        try:
            for finding in PARTS[part](QUICK if args.quick else Size()):
                results.findings.append(finding)
                print(
                    f"{time.perf_counter() - start:7.1f} s  {' '.join(finding.cells()[:3])}",
                    file=sys.stderr,
                    flush=True,
                )
        except OSError as error:
            results.findings.append(
                Finding(part, "left out", "-", "the data could not be had", float("nan"), note=str(error))
            )
    results.facts["took"] = f"{time.perf_counter() - start:.0f} s"
    return results


def _facts(args: argparse.Namespace) -> dict[str, str]:
    found = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {args.threads} threads",
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return {**found, "quick": "yes" if args.quick else "no"}


def _write(results: Results, path: Path) -> None:
    quick = "\n**It was a quick run: that all works, and nothing else, can be read from it.**"
    facts = "\n".join(f"{name:<12} {value}" for name, value in results.facts.items())
    before = BEFORE.format(facts=facts, quick=quick if results.facts["quick"] == "yes" else "")
    body = "\n\n".join(f"```text\n{as_text(table)}\n```" for table in results.tables())
    path.write_text(before + body + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
