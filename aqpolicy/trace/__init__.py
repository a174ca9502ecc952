"""Behaviour to updates to annotators, and back: audits, footprints and attribution of finished runs.

Input: a run's folder and a keyring; output: an `AuditReport`, a `Footprint`, or
a `Trace`. Start at `audit_run`, `open_run` and `footprint`; behaviours are
traced by `aqpolicy.trace.query.trace_behaviour`, which alone needs torch and is
therefore not imported here.
"""

from aqpolicy.trace.auditing.audit import AuditReport, audit, audit_run
from aqpolicy.trace.footprint import Footprint, GroupPart, SourceVisit, footprint
from aqpolicy.trace.run import Run, open_run

__all__ = ["AuditReport", "Footprint", "GroupPart", "Run", "SourceVisit", "audit", "audit_run", "footprint", "open_run"]
