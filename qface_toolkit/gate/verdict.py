"""What a check found: one finding for each figure of each artifact, in words and in numbers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from qface_toolkit.measure.time_ratio import Interval

Outcome = Literal["passed", "failed", "inconclusive", "not comparable", "not looked at"]
WORST_FIRST: tuple[Outcome, ...] = ("failed", "inconclusive", "not looked at", "not comparable", "passed")


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


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with those that need attention on top."""
    return sorted(findings, key=lambda one: WORST_FIRST.index(one.outcome))
