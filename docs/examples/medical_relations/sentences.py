"""Read medical sentences, and what a knowledge base, workers and an expert say of them.

Input: `gold.csv`, `units.csv` and `judgments.csv` of one folder; output: sentences with their
labels, each field checked. Nothing is invented, and nothing is repaired: a sentence whose terms
cannot be found in it is left out and counted.

Source:
    Dumitrache, Aroyo and Welty 2018, "Crowdsourcing Ground Truth for Medical Relation
    Extraction", ACM Transactions on Interactive Intelligent Systems 8(2); data DOI 10.5281/zenodo.50676.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from aqpolicy.errors import InputError

Relation = Literal["cause", "treat"]

RELATIONS: Final[tuple[Relation, ...]] = ("cause", "treat")
CITATION: Final = "Dumitrache, Aroyo and Welty 2018, ACM TiiS 8(2); data DOI 10.5281/zenodo.50676"
_SIGNS: Final = {"1": True, "1.0": True, "-1": False, "-1.0": False}


@dataclass(frozen=True, slots=True)
class Opinions:
    """What is known of one relation in one sentence; None where nobody was asked."""

    machine: bool
    """Distant supervision: whether the knowledge base holds the relation between the two terms."""
    crowd: float
    """How clearly the workers together say that the sentence expresses it, from 0 to 1."""
    expert: bool | None
    adjudicated: bool | None
    """Decided by hand where crowd and expert differ; this is what models are tested on, never taught."""
    unclear: bool
    """Adjudicated, and found to be neither."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence with two terms; `first` and `second` are where the terms stand, start and end."""

    name: str
    text: str
    first: tuple[int, int]
    second: tuple[int, int]
    workers: int
    opinions: Mapping[Relation, Opinions]


@dataclass(frozen=True, slots=True)
class Corpus:
    """All sentences, and how many were left out because their terms are not found or overlap."""

    sentences: tuple[Sentence, ...]
    left_out: int


def read_corpus(folder: Path) -> Corpus:
    """Return the sentences that have all that is needed, in the order of their names.

    Raises:
        InputError: A file is missing, lacks a column, or holds a value that it should not.
    """
    opinions = {name: _opinions(row) for name, row in _by_name(folder / "gold.csv").items()}
    workers = Counter(row["SID"] for row in _rows(folder / "judgments.csv", ("SID",)))
    sentences, left_out = [], 0
    for name, row in sorted(_by_name(folder / "units.csv").items()):
        if name not in opinions:
            continue
        places = _places(row)
        if places is None:
            left_out += 1
            continue
        sentences.append(Sentence(name, row["sentence"], *places, workers[name], opinions[name]))
    if not sentences:
        raise InputError(f"`{folder}` holds no sentence that both `units.csv` and `gold.csv` know")
    return Corpus(tuple(sentences), left_out)


_COLUMNS: Final = {
    "gold.csv": tuple(
        f"{relation}_{what}"
        for relation in RELATIONS
        for what in ("sentence_relation_score", "baseline", "expert", "test_partition")
    ),
    "units.csv": ("sentence", "term1", "b1", "term2", "b2"),
}


def _by_name(path: Path) -> dict[str, dict[str, str]]:
    """Return the first row of each sentence; `units.csv` has a second one where two spans of a term were tried."""
    rows: dict[str, dict[str, str]] = {}
    for row in _rows(path, ("SID", *_COLUMNS[path.name])):
        rows.setdefault(row["SID"], row)
    return rows


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(f"`{path}` has no column {', '.join(missing)}; is it the file that README.md names?")
            for number, row in enumerate(reader, start=2):
                if any(row[name] is None for name in columns):
                    raise InputError(f"`{path}` breaks off in line {number}; copy it again")
                yield row
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {error.strerror}; README.md says where the data comes from") from error


def _opinions(row: dict[str, str]) -> Mapping[Relation, Opinions]:
    return {relation: _opinion(row, relation) for relation in RELATIONS}


def _opinion(row: dict[str, str], relation: Relation) -> Opinions:
    score, baseline, expert, adjudicated = (row[name] for name in _COLUMNS["gold.csv"] if name.startswith(relation))
    machine = _sign(baseline, row)
    if machine is None:
        raise InputError(f"sentence {row['SID']} of `gold.csv` has no {relation}_baseline; copy the file again")
    unclear = adjudicated in {"0", "0.0"}
    return Opinions(
        machine, _score(score, row), _sign(expert, row), None if unclear else _sign(adjudicated, row), unclear
    )


def _sign(text: str, row: dict[str, str]) -> bool | None:
    if not text:
        return None
    if text not in _SIGNS:
        raise InputError(f"sentence {row['SID']} of `gold.csv` has the label `{text}`; it should be 1, -1 or empty")
    return _SIGNS[text]


def _score(text: str, row: dict[str, str]) -> float:
    try:
        score = float(text)
    except ValueError:
        score = -1.0
    if not 0 <= score <= 1:
        raise InputError(f"sentence {row['SID']} of `gold.csv` has the score `{text}`; it should be from 0 to 1")
    return score


def _places(row: dict[str, str]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Return where the two terms stand: of all places that do not overlap, those nearest to where the file says."""
    candidates = [_candidates(row, number) for number in ("1", "2")]
    pairs = [
        (away + also_away, (first, second))
        for away, first in candidates[0]
        for also_away, second in candidates[1]
        if first[1] <= second[0] or second[1] <= first[0]
    ]
    return min(pairs)[1] if pairs else None


def _candidates(row: dict[str, str], number: str) -> list[tuple[int, tuple[int, int]]]:
    """Return every place of a term, after its distance from the start that the file gives."""
    term, said = row[f"term{number}"], row[f"b{number}"]
    if not term or not said.isdecimal():
        return []
    starts = [match.start() for match in re.finditer(re.escape(term), row["sentence"])]
    return [(abs(start - int(said)), (start, start + len(term))) for start in starts]
