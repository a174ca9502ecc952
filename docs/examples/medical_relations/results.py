"""Results as a file, and as the tables that README.md shows; every number of a table comes from the file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Final

from experiment import ARMS, Arm, Job, Outcome, Scale
from sentences import RELATIONS, Relation

from aqpolicy.errors import InputError

FORMAT: Final = "medical relations 1"
BEGIN: Final = "<!-- results: written by run.py --publish, from results.json -->"
END: Final = "<!-- end of results -->"
_STUDENT: Final = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""By how many standard errors a 95 % interval of so many differences reaches to each side."""
_MEASURES: Final = (("f1", "F1"), ("accuracy", "accuracy"), ("area", "AUC"))

Written = Mapping[str, Mapping[str, float]]
"""Per source, the part of each depth group's admitted mass that it wrote."""


@dataclass(frozen=True, slots=True)
class Results:
    """What one call of `run.py` found out."""

    scale: Scale
    outcomes: tuple[Outcome, ...]
    written: Mapping[Relation, Written]
    """What the logged governed runs say, after an audit of every row."""
    seconds: float
    versions: Mapping[str, str]

    def to_json(self) -> str:
        """Return the text of the file."""
        runs = [
            {**asdict(outcome.job), **{key: round(value, 6) for key, value in asdict(outcome).items() if key != "job"}}
            for outcome in sorted(self.outcomes, key=lambda outcome: (*asdict(outcome.job).values(),))
        ]
        record = {
            "format": FORMAT,
            "scale": asdict(self.scale),
            "seconds": round(self.seconds),
            "versions": self.versions,
            "runs": runs,
            "written": self.written,
        }
        return json.dumps(record, indent=1) + "\n"


def read_results(path: Path) -> Results:
    """Return what a file of results says.

    Raises:
        InputError: It is no such file.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise InputError(f"`{path}` has the format `{record['format']}`; this version reads `{FORMAT}`")
        outcomes = tuple(_outcome(run) for run in record["runs"])
        scale = Scale(**record["scale"])
        return Results(scale, outcomes, record["written"], record["seconds"], record["versions"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read results from `{path}`: {error}; make them with run.py") from error


def _outcome(run: dict[str, Any]) -> Outcome:
    job = Job(run.pop("relation"), run.pop("arm"), run.pop("seed"))
    return Outcome(job, **run)


def page(results: Results) -> str:
    """Return all tables, as Markdown."""
    return "\n\n".join([_facts(results), *(_table(results, relation) for relation in RELATIONS), _written(results)])


def publish(results: Results, readme: Path) -> None:
    """Replace the tables between the two marks of a page."""
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"`{readme}` has lost the marks between which results stand; put them back")
    readme.write_text(f"{before}{begin}\n\n{page(results)}\n\n{end}{after}", encoding="utf-8")


def _facts(results: Results) -> str:
    scale, versions = results.scale, ", ".join(f"{name} {number}" for name, number in results.versions.items())
    tested = {outcome.job.relation: outcome.tested for outcome in results.outcomes}
    return (
        f"{scale.seeds} seeds; {scale.steps} steps of 16 labels in every training; labels of {scale.reviewed} reviewed"
        f" and {scale.unreviewed} other sentences; tested on "
        + " and ".join(f"{count} adjudicated sentences ({relation})" for relation, count in sorted(tested.items()))
        + f". {len(results.outcomes)} trainings in {results.seconds / 60:.0f} minutes; {versions}."
    )


def _table(results: Results, relation: Relation) -> str:
    rows = [
        [f"**{relation}**", "labels", *(title for _, title in _MEASURES), "governed less this: F1", "AUC"],
        ["---"] * 7,
    ]
    governed = _series(results, relation, "governed")
    for arm, title in ARMS.items():
        own = _series(results, relation, arm)
        if not own:
            continue
        cells = [_mean(value(outcome, name) for outcome in own) for name, _ in _MEASURES]
        differences = ["", ""] if arm == "governed" else [_difference(governed, own, name) for name in ("f1", "area")]
        rows.append([title, str(round(mean(outcome.labels for outcome in own))), *cells, *differences])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def value(outcome: Outcome, name: str) -> float:
    """Return one measure of an outcome."""
    return float(getattr(outcome, name))


def _series(results: Results, relation: Relation, arm: Arm) -> list[Outcome]:
    """Return the outcomes of one arm in the order of their seeds."""
    chosen = [outcome for outcome in results.outcomes if (outcome.job.relation, outcome.job.arm) == (relation, arm)]
    return sorted(chosen, key=lambda outcome: outcome.job.seed)


def _mean(values: Iterable[float]) -> str:
    known = list(values)
    return f"{mean(known):.3f}" + (f" ± {stdev(known):.3f}" if len(known) > 1 else "")


def _difference(one: Sequence[Outcome], other: Sequence[Outcome], name: str) -> str:
    """Return the mean difference over the seeds that both have, with its 95 % interval."""
    others = {outcome.job.seed: value(outcome, name) for outcome in other}
    differences = [value(outcome, name) - others[outcome.job.seed] for outcome in one if outcome.job.seed in others]
    if len(differences) not in _STUDENT:
        return f"{mean(differences):+.3f}" if differences else ""
    reach = _STUDENT[len(differences)] * stdev(differences) / len(differences) ** 0.5
    return f"{mean(differences):+.3f} ({mean(differences) - reach:+.3f} to {mean(differences) + reach:+.3f})"


def _written(results: Results) -> str:
    groups = next(iter(next(iter(results.written.values())).values())).keys() if results.written else ()
    rows = [["who wrote, governed", *groups], ["---"] * (1 + len(groups))]
    for relation, sources in results.written.items():
        rows += [
            [f"{relation}: {source}", *(f"{100 * part:.0f} %" if part else "0" for part in parts.values())]
            for source, parts in sources.items()
        ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
