"""The sections of a report, built once as data: every page shows them, or some of them, in this order."""

from collections.abc import Iterator

from qface_toolkit.report.agreement import cosines_section, verification_section
from qface_toolkit.report.artifacts import figures_section, has_sizes, integers_section, main_artifact, sizes_section
from qface_toolkit.report.budget import allocation_section, budget_section
from qface_toolkit.report.cost import cost_section
from qface_toolkit.report.evaluation import Evaluation
from qface_toolkit.report.evaluation_sections import evaluation_section
from qface_toolkit.report.page import Notes, Photo, Section
from qface_toolkit.report.parity import parity_section, tensors_section
from qface_toolkit.report.provenance import calibration, loading, provenance, repetition
from qface_toolkit.report.pruning import pruning_section
from qface_toolkit.report.schema import ArtifactFigures, CostFigures, Report
from qface_toolkit.report.sensitivity import sensitivity_section
from qface_toolkit.report.summary import belongs


def report_sections(
    report: Report, evaluation: Evaluation | None = None, shown: Photo | Notes | None = None
) -> list[Section]:
    """Return what there is to tell behind the first screen, from the figures of every file to single layers.

    `evaluation` is one of a file of the report, `shown` is what a page shows of the calibration images.
    """
    origin = (calibration(report.calibration, shown), loading(report), provenance(report), repetition(report))
    return [*_gains(report, evaluation), *_losses(report), *origin]


def _gains(report: Report, evaluation: Evaluation | None) -> Iterator[Section]:
    """Yield what was gained, and what it cost as a whole."""
    yield figures_section(report)
    if has_sizes(report):
        yield sizes_section(report)
    if report.pruning:
        yield pruning_section(report.pruning)
    if report.budget:
        yield budget_section(report.budget)
    if report.allocation:
        yield allocation_section(report.allocation)
    if report.verification:
        yield verification_section(report.verification)
    if evaluation:
        yield evaluation_section(evaluation, own=belongs(evaluation, report))


def _losses(report: Report) -> Iterator[Section]:
    """Yield where bytes, milliseconds and cosines go: layer by layer, image by image, quantizer by quantizer."""
    artifact = main_artifact(report)
    if artifact and artifact.cost and artifact.cost.layers:
        yield _cost(report, artifact, artifact.cost)
    integers = integers_section(report)
    if integers:
        yield integers
    if artifact and artifact.agreement and artifact.agreement.histogram:
        yield cosines_section(artifact.name, artifact.agreement, artifact.agreement.histogram)
    if report.sensitivity:
        yield sensitivity_section(report.sensitivity)
    if report.parity and report.parity.layers:
        yield tensors_section(report.parity.layers)
    if report.parity:
        yield parity_section(report.parity)


def _cost(report: Report, artifact: ArtifactFigures, cost: CostFigures) -> Section:
    timed = {one.name: one.cost for one in report.artifacts if one.cost is not None and one.cost.time_ms is not None}
    median_ms = artifact.latency.p50_ms if artifact.latency else None
    compared = report.parity.layers if report.parity else None
    return cost_section(artifact.name, cost, median_ms, artifact.predicted_ms, compared, timed)
