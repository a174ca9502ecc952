"""What authors are told: spans, diagnostics, codes, and how they are drawn.

Input: a source text and findings about it; output: text for a terminal, or data.
A diagnostic never carries colour or layout; `render` adds both.
"""

from aqpolicy.diagnostics.codes import CODES, Code
from aqpolicy.diagnostics.diagnostic import Diagnostic, Label, Severity, Source, Span
from aqpolicy.diagnostics.render import render, render_all, wants_color
from aqpolicy.diagnostics.suggest import closest, did_you_mean

__all__ = [
    "CODES",
    "Code",
    "Diagnostic",
    "Label",
    "Severity",
    "Source",
    "Span",
    "closest",
    "did_you_mean",
    "render",
    "render_all",
    "wants_color",
]
