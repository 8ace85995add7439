"""Is a model still as small, as fast and as true to its float model as the baseline: the gate of a CI job."""

from qface_toolkit.check.baseline import Judged, check_same_model, open_baseline, open_report, update_baseline
from qface_toolkit.check.budgets import Budgets, read_budgets
from qface_toolkit.check.compare import compare
from qface_toolkit.check.junit import to_junit
from qface_toolkit.check.latency import Ratio, growth, time_ratio
from qface_toolkit.check.markdown import to_markdown
from qface_toolkit.check.pages import verdict_values, write_page
from qface_toolkit.check.terminal import render
from qface_toolkit.check.timing import Timing
from qface_toolkit.check.verdict import Finding, Interval, Outcome, Verdict

__all__ = [
    "Budgets",
    "Finding",
    "Interval",
    "Judged",
    "Outcome",
    "Ratio",
    "Timing",
    "Verdict",
    "check_same_model",
    "compare",
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
