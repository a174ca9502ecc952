"""Give each finding a name that stays when lines move, so that tools recognise it in the next run.

It covers code, file, message and witness. Findings that agree in all of these are
numbered in their order.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable

from aqpolicy.diagnostics.diagnostic import Diagnostic


def fingerprints(findings: Iterable[Diagnostic]) -> tuple[str, ...]:
    """Return a distinct fingerprint for each finding: 64 hexadecimal digits."""
    seen: Counter[str] = Counter()
    found = []
    for finding in findings:
        said = _said(finding)
        found.append(hashlib.sha256(f"{said}\n{seen[said] or ''}".encode()).hexdigest())
        seen[said] += 1
    return tuple(found)


def _said(finding: Diagnostic) -> str:
    file = finding.labels[0].span.file.replace("\\", "/").removeprefix("./") if finding.labels else None
    # JSON keeps the parts apart, and is ASCII whatever they hold.
    return json.dumps([finding.code, file, finding.message, dict(finding.witness or {})], sort_keys=True)
