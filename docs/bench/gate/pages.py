"""The same tables three times: as text, as the page in the docs, and as one HTML file with its charts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from draw import figure, page

from aqpolicy.report.data import Table
from aqpolicy.report.markup import facts, table, text

from .reports import charts, tables
from .results import Results

_BEFORE = """\
# What the gate costs{where}

This page is written by a run of {command} and is not edited by hand.{quick}
Ratios to plain training travel to other machines; seconds do not.

```text
{facts}
```

All steps of a table take turns in one process. `cpu` and `wall` are medians, over rounds, of the ratio to the plain
steps just before and after; the quartiles are those of `cpu`. Peak memory is above the loaded model, each in a process
of its own; the first step of a shape, in which the gate also probes for mixed examples, stands apart. `gradients` and
`norms` are the largest relative errors against a loop over examples in float64, on a batch of four, asserted before
anything is timed. Where a target was set before the measurement, it stands beside the number.

- open: every share is 1. scale: every share is another. clip: also a norm limit per example and group.
- Opacus, `vmap` and the loop cut per group, with the same shares and limits. Ghost clipping cannot: it has one limit
  for the whole gradient of an example.
- Decisions are timed without a model: from the names of 256 examples to shares and charges.

"""


def as_text(data: Table) -> str:
    """Return a table in columns."""
    rows = [data.columns, *data.rows]
    widths = [max(len(row[at]) for row in rows) for at in range(len(data.columns))]
    lines = ["  ".join(_cells(row, widths)).rstrip() for row in rows]
    return "\n".join([data.caption, *(f"  {line}" for line in lines), *([f"  {data.note}"] if data.note else [])])


def _cells(row: Iterable[str], widths: list[int]) -> Iterator[str]:
    """Return cells as wide as their columns: the first to the left, the others to the right."""
    for at, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.ljust(width) if at == 0 else cell.rjust(width)


def write_page(results: Results, path: Path) -> None:
    """Write the page of the docs."""
    quick = "\n**It was a quick run: that all works, and nothing else, can be read from it.**" * _is_quick(results)
    said = "\n".join(f"{name:<12} {value}" for name, value in results.facts.items())
    body = "\n\n".join(f"```text\n{as_text(one)}\n```" for one in tables(results))
    on_gpu = {cell.device for cell in results.cells} == {"cuda"}
    where, command = (" on a GPU", "`docs/bench/gate.py --devices cuda`") if on_gpu else ("", "`make bench-gate`")
    before = _BEFORE.format(facts=said, quick=quick, where=where, command=command)
    path.write_text(before + body + "\n", encoding="utf-8")


def write_html(results: Results, path: Path) -> None:
    """Write one file that needs nothing else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = "".join(figure(chart) for chart in charts(results))
    parts = [
        ("Where and how", facts(results.facts.items())),
        ("How it grows", f'<div class="figures">{figures}</div>' if figures else ""),
        ("Numbers", "".join(table(one) for one in tables(results))),
    ]
    lead = "A quick run: plausibility only." if _is_quick(results) else "Beside plain training, and beside its peers."
    body = "".join(f"<section><h2>{text(heading)}</h2>{inner}</section>" for heading, inner in parts if inner)
    path.write_text(page("What the gate costs", lead, body), encoding="utf-8")


def _is_quick(results: Results) -> bool:
    return results.facts.get("quick") == "yes"
