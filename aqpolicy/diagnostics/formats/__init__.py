"""The formats of `--format`: each turns findings, and the sources they are about, into one document.

Input: findings and every source that was read, clean ones too; output: text without
colour and without a trailing newline, the same for the same input, possibly empty.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from aqpolicy.diagnostics.diagnostic import Diagnostic, Source
from aqpolicy.diagnostics.formats import concise, github, gitlab, json_report, junit, sarif
from aqpolicy.diagnostics.render import render_all

Format = Callable[[Sequence[Diagnostic], Sequence[Source]], str]

FORMATS: Final[Mapping[str, Format]] = MappingProxyType(
    {
        "full": render_all,
        "concise": concise.report,
        "json": json_report.report,
        "sarif": sarif.report,
        "junit": junit.report,
        "github": github.report,
        "gitlab": gitlab.report,
    }
)
"""Every format by its name."""

FOR_PEOPLE: Final = frozenset(("full", "concise"))
"""Formats that other lines may stand beside; the others are documents of their own."""

__all__ = ["FORMATS", "FOR_PEOPLE", "Format"]
