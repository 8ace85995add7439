"""What was gained and what it cost: report.json is the truth, and everything a person reads is made from it."""

from qface_toolkit.report._evaluation import Evaluation, read_evaluation
from qface_toolkit.report.evaluation import alarms, render_evaluation, render_suite
from qface_toolkit.report.inspection import inspection_values, render_inspection
from qface_toolkit.report.markdown import to_markdown
from qface_toolkit.report.schema import Report, read_report, report_bytes, write_report
from qface_toolkit.report.sensitivity import render_sensitivity
from qface_toolkit.report.terminal import render
from qface_toolkit.report.verdicts import render_verdicts, verdict_values

__all__ = [
    "Evaluation",
    "Report",
    "alarms",
    "inspection_values",
    "read_evaluation",
    "read_report",
    "render",
    "render_evaluation",
    "render_inspection",
    "render_sensitivity",
    "render_suite",
    "render_verdicts",
    "to_markdown",
    "verdict_values",
    "report_bytes",
    "write_report",
]
