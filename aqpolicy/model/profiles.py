"""Resolve profiles: shares by name, stretches of one share with or without tapered ends, and linear ramps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aqpolicy.diagnostics import Label
from aqpolicy.model.numbers import to_amplified, to_count, to_share
from aqpolicy.model.policy import Profile
from aqpolicy.model.problems import Names, Problems
from aqpolicy.model.vocabulary import resolve_groups
from aqpolicy.syntax import tree as t


def resolve_profile(decl: t.ProfileDecl, groups: Names[int], problems: Problems) -> Profile:
    """Return the profile; a group that it does not name has share 0."""
    portions = _Portions(groups, problems)
    shares: dict[int, int] = {}
    for portion in decl.portions:
        for position, share in portions.shares(portion):
            if position in shares:
                message = f"profile `{decl.name.text}` gives `{groups.names()[position]}` two shares"
                problems.add("AQ202", message, Label(portion.span, "a second share"), Label(decl.name.span, "in here"))
            shares.setdefault(position, share)
    if not decl.portions:
        problems.add("AQ219", f"profile `{decl.name.text}` names no group", Label(decl.span, "no share in here"))
    return Profile(decl.name.text, tuple(shares.get(at, 0) for at in range(len(groups.names()))), decl.name.span)


@dataclass(frozen=True, slots=True)
class _Portions:
    """Turns what a profile's author wrote into a share for each group by its position."""

    groups: Names[int]
    problems: Problems

    def shares(self, portion: t.Portions) -> Iterator[tuple[int, int]]:
        match portion:
            case t.Portion():
                yield from self._named(portion)
            case t.Stretch():
                yield from self._stretch(portion)
            case t.Ramp():
                yield from self._ramp(portion)

    def _named(self, portion: t.Portion) -> Iterator[tuple[int, int]]:
        read = to_amplified if portion.amplified else to_share
        share = read(portion.share, self.problems) or 0
        named = t.Groups(None if portion.group is None else (portion.group,), portion.span)
        for name in resolve_groups(named, self.groups, self.problems):
            yield self.groups.names().index(name), share

    def _stretch(self, portion: t.Stretch) -> Iterator[tuple[int, int]]:
        """Yield the share from one group to another, and what falls off linearly beyond both ends."""
        ends, share = self._ends(portion.first, portion.last), to_share(portion.share, self.problems)
        over = 0 if portion.taper is None else to_count(portion.taper, "number of groups", self.problems)
        if ends is None or share is None or over is None:
            return
        low, high = ends
        for position in range(len(self.groups.names())):
            beyond = max(low - position, position - high, 0)
            if beyond <= over:
                yield position, share * (over + 1 - beyond) // (over + 1)

    def _ramp(self, portion: t.Ramp) -> Iterator[tuple[int, int]]:
        ends = self._ends(portion.first, portion.last)
        start, end = to_share(portion.start, self.problems), to_share(portion.end, self.problems)
        if ends is None or start is None or end is None:
            return
        low, high = ends
        for position in range(low, high + 1):
            yield position, start + (end - start) * (position - low) // max(high - low, 1)

    def _ends(self, first: t.Word, last: t.Word) -> tuple[int, int] | None:
        """Return the positions of two groups, which must stand in the order of depth."""
        low, high = self.groups.look_up(first), self.groups.look_up(last)
        if low is None or high is None:
            return None
        if low > high:
            labels = (Label(first.span, "stands deeper"), Label(last.span, "than this one"))
            advice = (f"write `{last.text}` first",)
            self.problems.add("AQ219", f"no group lies from `{first.text}` to `{last.text}`", *labels, help=advice)
            return None
        return low, high
