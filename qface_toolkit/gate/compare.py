"""Compare a report with its baseline, figure by figure, and say of each what was found, in one sentence."""

from collections.abc import Iterator
from dataclasses import dataclass

from qface_toolkit.gate._accuracy import accuracy_findings
from qface_toolkit.gate._figures import agreement, layers, operators, size
from qface_toolkit.gate._latency import latency_finding, never_timed
from qface_toolkit.gate.baseline import Judged, check_same_model
from qface_toolkit.gate.budgets import Budgets
from qface_toolkit.gate.files import file_findings
from qface_toolkit.gate.timing import Timing, recorded
from qface_toolkit.gate.verdict import Finding, Unchecked, Verdict
from qface_toolkit.report.schema import ArtifactFigures


def compare(
    report: Judged, baseline: Judged, budgets: Budgets, timing: Timing | None = None, *, strict: bool = False
) -> Verdict:
    """Return the verdict on a report and on the files beside it, whose hashes are compared always.

    `timing` holds latencies that were measured anew, on this machine. With `strict`, whatever was not compared fails.

    Raises:
        ArtifactError: if the baseline is that of another model, or the disk refuses.
    """
    check_same_model(report, baseline)
    comparison = _Comparison(report, baseline, budgets, timing)
    findings, notes, unchecked = comparison.findings(), comparison.notes(), comparison.unchecked()
    return Verdict(tuple(findings), tuple(notes), tuple(unchecked), strict)


@dataclass(frozen=True)
class _Comparison:
    report: Judged
    baseline: Judged
    budgets: Budgets
    timing: Timing | None

    @property
    def now(self) -> Timing:
        """Archives for torch are not measured anew, so theirs are the recorded ones, if this is still the machine."""
        return recorded(self.timing.put_into(self.report.report) if self.timing else self.report.report)

    @property
    def before(self) -> Timing:
        return recorded(self.baseline.report)

    def findings(self) -> Iterator[Finding]:
        """Return what is to be said of the files, of every artifact in the order of the baseline, then of new ones."""
        yield from file_findings(self.report)
        there = {one.name: one for one in self.report.report.artifacts}
        known = {one.name: one for one in self.baseline.report.artifacts}
        for name, before in known.items():
            if name not in there:
                yield _missing(name)
            elif before.quantized or not there[name].quantized:
                yield from self._of_artifact(there[name], before)
            else:
                yield Finding(name, "artifact", "not comparable", "it is quantized, and was not in the baseline")
        for name in (name for name in there if name not in known):
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
            found = latency_finding(now, self.now, self.before, self.budgets.latency_growth)
            yield from [found] if found else []

    def unchecked(self) -> Iterator[Unchecked]:
        """Return what nobody asked to be compared."""
        off = [name for name, budget in self.budgets.model_dump().items() if budget is None]
        yield from [Unchecked(", ".join(off), "the budget is null")] if off else []
        if self.budgets.latency_growth is not None:
            quantized = [one.name for one in self.report.report.artifacts if one.quantized]
            yield from never_timed(self.now, self.before, quantized)

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
