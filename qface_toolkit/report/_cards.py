"""The first screen of report.html: four figures with bars, and what must be known before shipping."""

import math
from collections.abc import Iterator

from qface_toolkit.report._evaluation import Evaluation, ModelFigures
from qface_toolkit.report._evaluation_tables import data_said
from qface_toolkit.report._figures import (
    clean,
    cosine,
    integer_said,
    main_artifact,
    megabytes,
    milliseconds,
    percent,
    runtime_name,
    threads,
)
from qface_toolkit.report._page import Bar, Card, Sign
from qface_toolkit.report.budget import budget_said
from qface_toolkit.report.parity import parity_line
from qface_toolkit.report.schema import ArtifactFigures, LatencyFigures, Report

FLOAT, FAST = "float.onnx", "float.fast.onnx"
ACCURACY, EVALUATED = "Accuracy", "Evaluated"
_CHANCE = 0.5
_MAIN_FAR = "1e-4"


def cards(report: Report, evaluation: Evaluation | None) -> list[Card]:
    """Return the figures of the main artifact beside those of the float model."""
    artifact = main_artifact(report)
    if artifact is None:
        return []
    found = [_size(artifact), _latency(report, artifact), _agreement(artifact), _accuracy(report, artifact)]
    judged = _evaluated(evaluation) if evaluation and belongs(evaluation, report) else None
    known = [card for card in (*found, judged) if card]
    told = any(card.title in (ACCURACY, EVALUATED) for card in known)
    return known if told else [*known, Card(ACCURACY, "not measured", "qface evaluate measures it, on real faces", ())]


def belongs(evaluation: Evaluation, report: Report) -> bool:
    """Return whether an evaluation is of one of the report's own files."""
    return any(evaluation.model.sha256 == artifact.sha256 for artifact in report.artifacts)


def _size(artifact: ArtifactFigures) -> Card:
    before = round(artifact.size_bytes / artifact.size_ratio)
    ratio = 1 / artifact.size_ratio
    figure = f"{ratio:.2f}x smaller" if ratio >= 1 else f"{artifact.size_ratio:.2f}x larger"
    sizes = [(FLOAT, before, "float"), (clean(artifact.name), artifact.size_bytes, "int8")]
    largest = max(size for _, size, _ in sizes)
    bars = [Bar(name, f"{megabytes(size)} MB", size / largest, kind) for name, size, kind in sizes]
    return Card("Size", figure, f"{percent(artifact.size_ratio)} of the bytes of {FLOAT}", bars)


def _latency(report: Report, artifact: ArtifactFigures) -> Card:
    if artifact.latency is None or artifact.times_faster is None:
        reason = clean(artifact.latency_missing or "there is no float model to compare with")
        return Card("Latency", "not timed", reason, ())
    ratio = artifact.times_faster
    figure = f"{ratio:.2f}x as fast" if ratio >= 1 else f"{1 / ratio:.2f}x as slow"
    where = f"{runtime_name(artifact.runtime)} on {threads(artifact.latency.threads)}"
    fast = artifact.times_faster_than_fast
    beside = "" if fast is None else f"; {fast:.2f}x as fast as {FAST}, float written for the runtime"
    timed = list(_timed(report, artifact))
    longest = max(latency.p50_ms for _, latency, _ in timed)
    bars = [Bar(name, f"{milliseconds(one.p50_ms)} ms", one.p50_ms / longest, kind) for name, one, kind in timed]
    return Card("Latency", figure, f"against the float model, in {where}{beside}", bars, "median of one image")


def _timed(report: Report, artifact: ArtifactFigures) -> Iterator[tuple[str, LatencyFigures, str]]:
    if artifact.runtime in report.float_latency:
        name = FLOAT if artifact.runtime == "onnxruntime" else "float model"
        yield name, report.float_latency[artifact.runtime], "float"
    for one in report.artifacts:
        if one.name == FAST and one.latency and artifact.runtime == one.runtime:
            yield FAST, one.latency, "fast"
    if artifact.latency:
        yield clean(artifact.name), artifact.latency, "int8"


def _agreement(artifact: ArtifactFigures) -> Card | None:
    found = artifact.agreement
    if found is None:
        return None
    # Bars from zero would all look full: what matters lies close to one, and the scale says where it begins.
    floor = max(math.floor(found.cosine_min * 50 - 1) / 50, -1.0)
    rows = (("mean", found.cosine_mean), ("1st percentile", found.cosine_p1), ("lowest", found.cosine_min))
    bars = [Bar(name, cosine(value), _within(value, floor, 1), "int8") for name, value in rows]
    said = f"mean cosine to the float model on {found.images} drawings"
    return Card("Agreement", cosine(found.cosine_mean), said, bars, f"bars from {floor:g} to 1")


def _accuracy(report: Report, artifact: ArtifactFigures) -> Card | None:
    block = report.verification
    if block is None or artifact.name not in block.artifacts:
        return None
    before, after = block.float_model, block.artifacts[artifact.name]
    rows = (("float model", before, "float"), (clean(artifact.name), after, "int8"))
    bars = [_rate_bar(name, one.pair_accuracy, kind) for name, one, kind in rows]
    said = f"of pairs verified correctly (float: {percent(before.pair_accuracy)}), on drawings, not on real faces"
    return Card(ACCURACY, percent(after.pair_accuracy), said, bars, "bars from 50 %, which is chance")


def _rate_bar(name: str, rate: float, kind: str) -> Bar:
    return Bar(name, percent(rate), _within(rate, _CHANCE, 1), kind)


def _within(value: float, low: float, high: float) -> float:
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _evaluated(found: Evaluation) -> Card | None:
    name, rate = _main_rate(found.figures)
    if rate is None:
        return None
    reference = _main_rate(found.reference_figures)[1] if found.reference_figures else None
    before = [] if reference is None else [Bar("float model", percent(reference), reference, "float")]
    bars = [*before, Bar(clean(found.model.name), percent(rate), rate, "int8")]
    return Card(EVALUATED, percent(rate), f"{name} on {data_said(found)}", bars)


def _main_rate(figures: ModelFigures) -> tuple[str, float | None]:
    if figures.pair_list is not None:
        return "pair accuracy", figures.pair_list.pair_accuracy
    tar = figures.every_pair.rates.tar if figures.every_pair else figures.templates.tar_ijb if figures.templates else {}
    far = _MAIN_FAR if _MAIN_FAR in tar else min(tar, key=float, default="")
    return f"TAR at FAR {far}", tar.get(far)


def signs(report: Report, evaluation: Evaluation | None) -> list[Sign]:
    """Return what must be known before shipping, fine or not."""
    return [*_computed(report), *_budgeted(report), *_sourced(report), _judged(report, evaluation)]


def _computed(report: Report) -> Iterator[Sign]:
    artifact = main_artifact(report)
    if artifact and artifact.times_faster_than_fast is not None and artifact.times_faster_than_fast < 1:
        yield Sign(False, f"{clean(artifact.name)} is slower here than {FAST}, which is float")
    said = integer_said(artifact) if artifact else None
    if artifact and said:
        yield Sign(said[0], f"{clean(artifact.name)}: {said[1]}")
    if report.parity is not None:
        fine, line = parity_line(report.parity)
        # Float sums depend on the kernel: behind layers in float a code may differ from the simulated one by one.
        yield Sign(fine or (report.budget is not None and report.budget.kept != ()), line)


def _budgeted(report: Report) -> Iterator[Sign]:
    if report.budget is not None:
        yield Sign(*budget_said(report.budget))


def _sourced(report: Report) -> Iterator[Sign]:
    free, name = report.calibration.contains_no_real_face_data, clean(report.calibration.set)
    known = {True: "no real face was used", False: "these are real faces", None: "these are the user's own images"}
    yield Sign(free is True, f"calibrated on the set {name}: {known[free]}")
    licence = report.source.spec.license
    if licence == "unknown":
        yield Sign(False, "the licence of the source is unknown: settle it before you ship")
    else:
        yield Sign(True, f"licence of the source: {clean(licence)}")


def _judged(report: Report, evaluation: Evaluation | None) -> Sign:
    if evaluation is None:
        return Sign(False, "not evaluated on real faces: see qface evaluate")
    if not belongs(evaluation, report):
        return Sign(False, f"the evaluation is of another file: {clean(evaluation.model.name)}")
    return Sign(evaluation.data.kind != "drawings", f"evaluated on {data_said(evaluation)}")
