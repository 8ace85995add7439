"""Accuracy against the baseline's: the verification in both reports, and the evaluations that lie beside both."""

from collections.abc import Iterator

from qface_toolkit.gate._figures import fallen
from qface_toolkit.gate.baseline import Judged
from qface_toolkit.gate.verdict import Finding
from qface_toolkit.report import Evaluation
from qface_toolkit.report.schema import VerificationFigures

EVALUATED = "evaluation"


def accuracy_findings(report: Judged, baseline: Judged, budget: float | None) -> Iterator[Finding]:
    """Return the findings on every rate that both have on the same images."""
    if budget is None:
        return
    yield from _verified(report, baseline, budget)
    if baseline.evaluation is None:
        return
    if report.evaluation is None:
        said = "the baseline has an evaluation and this report none beside it; run qface evaluate --out there"
        yield Finding(EVALUATED, "accuracy", "not comparable", said)
        return
    yield from _evaluated(report.evaluation, baseline.evaluation, budget)


def _verified(report: Judged, baseline: Judged, budget: float) -> Iterator[Finding]:
    now, before = report.report.verification, baseline.report.verification
    if before is None:
        return
    if now is None or now.protocol != before.protocol:
        said = "the two reports were not verified on the same images"
        yield Finding("verification", "accuracy", "not comparable", said)
        return
    for name in before.artifacts.keys() & now.artifacts.keys():
        here, there = _rates(now.artifacts[name]), _rates(before.artifacts[name])
        for figure in sorted(here.keys() & there.keys()):
            yield fallen(name, figure, here[figure], there[figure], budget)


def _rates(figures: VerificationFigures) -> dict[str, float]:
    return {"pair_accuracy": figures.pair_accuracy, **{f"tar {far}": rate for far, rate in figures.tar.items()}}


def _evaluated(now: Evaluation, before: Evaluation, budget: float) -> Iterator[Finding]:
    same = (now.data.kind, now.data.sha256, now.flip) == (before.data.kind, before.data.sha256, before.flip)
    if not same or now.model.name != before.model.name:
        said = "the two evaluations are not of one file on one set of images"
        yield Finding(EVALUATED, "accuracy", "not comparable", said)
        return
    here, there = _all_rates(now), _all_rates(before)
    for figure in sorted(here.keys() & there.keys()):
        yield fallen(now.model.name, figure, here[figure], there[figure], budget)


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
