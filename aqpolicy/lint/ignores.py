"""Read `# aqpolicy: ignore[AQ312] reason="..." until=2026-12-31` and apply it.

A directive silences warnings and notes, never an error: of the codes that it names, on
the line that its comment speaks for, in its own file, up to and including its date. It
has to give a reason. One that is malformed, expired or silences nothing is a finding
itself, which no directive silences.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from aqpolicy.diagnostics import CODES, Diagnostic, Label, Source, Span, did_you_mean
from aqpolicy.lint.comments import Comment, comments

FORM: Final = '# aqpolicy: ignore[AQ312] reason="why this is right" until=2026-12-31'

_DIRECTIVE: Final = re.compile(r"#\s*aqpolicy\s*:")
_IGNORE: Final = re.compile(r"#\s*aqpolicy\s*:\s*ignore\s*\[([^\]]*)\]")
_FIELD: Final = re.compile(r'\s+(?:(reason)="([^"]*)"|(until)=(\S*))')
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True, slots=True)
class Directive:
    """One well-formed directive: the codes as written, the line it speaks for, and its last day."""

    codes: tuple[tuple[str, Span], ...]
    until: date | None
    target: int
    span: Span

    def is_expired(self, today: date) -> bool:
        """Say whether its last day has passed."""
        return self.until is not None and self.until < today

    def silences(self, finding: Diagnostic) -> bool:
        """Say whether a finding is a warning or note of one of its codes on its line."""
        return finding.severity != "error" and self._names(finding)

    def meets_error(self, code: str, findings: Iterable[Diagnostic]) -> bool:
        """Say whether an error of a code stands on its line."""
        return any(each.severity == "error" and each.code == code and self._names(each) for each in findings)

    def _names(self, finding: Diagnostic) -> bool:
        if not finding.labels or finding.code not in {code for code, _ in self.codes}:
            return False
        span = finding.labels[0].span
        return (span.file, span.line) == (self.span.file, self.target)


class _MalformedError(Exception):
    """A directive says something that no directive says."""

    def __init__(self, message: str, span: Span, advice: tuple[str, ...] = ()) -> None:
        self.finding = Diagnostic(
            "AQ403", "error", message, (Label(span, "silences nothing"),), help=(*advice, f"write `{FORM}`")
        )


def read_directives(source: Source) -> tuple[tuple[Directive, ...], tuple[Diagnostic, ...]]:
    """Return the directives of a text, and what is wrong with those that are malformed (AQ403)."""
    directives, malformed = [], []
    for comment in comments(source):
        if _DIRECTIVE.match(comment.text):
            try:
                directives.append(_directive(comment))
            except _MalformedError as error:
                malformed.append(error.finding)
    return tuple(directives), tuple(malformed)


def silence(
    findings: Sequence[Diagnostic], directives: Sequence[Directive], today: date
) -> tuple[tuple[Diagnostic, ...], frozenset[tuple[Directive, str]]]:
    """Return the findings that stand, and which code of which directive silenced something."""
    by_target: dict[int, list[Directive]] = {}
    for directive in directives:
        if not directive.is_expired(today):
            by_target.setdefault(directive.target, []).append(directive)
    standing, used = [], set()
    for finding in findings:
        line = finding.labels[0].span.line if finding.labels else 0
        by = [directive for directive in by_target.get(line, ()) if directive.silences(finding)]
        used |= {(directive, finding.code) for directive in by}
        if not by:
            standing.append(finding)
    return tuple(standing), frozenset(used)


def expired(directives: Iterable[Directive], today: date) -> Iterator[Diagnostic]:
    """Yield a warning for each directive whose last day has passed (AQ404)."""
    for directive in directives:
        if directive.is_expired(today):
            yield Diagnostic(
                "AQ404",
                "warning",
                f"this directive was good until {directive.until} and silences nothing any more",
                (Label(directive.span, "expired"),),
                help=("mend what it silenced, or give a later date and a reason that still holds",),
            )


def unused(
    directives: Iterable[Directive],
    used: frozenset[tuple[Directive, str]],
    findings: Sequence[Diagnostic],
    today: date,
) -> Iterator[Diagnostic]:
    """Yield a warning for each code of a directive that silences nothing (AQ405).

    Args:
        directives: All directives.
        used: What `silence` found at work.
        findings: What stands: an error of the same code is named as the cause.
        today: Expired directives are not reported again.
    """
    for directive in directives:
        for code, span in () if directive.is_expired(today) else directive.codes:
            if (directive, code) not in used:
                met = directive.meets_error(code, findings)
                notes = (f"the {code} here is an error, and errors are never silenced",) if met else ()
                message = f"`ignore[{code}]` silences nothing"
                advice = "mend the error and delete the directive" if met else "delete it"
                label = Label(span, "an error of this code stands" if met else _nothing(directive, code))
                yield Diagnostic("AQ405", "warning", message, (label,), notes, (advice,))


def _nothing(directive: Directive, code: str) -> str:
    if not directive.target:
        return "no line follows for it to speak for"
    return f"no warning {code} on line {directive.target}"


def _directive(comment: Comment) -> Directive:
    """Read one comment.

    Raises:
        _MalformedError: It is no directive that can be followed.
    """
    head = _IGNORE.match(comment.text)
    if head is None:
        raise _MalformedError("this is not a directive that aqpolicy knows", comment.span)
    fields = _fields(comment, head.end())
    codes = tuple(_codes(comment, head))
    if not codes:
        raise _MalformedError("the directive names no code", comment.span)
    if not fields.get("reason", "").strip():
        raise _MalformedError("the directive gives no reason", comment.span)
    return Directive(codes, _day(fields["until"], comment) if "until" in fields else None, comment.target, comment.span)


def _fields(comment: Comment, at: int) -> dict[str, str]:
    """Read `reason="..."` and `until=...`, in either order, each at most once."""
    fields: dict[str, str] = {}
    while match := _FIELD.match(comment.text, at):
        name, value = (match[1], match[2]) if match[1] else (match[3], match[4])
        if name in fields:
            raise _MalformedError(f"`{name}` stands twice", comment.span)
        fields[name] = value
        at = match.end()
    if rest := comment.text[at:].strip():
        raise _MalformedError(f"`{rest[:40]}` is not understood here", comment.span)
    return fields


def _codes(comment: Comment, head: re.Match[str]) -> Iterator[tuple[str, Span]]:
    for match in re.finditer(r"[^,\s]+", head[1]):
        at, code = head.start(1) + match.start(), match[0]
        whole = comment.span
        span = Span(whole.file, whole.start + at, whole.start + at + len(code), whole.line, whole.column + at)
        if code not in CODES:
            raise _MalformedError(f"`{code}` is not the code of a finding", span, did_you_mean(code, CODES))
        yield code, span


def _day(text: str, comment: Comment) -> date:
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise _MalformedError(f"`{text}` is not a date", comment.span, ("a date is written 2026-12-31",))
