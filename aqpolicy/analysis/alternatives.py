"""Named formulas of which one must be true, and the same without any one of them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from aqpolicy.space import FALSE, Formula, either


class Alternatives:
    """Formulas by name; once some were left out, to leave out others costs no more than to join two."""

    def __init__(self, named: Iterable[tuple[str, Formula]]) -> None:
        """Formulas of one name stand together."""
        pairs = list(named)
        self._names = [name for name, _ in pairs]
        self._formulas = [formula for _, formula in pairs]
        self._left_out = 0

    @cached_property
    def some(self) -> Formula:
        """Say that one of them is true."""
        return either(*self._formulas)

    def without(self, name: str) -> Formula:
        """Say that one of them is true that has another name."""
        if name not in self._places:
            return self.some
        first, last = self._places[name]
        self._left_out += 1
        if self._left_out == 1:
            return either(*self._formulas[:first], *self._formulas[last + 1 :])
        return either(self._before[first], self._after[last + 1])

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """The first and the last place of each name."""
        places: dict[str, tuple[int, int]] = {}
        for place, name in enumerate(self._names):
            places[name] = (places.get(name, (place, place))[0], place)
        return places

    @cached_property
    def _before(self) -> list[Formula]:
        return _joined(self._formulas)

    @cached_property
    def _after(self) -> list[Formula]:
        return _joined(self._formulas[::-1])[::-1]


def _joined(formulas: list[Formula]) -> list[Formula]:
    """Return what the first none, one, two, ... of the formulas say together."""
    steps: list[Formula] = [FALSE]
    for formula in formulas:
        steps.append(either(steps[-1], formula))
    return steps
