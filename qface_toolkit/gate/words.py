"""What came out, in words and figures: every page says them alike, and names what was not compared before all else."""

from collections.abc import Iterator

from qface_toolkit.gate.verdict import Finding, Outcome, Verdict, worst_first
from qface_toolkit.report._figures import NOTHING

MARKS: dict[Outcome, str] = {
    "passed": "ok",
    "failed": "FAILED",
    "inconclusive": "unsure",
    "not comparable": "skipped",
    "not looked at": "skipped",
}


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
    """Return one sentence: what came out, of how many figures, and how many were not compared."""
    failed, passed = len(verdict.of("failed")), verdict.of("passed")
    within = f"{failed} failed" if failed else "all within their budgets"
    parts = [f"{verdict.compared} of {len(verdict.findings)} figures compared", within]
    unsure = len(verdict.of("inconclusive"))
    unseen = len(verdict.skipped) - unsure
    parts += [f"{unsure} could not be told from noise"] if unsure else []
    parts += [f"{unseen} not looked at"] if unseen and verdict.outcome != "passed" else []
    better = len([one for one in passed if one.improved])
    parts += [f"{better} improved"] if better else []
    return f"{_head(verdict, unseen)}: {', '.join(parts)}."


def _head(verdict: Verdict, unseen: int) -> str:
    if verdict.failed:
        return "FAILED" if verdict.of("failed") else "FAILED, as nothing may be skipped" if verdict.strict else "FAILED"
    if verdict.inconclusive:
        return "INCONCLUSIVE"
    if not unseen:
        return "PASSED"
    return f"PASSED, BUT {unseen} {'FIGURE WAS' if unseen == 1 else 'FIGURES WERE'} NOT LOOKED AT"


def exceptions(verdict: Verdict) -> Iterator[tuple[Finding, str]]:
    """Return a sentence for all findings that did not pass for one reason, the worst first, with one of them."""
    alike: dict[tuple[Outcome, str], list[Finding]] = {}
    for one in worst_first(verdict.findings):
        if one.outcome != "passed":
            alike.setdefault((one.outcome, one.said), []).append(one)
    for (_, said), found in alike.items():
        names = dict.fromkeys(one.artifact for one in found)
        yield found[0], f"{', '.join(names)}: {said}"


def unchecked(verdict: Verdict) -> list[str]:
    """Return what no check was asked for, and why."""
    return [f"{one.what} ({one.why})" for one in verdict.unchecked]
