"""Accuracy: against a recipe's floor, and against the baseline's in both reports and in the evaluations beside them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from qface_toolkit.gate.baseline import OpenedReport, how_to_evaluate
from qface_toolkit.gate.verdict import Finding, Outcome, fallen
from qface_toolkit.report import Evaluation, Report
from qface_toolkit.report.floor import damaged, floor_of
from qface_toolkit.report.schema import VerificationFigures

EVALUATED, VERIFIED = "evaluation", "verification"


def accuracy_findings(report: OpenedReport, baseline: OpenedReport, budget: float | None) -> Iterator[Finding]:
    """Return the findings on every rate that both have on the same images."""
    if budget is not None:
        yield from _verified(report, baseline, budget)
        yield from _evaluations(report, baseline, budget)


def floor_findings(report: Report) -> Iterator[Finding]:
    """Return whether each file is as close to the float model as the recipe wants every file to be, if it does."""
    floor, below = floor_of(report), damaged(report)
    for one in report.artifacts:
        if floor is not None and one.quantized and one.agreement is not None:
            found = one.agreement.cosine_mean
            said = f"cosine_mean {found:.5f} on drawings; budget.floor_cosine wants {floor:g}"
            yield Finding(one.name, "floor", "failed" if one in below else "passed", said, found, None, floor)


def _verified(report: OpenedReport, baseline: OpenedReport, budget: float) -> Iterator[Finding]:
    now, before = report.report.verification, baseline.report.verification
    if now is None and before is None:
        return
    if now is None or before is None or now.protocol != before.protocol:
        said = "the two reports were not verified on the same images"
        yield Finding(VERIFIED, "accuracy", "not comparable", said)
        return
    there = {one.name for one in report.report.artifacts}
    for name, figures in before.artifacts.items():
        if name in now.artifacts:
            yield from _fallen(name, _rates(now.artifacts[name]), _rates(figures), budget)
        elif name in there:
            yield Finding(name, "accuracy", "not looked at", "its accuracy on drawings is in the baseline alone")


def _fallen(name: str, now: Mapping[str, float], before: Mapping[str, float], budget: float) -> Iterator[Finding]:
    """Return the findings on every rate of the baseline's, and of those that it lacks."""
    for figure in sorted({*now, *before}):
        if figure in now and figure in before:
            yield fallen(name, figure, now[figure], before[figure], budget)
            continue
        said = f"this rate is in {'this report' if figure in now else 'the baseline'} alone"
        yield Finding(name, figure, "not comparable", said, now.get(figure), before.get(figure))


def _rates(figures: VerificationFigures) -> dict[str, float]:
    return {"pair_accuracy": figures.pair_accuracy, **{f"tar {far}": rate for far, rate in figures.tar.items()}}


def _evaluations(report: OpenedReport, baseline: OpenedReport, budget: float) -> Iterator[Finding]:
    now, before = report.evaluation, baseline.evaluation
    if now is None and before is None:
        return
    if now is None or before is None:
        yield Finding(EVALUATED, "accuracy", *_only_one(report.folder, before))
        return
    if not report.has(now.model):
        said = f"this evaluation is not of this report's {now.model.name}; {how_to_evaluate(now, report.folder)}"
        yield Finding(EVALUATED, "accuracy", "failed", said)
        return
    if _what(now) != _what(before):
        said = f"the two evaluations are not of one file on one set of images; {how_to_evaluate(before, report.folder)}"
        yield Finding(EVALUATED, "accuracy", "not comparable", said)
        return
    yield from _fallen(now.model.name, _all_rates(now), _all_rates(before), budget)


def _only_one(folder: Path | None, before: Evaluation | None) -> tuple[Outcome, str]:
    if before is None:
        return "not comparable", "this report has an evaluation, the baseline none; --update takes it along"
    return "not looked at", f"the baseline has an evaluation, this report none; {how_to_evaluate(before, folder)}"


def _what(found: Evaluation) -> tuple[str, str, str, bool]:
    return found.model.name, found.data.kind, found.data.sha256, found.flip


def _all_rates(found: Evaluation) -> dict[str, float]:
    """Return the rates by which an evaluation judges; those that too few pairs support are left out."""
    rates: dict[str, float] = {}
    people, pairs, templates = found.figures.every_pair, found.figures.pair_list, found.figures.templates
    if people is not None:
        known = {far: rate for far, rate in people.rates.tar.items() if far not in people.rates.unsupported}
        rates |= {"rank1": people.rank1, **{f"tar {far}": rate for far, rate in known.items()}}
    if pairs is not None:
        rates |= {"pair_accuracy": pairs.pair_accuracy}
        rates |= {f"tar_bin {far}": rate for far, rate in pairs.tar_bin.items()}
    if templates is not None:
        known = {far: rate for far, rate in templates.tar_ijb.items() if far not in templates.unsupported}
        rates |= {f"tar_ijb {far}": rate for far, rate in known.items()}
    return rates
