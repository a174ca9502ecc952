"""What reviewers ask of a policy beyond proofs, and who decides what counts: style, levels, ignores.

Input: findings of the checker, the text and its tree; output: the findings that
are reported (`lint`). `find_settings` reads how strict a project wants to be. Errors
of the checker stay: neither settings nor comments silence them.
"""

from aqpolicy.lint.linter import lint
from aqpolicy.lint.settings import Settings, find_settings, parse_settings

__all__ = ["Settings", "find_settings", "lint", "parse_settings"]
