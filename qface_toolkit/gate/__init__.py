"""Is a model still as small, as fast and as true to its float model as the baseline: the gate of a CI job."""

from qface_toolkit.gate.baseline import Judged, check_same_model, evaluation_beside, open_baseline, open_report
from qface_toolkit.gate.budgets import Budgets, read_budgets
from qface_toolkit.gate.compare import compare
from qface_toolkit.gate.junit import to_junit
from qface_toolkit.gate.markdown import to_markdown
from qface_toolkit.gate.pages import verdict_values, write_page
from qface_toolkit.gate.terminal import render
from qface_toolkit.gate.timing import Timing
from qface_toolkit.gate.update import update_baseline
from qface_toolkit.gate.verdict import Finding, Outcome, Unchecked, Verdict
from qface_toolkit.measure.time_ratio import Interval, Ratio, growth, time_ratio

__all__ = [
    "Budgets",
    "Finding",
    "Interval",
    "Judged",
    "Outcome",
    "Ratio",
    "Timing",
    "Unchecked",
    "Verdict",
    "check_same_model",
    "compare",
    "evaluation_beside",
    "growth",
    "open_baseline",
    "open_report",
    "read_budgets",
    "render",
    "time_ratio",
    "to_junit",
    "to_markdown",
    "update_baseline",
    "verdict_values",
    "write_page",
]
