"""Compare a report with its baseline, figure by figure, and say of each what was found, in one sentence."""

from collections.abc import Iterator
from dataclasses import dataclass

from qface_toolkit.gate._accuracy import accuracy_findings
from qface_toolkit.gate._figures import agreement, layers, operators, size
from qface_toolkit.gate._latency import latency_finding
from qface_toolkit.gate.baseline import Judged, check_same_model
from qface_toolkit.gate.budgets import Budgets
from qface_toolkit.gate.timing import Timing, recorded
from qface_toolkit.gate.verdict import Finding, Verdict
from qface_toolkit.report.schema import ArtifactFigures


def compare(
    report: Judged, baseline: Judged, budgets: Budgets, timing: Timing | None = None, *, strict: bool = False
) -> Verdict:
    """Return the verdict on a report; `timing` holds latencies that were measured anew, on this machine.

    Raises:
        ArtifactError: if the baseline is that of another model.
    """
    check_same_model(report, baseline)
    comparison = _Comparison(report, baseline, budgets, timing)
    return Verdict(tuple(comparison.findings()), tuple(comparison.notes()), strict)


@dataclass(frozen=True)
class _Comparison:
    report: Judged
    baseline: Judged
    budgets: Budgets
    timing: Timing | None

    def findings(self) -> Iterator[Finding]:
        """Return what is to be said of every artifact, in the order of the baseline, then of new ones."""
        there = {one.name: one for one in self.report.report.artifacts}
        known = {one.name: one for one in self.baseline.report.artifacts}
        for name, before in known.items():
            if name not in there:
                yield _missing(name)
            elif before.quantized or not there[name].quantized:
                yield from self._of_artifact(there[name], before)
            else:
                yield Finding(name, "artifact", "not comparable", "it is quantized, and was not in the baseline")
        for name in there.keys() - known.keys():
            yield Finding(name, "artifact", "not comparable", "the baseline does not know this file; --update adds it")
        yield from accuracy_findings(self.report, self.baseline, self.budgets.accuracy_fall)

    def _of_artifact(self, now: ArtifactFigures, before: ArtifactFigures) -> Iterator[Finding]:
        if before.quantized and not now.quantized:
            yield Finding(now.name, "artifact", "failed", "it is not quantized any more")
            return
        yield from size(now, before, self.budgets.size_bytes_growth)
        if not now.quantized:
            return
        yield from layers(now, before, self.budgets)
        yield from operators(now, before, self.budgets)
        yield from agreement(now, before, self.budgets)
        if self.budgets.latency_growth is not None:
            # Archives for torch are not measured anew, so theirs are the recorded ones, with their own machine.
            anew = self.timing is not None and now.runtime != "torch"
            timed = self.timing if self.timing and anew else recorded(self.report.report)
            yield latency_finding(now, timed, recorded(self.baseline.report), self.budgets.latency_growth)

    def notes(self) -> Iterator[str]:
        """Return what a reader should know of the two reports before believing the comparison."""
        now, before = self.report.report, self.baseline.report
        if now.recipe.name != before.recipe.name:
            yield f"the baseline was made with the recipe {before.recipe.name!r}, this report with {now.recipe.name!r}"
        elif now.recipe.values != before.recipe.values:
            yield "the two recipes have one name and other values"
        if now.calibration.sha256 != before.calibration.sha256:
            yield "the two were calibrated on different images"


def _missing(name: str) -> Finding:
    said = "it is in the baseline and missing here; if that is meant, write a new baseline with --update"
    return Finding(name, "artifact", "failed", said)
