"""The report: one HTML page that shows a run to people.

Input: a `Report` of plain data, or a run directory; output: the text of one
self-contained page. Start at `render_report` and `report_of_run`.
"""

from aqpolicy.report.collect import (
    LIMITS,
    burn_downs_of,
    footprint_table,
    heat_map_of,
    log_of,
    policy_of_source,
    report_of_run,
    run_facts,
)
from aqpolicy.report.data import (
    Bars,
    BurnDown,
    Chapter,
    Comparison,
    HeatMap,
    LogPart,
    Measured,
    PolicyPart,
    Report,
    Table,
    TraceView,
    Why,
)
from aqpolicy.report.page import content_security_policy, render_report
from aqpolicy.report.tracing import view_of_trace

__all__ = [
    "LIMITS",
    "Bars",
    "BurnDown",
    "Chapter",
    "Comparison",
    "HeatMap",
    "LogPart",
    "Measured",
    "PolicyPart",
    "Report",
    "Table",
    "TraceView",
    "Why",
    "burn_downs_of",
    "content_security_policy",
    "footprint_table",
    "heat_map_of",
    "log_of",
    "policy_of_source",
    "render_report",
    "report_of_run",
    "run_facts",
    "view_of_trace",
]
