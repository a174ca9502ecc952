"""What authors are told: spans, diagnostics, codes, and how they are drawn.

Input: a source text and findings about it; output: text for a terminal, or data.
A diagnostic never carries colour or layout; `render` adds both.
"""

from aqpolicy.diagnostics.diagnostic import Diagnostic, Label, Severity, Source, Span

__all__ = ["Diagnostic", "Label", "Severity", "Source", "Span"]
