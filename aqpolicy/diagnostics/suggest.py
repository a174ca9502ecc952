"""Find the name that an author probably meant."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 64
"""Longer words are not compared; nobody mistypes them by a letter or two."""


def closest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate within a third of the word's length in edits, or None; ties go to the first by name."""
    if len(word) > _LONGEST:
        return None
    reach = max(1, len(word) // 3)
    scored = sorted((edit_distance(word.lower(), c.lower()), c) for c in set(candidates) if len(c) <= _LONGEST)
    return scored[0][1] if scored and scored[0][0] <= reach else None


def did_you_mean(word: str, candidates: Iterable[str]) -> tuple[str, ...]:
    """Return the help line for a mistyped word; nothing where no candidate is close."""
    found = closest(word, candidates)
    return (f"did you mean `{found}`?",) if found else ()


def edit_distance(left: str, right: str) -> int:
    """Return the number of insertions, deletions, replacements and swaps of neighbours between two words.

    Source:
        Damerau 1964; the restricted ("optimal string alignment") form.
    """
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        earlier, before, row = before, row, [i]
        for j, b in enumerate(right, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
    return row[-1]
