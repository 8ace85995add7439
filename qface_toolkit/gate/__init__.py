"""Is a model still as small, as fast and as true to its float model as the baseline: the gate of a CI job."""

from qface_toolkit.gate.baseline import (
    OpenedReport,
    check_same_model,
    evaluation_beside,
    open_baseline,
    open_report,
    update_baseline,
)
from qface_toolkit.gate.budgets import Budgets, read_budgets
from qface_toolkit.gate.compare import compare
from qface_toolkit.gate.latency import Timing
from qface_toolkit.gate.pages import render, to_junit, to_markdown, verdict_values, write_page
from qface_toolkit.gate.verdict import Finding, Outcome, Unchecked, Verdict

__all__ = [
    "Budgets",
    "Finding",
    "OpenedReport",
    "Outcome",
    "Timing",
    "Unchecked",
    "Verdict",
    "check_same_model",
    "compare",
    "evaluation_beside",
    "open_baseline",
    "open_report",
    "read_budgets",
    "render",
    "to_junit",
    "to_markdown",
    "update_baseline",
    "verdict_values",
    "write_page",
]
