"""What authors are told: spans, diagnostics, codes, and how they are drawn.

Input: source texts and findings about them; output: text for a terminal (`render_all`)
or one of the documents in `formats`. A diagnostic never carries colour or layout.
"""

from aqpolicy.diagnostics.codes import CODES, Code
from aqpolicy.diagnostics.diagnostic import Diagnostic, Label, Severity, Source, Span
from aqpolicy.diagnostics.place import Sources
from aqpolicy.diagnostics.render import render, render_all, wants_color
from aqpolicy.diagnostics.suggest import closest, did_you_mean

__all__ = [
    "CODES",
    "Code",
    "Diagnostic",
    "Label",
    "Severity",
    "Source",
    "Sources",
    "Span",
    "closest",
    "did_you_mean",
    "render",
    "render_all",
    "wants_color",
]
