"""Everything that happens to findings between the checker and their reader, in one order.

checker's findings + style -> levels of the settings -> ignore directives -> sorted by place
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date

from aqpolicy.diagnostics import Diagnostic, Source
from aqpolicy.diagnostics.levels import may_change
from aqpolicy.lint.ignores import expired, read_directives, silence, unused
from aqpolicy.lint.settings import Level, Settings
from aqpolicy.lint.style import style
from aqpolicy.syntax import Tree

_LAST_INCOMPLETE = "AQ300"
"""An error up to this code means that questions were not asked or not answered."""


def lint(
    tree: Tree | None, source: Source, findings: Sequence[Diagnostic], settings: Settings, today: date
) -> tuple[Diagnostic, ...]:
    """Return what is reported of one policy.

    Args:
        tree: The tree of the file, None where it has none.
        source: The file itself; only its own comments silence, and only findings in it.
        findings: What the checker found.
        settings: Their `levels` are applied.
        today: The day that directives with a date are measured against.
    """
    remarks = style(tree) if tree is not None else ()
    judged = tuple(leveled((*findings, *remarks), settings.levels))
    directives, malformed = read_directives(source)
    standing, used = silence(judged, directives, today)
    own = [*malformed, *expired(directives, today)]
    if not any(each.severity == "error" and each.code <= _LAST_INCOMPLETE for each in findings):
        own += unused(directives, used, standing, today)
    return tuple(sorted((*standing, *leveled(own, settings.levels)), key=lambda each: _place(each, source)))


def leveled(findings: Iterable[Diagnostic], levels: Mapping[str, Level]) -> Iterator[Diagnostic]:
    """Yield findings at the levels that a project wants, without those that it ignores; errors stay errors."""
    for finding in findings:
        level = levels.get(finding.code) if may_change(finding) else None
        if level is None:
            yield finding
        elif level != "ignore":
            yield replace(finding, severity=level)


def _place(finding: Diagnostic, source: Source) -> tuple[bool, str, int, str]:
    """Sort by place: the file itself first, then what it imports; findings of one code and place stay as found."""
    if not finding.labels:
        return False, "", 0, finding.code
    span = finding.labels[0].span
    return span.file != source.name, span.file, span.start, finding.code
