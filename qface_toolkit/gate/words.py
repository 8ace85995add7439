"""A finding's figures as every page shows them: the terminal, Markdown and nobody else say other things."""

from qface_toolkit.gate.verdict import Finding, Outcome, Verdict
from qface_toolkit.report._figures import NOTHING

MARKS: dict[Outcome, str] = {"passed": "ok", "failed": "FAILED", "inconclusive": "unsure", "not comparable": "skipped"}


def shown(finding: Finding) -> tuple[str, str, str]:
    """Return measured, baseline and allowed for a table."""
    figure = finding.figure
    found = (finding.measured, finding.baseline, finding.allowed)
    return tuple(NOTHING if value is None else _number(value, figure) for value in found)  # type: ignore[return-value]  # three in, three out


def _number(value: float, figure: str) -> str:
    if figure == "size_bytes":
        return f"{int(value + 1e-6):,}"
    if figure == "latency_ratio":
        return f"{value:.3f}"
    return f"{value:.5f}" if isinstance(value, float) else str(value)


def mark(finding: Finding) -> str:
    """Return the outcome in one word."""
    return "better" if finding.improved and finding.outcome == "passed" else MARKS[finding.outcome]


def headline(verdict: Verdict) -> str:
    """Return one sentence: what came out."""
    failed, unsure, skipped = (len(verdict.of(one)) for one in ("failed", "inconclusive", "not comparable"))
    passed = len(verdict.of("passed"))
    parts = [f"{passed} of {len(verdict.findings)} figures are within their budgets"]
    parts += [f"{failed} {'is' if failed == 1 else 'are'} not"] if failed else []
    parts += [f"{unsure} could not be told from noise"] if unsure else []
    parts += [f"{skipped} could not be compared"] if skipped else []
    head = {"failed": "FAILED", "inconclusive": "INCONCLUSIVE", "passed": "PASSED", "not comparable": "NOT COMPARABLE"}
    better = len([one for one in verdict.findings if one.improved and one.outcome == "passed"])
    return f"{head[verdict.outcome]}: {', '.join(parts)}{f'; {better} improved' if better else ''}."
