"""What a check found: one finding for each figure of each artifact, in numbers and in words.

Every page says them alike, and names what was not compared before all else.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from qface_toolkit.report.figures import NOTHING
from qface_toolkit.runtimes.time_ratio import Interval

LEAST = 1e-9
"""What float arithmetic may add to a difference that is just within its budget."""
Outcome = Literal["passed", "failed", "inconclusive", "not comparable", "not looked at"]
WORST_FIRST: tuple[Outcome, ...] = ("failed", "inconclusive", "not looked at", "not comparable", "passed")
MARKS: dict[Outcome, str] = {
    "passed": "ok",
    "failed": "FAILED",
    "inconclusive": "unsure",
    "not comparable": "skipped",
    "not looked at": "skipped",
}


@dataclass(frozen=True)
class Finding:
    """One figure of one artifact against the baseline's.

    `allowed` is the worst value that passes, in the figure's own unit. `change` has the interval of a latency's change,
    as a share. `said` is one sentence.
    """

    artifact: str
    figure: str
    outcome: Outcome
    said: str
    measured: float | None = None
    baseline: float | None = None
    allowed: float | None = None
    change: Interval | None = None
    improved: bool = False


@dataclass(frozen=True)
class Unchecked:
    """What no check was asked for, and why: a budget of null, or a figure that neither report has."""

    what: str
    why: str


@dataclass(frozen=True)
class Verdict:
    """All findings of a check, and what else is to be known of the comparison.

    With `strict`, a figure that was not compared fails as one over its budget does; what is `unchecked` never does.
    """

    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    unchecked: tuple[Unchecked, ...] = ()
    strict: bool = False

    def of(self, outcome: Outcome) -> tuple[Finding, ...]:
        """Return the findings of one outcome."""
        return tuple(one for one in self.findings if one.outcome == outcome)

    @property
    def compared(self) -> int:
        """How many figures were compared with the baseline's."""
        return len(self.of("passed")) + len(self.of("failed"))

    @property
    def skipped(self) -> tuple[Finding, ...]:
        """The findings on figures that were not compared, or could not be told from noise."""
        return tuple(one for one in self.findings if one.outcome not in ("passed", "failed"))

    @property
    def failed(self) -> bool:
        """Whether a job must stop: a figure is over its budget, was skipped though strict, or none was compared."""
        skipped = self.strict and bool(self.skipped)
        return bool(self.of("failed")) or skipped or not (self.compared or self.inconclusive)

    @property
    def inconclusive(self) -> bool:
        """Whether anything could not be told from noise."""
        return bool(self.of("inconclusive"))

    @property
    def passed(self) -> bool:
        """Whether a job may go on."""
        return not self.failed

    @property
    def outcome(self) -> Literal["passed", "failed", "inconclusive"]:
        """The worst that matters: a figure that is not comparable spoils no check that is not strict."""
        if self.failed:
            return "failed"
        return "inconclusive" if self.inconclusive else "passed"


def fallen(name: str, figure: str, now: float, before: float, budget: float) -> Finding:
    """Return the finding on a figure that should be high and may fall by so much."""
    allowed = before - budget
    fine = now >= allowed - LEAST
    moved = f"{abs(now - before):.5f} {'lower' if now < before else 'higher'}"
    compared = "as in the baseline" if now == before else f"{moved} than the baseline's {before:.5f}"
    ending = f"; {budget:g} lower is allowed" if now < before else ""
    said = f"{figure} {now:.5f}, {compared}{ending}"
    return Finding(
        name, figure, "passed" if fine else "failed", said, now, before, allowed, improved=now > before + LEAST
    )


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with those that need attention on top."""
    return sorted(findings, key=lambda one: WORST_FIRST.index(one.outcome))


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
