"""What was gained and what it cost: report.json is the truth, and everything a person reads is made from it.

Other rooms use what is named here, and: `report.schema` and `report.evaluation` for the blocks of report.json and
evaluation.json; `report.figures` to put a figure into words; `html`, `markdown`, `terminal` and `model_card`, which
each make one kind of page of the sections; and in a subject's own file what makes its block of a measurement.
"""

from qface_toolkit.report.evaluation import Evaluation, read_evaluation
from qface_toolkit.report.floor import misses_floor
from qface_toolkit.report.html import training_html
from qface_toolkit.report.inspection import inspection_values, render_inspection
from qface_toolkit.report.markdown import to_markdown, training_markdown
from qface_toolkit.report.schema import Report, read_report, report_bytes, write_report
from qface_toolkit.report.summary import misses_speed
from qface_toolkit.report.terminal import (
    alarms,
    render,
    render_evaluation,
    render_sensitivity,
    render_suite,
    render_training,
)
from qface_toolkit.report.training import Training, read_training, training_bytes
from qface_toolkit.report.training_card import training_card
from qface_toolkit.report.verify import render_verdicts, verdict_values

__all__ = [
    "Evaluation",
    "Report",
    "Training",
    "alarms",
    "inspection_values",
    "misses_floor",
    "misses_speed",
    "read_evaluation",
    "read_report",
    "read_training",
    "render",
    "render_evaluation",
    "render_inspection",
    "render_sensitivity",
    "render_suite",
    "render_training",
    "render_verdicts",
    "report_bytes",
    "to_markdown",
    "training_bytes",
    "training_card",
    "training_html",
    "training_markdown",
    "verdict_values",
    "write_report",
]
