"""What was gained and what it cost: report.json is the truth, and everything a person reads is made from it."""

from qface_toolkit.report.inspection import inspection_values, render_inspection
from qface_toolkit.report.markdown import to_markdown
from qface_toolkit.report.schema import Report, read_report, write_report
from qface_toolkit.report.terminal import render

__all__ = [
    "Report",
    "inspection_values",
    "read_report",
    "render",
    "render_inspection",
    "to_markdown",
    "write_report",
]
