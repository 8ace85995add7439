"""Compare a report with its baseline, figure by figure, and say of each what was found, in one sentence."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from qface_toolkit.gate.accuracy import accuracy_findings, floor_findings
from qface_toolkit.gate.baseline import OpenedReport, check_same_model, file_findings
from qface_toolkit.gate.budgets import Budgets
from qface_toolkit.gate.latency import Timing, latency_finding, never_timed, recorded, speed_finding
from qface_toolkit.gate.verdict import LEAST, Finding, Outcome, Unchecked, Verdict, fallen
from qface_toolkit.report.artifacts import main_artifact
from qface_toolkit.report.figures import clean
from qface_toolkit.report.schema import ArtifactFigures
from qface_toolkit.report.summary import speed_wanted

KINDS_NAMED = 4
LONGEST_KIND = 40


def compare(
    report: OpenedReport,
    baseline: OpenedReport,
    budgets: Budgets,
    timing: Timing | None = None,
    *,
    strict: bool = False,
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
    report: OpenedReport
    baseline: OpenedReport
    budgets: Budgets
    timing: Timing | None

    @property
    def now(self) -> Timing:
        """The latencies of the report: those that were measured anew stand in the place of the recorded ones."""
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
        wanted, first = speed_wanted(self.report.report), main_artifact(self.report.report)
        if wanted is not None and first is not None:
            yield speed_finding(first, self.now, wanted)
        yield from floor_findings(self.report.report)
        yield from accuracy_findings(self.report, self.baseline, self.budgets.accuracy_fall)

    def _of_artifact(self, now: ArtifactFigures, before: ArtifactFigures) -> Iterator[Finding]:
        if before.quantized and not now.quantized:
            yield Finding(now.name, "artifact", "failed", "it is not quantized any more")
            return
        yield from _size(now, before, self.budgets.size_bytes_growth)
        if not now.quantized:
            return
        yield from _layers(now, before, self.budgets)
        yield from _operators(now, before, self.budgets)
        yield from _agreement(now, before, self.budgets)
        if self.budgets.latency_growth is not None:
            found = latency_finding(now, self.now, self.before, self.budgets.latency_growth)
            yield from [found] if found else []

    def unchecked(self) -> Iterator[Unchecked]:
        """Return what no check was asked for: budgets that are null, and latencies that neither report has."""
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


def _size(now: ArtifactFigures, before: ArtifactFigures, budget: float | None) -> Iterator[Finding]:
    if budget is None:
        return
    allowed = before.size_bytes * (1 + budget)
    grown = now.size_bytes / before.size_bytes - 1
    figures = f"{now.size_bytes:,} bytes, {_change(grown)} the baseline's {before.size_bytes:,}"
    fine = now.size_bytes <= allowed + LEAST
    said = f"{figures}; {_percent(budget)} more are allowed" if grown > 0 else figures
    yield Finding(
        now.name,
        "size_bytes",
        "passed" if fine else "failed",
        said,
        now.size_bytes,
        before.size_bytes,
        allowed,
        improved=grown < 0,
    )


def _layers(now: ArtifactFigures, before: ArtifactFigures, budgets: Budgets) -> Iterator[Finding]:
    rows = (
        (
            "integer_convolutions",
            now.integer_convolutions,
            before.integer_convolutions,
            budgets.integer_convolutions_fewer,
        ),
        (
            "integer_linear_layers",
            now.integer_linear_layers,
            before.integer_linear_layers,
            budgets.integer_linear_layers_fewer,
        ),
    )
    for figure, here, there, budget in rows:
        if budget is not None and (here is not None or there is not None):
            yield _counted(now.name, figure, here, there, budget, more_is_better=True)


def _operators(now: ArtifactFigures, before: ArtifactFigures, budgets: Budgets) -> Iterator[Finding]:
    if not before.operators or not now.operators:
        if before.operators or now.operators:
            yield Finding(now.name, "operators", "not comparable", "they were counted in only one of the reports")
        return
    kinds = _changed_kinds(now.operators, before.operators)
    if budgets.float_operators_more is not None:
        here, there = _float_operators(now), _float_operators(before)
        named = _changed_kinds(_island_kinds(now), _island_kinds(before))
        yield _counted(now.name, "float_operators", here, there, budgets.float_operators_more, named)
    if budgets.operators_more is not None:
        here, there = sum(now.operators.values()), sum(before.operators.values())
        yield _counted(now.name, "operators", here, there, budgets.operators_more, kinds)


def _counted(
    name: str,
    figure: str,
    now: int | None,
    before: int | None,
    budget: int,
    named: str = "",
    *,
    more_is_better: bool = False,
) -> Finding:
    """Return the finding on a count; `named` tells which kinds changed."""
    what = figure.replace("_", " ")
    if now is None or before is None:
        return Finding(name, figure, "not comparable", f"{what}: counted in only one of the reports", now, before)
    worse = before - now if more_is_better else now - before
    word = "fewer" if (now < before) else "more"
    told = (
        f"{now} {what}, as many as in the baseline"
        if now == before
        else (f"{now} {what}, {abs(worse)} {word} than in the baseline ({before})")
    )
    allowed = before - budget if more_is_better else before + budget
    outcome: Outcome = "passed" if worse <= budget else "failed"
    told += f": {named}" if named else ""
    return Finding(name, figure, outcome, told, now, before, allowed, improved=worse < 0)


def _float_operators(artifact: ArtifactFigures) -> int | None:
    """Return how many operators compute on float, by their share or, without one, by the islands that were named."""
    if artifact.integer_share is not None:
        return round((1 - artifact.integer_share) * sum(artifact.operators.values()))
    return sum(_island_kinds(artifact).values()) if artifact.islands else None


def _island_kinds(artifact: ArtifactFigures) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for island in artifact.islands:
        kinds.update({kind: count * island.count for kind, count in island.operators.items()})
    return kinds


def _changed_kinds(now: Mapping[str, int], before: Mapping[str, int]) -> str:
    pairs = [(kind, before.get(kind, 0), now.get(kind, 0)) for kind in sorted({*now, *before})]
    changed = [f"{clean(kind, LONGEST_KIND)} {there} -> {here}" for kind, there, here in pairs if there != here]
    return ", ".join(changed[:KINDS_NAMED]) + (", …" if len(changed) > KINDS_NAMED else "")


def _agreement(now: ArtifactFigures, before: ArtifactFigures, budgets: Budgets) -> Iterator[Finding]:
    budget_of = {
        "cosine_mean": budgets.cosine_mean_fall,
        "cosine_p1": budgets.cosine_p1_fall,
        "cosine_min": budgets.cosine_min_fall,
    }
    here, there = now.agreement, before.agreement
    if here is None and there is None:
        return
    if here is None or there is None or (here.what, here.images) != (there.what, there.images):
        said = "the two reports do not have the agreement on the same images"
        outcome: Outcome = "failed" if here is None else "not comparable"
        yield Finding(now.name, "agreement", outcome, f"{said}; --update makes this one the baseline")
        return
    for figure, budget in budget_of.items():
        if budget is not None:
            yield fallen(now.name, figure, getattr(here, figure), getattr(there, figure), budget)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _change(share: float) -> str:
    return "exactly" if share == 0 else f"{100 * abs(share):.2f} % {'more' if share > 0 else 'less'} than"
