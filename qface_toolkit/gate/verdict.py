"""What a check found: one finding for each figure of each artifact, in words and in numbers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from qface_toolkit.measure.time_ratio import Interval

Outcome = Literal["passed", "failed", "inconclusive", "not comparable"]
WORST_FIRST: tuple[Outcome, ...] = ("failed", "inconclusive", "not comparable", "passed")


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
class Verdict:
    """All findings of a check, what else is to be known of the comparison, and how strictly it is judged."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    strict: bool = False

    def of(self, outcome: Outcome) -> tuple[Finding, ...]:
        """Return the findings of one outcome."""
        return tuple(one for one in self.findings if one.outcome == outcome)

    @property
    def failed(self) -> bool:
        """Whether anything failed."""
        return bool(self.of("failed"))

    @property
    def inconclusive(self) -> bool:
        """Whether anything could not be told."""
        return bool(self.of("inconclusive"))

    @property
    def passed(self) -> bool:
        """Whether a job may go on: nothing failed and, if it is judged strictly, nothing could not be told."""
        return not self.failed and not (self.strict and self.inconclusive)

    @property
    def outcome(self) -> Outcome:
        """The worst that matters: a figure that is not comparable spoils no check in which others are."""
        if self.failed:
            return "failed"
        if self.inconclusive:
            return "inconclusive"
        return "passed" if self.of("passed") else "not comparable"


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with those that need somebody's attention on top."""
    return sorted(findings, key=lambda one: WORST_FIRST.index(one.outcome))
