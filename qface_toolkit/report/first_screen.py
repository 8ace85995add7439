"""The first screen of report.html: four figures with bars, and what must be known before shipping."""

import math
from collections.abc import Iterator

from qface_toolkit.report.artifacts import FLOAT_ROW, artifact_of, integer_said, main_artifact
from qface_toolkit.report.budget import budget_said
from qface_toolkit.report.evaluation import Evaluation
from qface_toolkit.report.evaluation_verdict import (
    bound_said,
    data_said,
    float_alarm,
    is_tied,
    loss_said,
    main_loss,
    main_rate,
    rates,
)
from qface_toolkit.report.figures import NOTHING, clean, cosine, megabytes, milliseconds, percent, runtime_name, threads
from qface_toolkit.report.page import Bar, Card, Sign
from qface_toolkit.report.schema import ArtifactFigures, LatencyFigures, Report
from qface_toolkit.report.summary import belongs, float_name, ledger_line, pace, speed_of
from qface_toolkit.runtimes import FAST_ARTIFACT as FAST
from qface_toolkit.runtimes import FLOAT_ARTIFACT as FLOAT

ACCURACY = "Accuracy"
UNKNOWN = Card(ACCURACY, "not measured", "on real faces: qface evaluate DIR --faces PEOPLE --out DIR measures it", ())
_CHANCE = 0.5


def cards(report: Report, evaluation: Evaluation | None) -> list[Card]:
    """Return the figures of the main artifact beside those of the float model."""
    artifact = main_artifact(report)
    if artifact is None:
        return []
    judged = evaluation if evaluation and belongs(evaluation, report) else None
    accuracy = _evaluated_card(judged) if judged else _drawn_card(report, artifact)
    found = [_size_card(artifact), _speed_card(report, artifact), _agreement_card(artifact), accuracy]
    return [card for card in found if card]


def _size_card(artifact: ArtifactFigures) -> Card:
    before = round(artifact.size_bytes / artifact.size_ratio)
    ratio = 1 / artifact.size_ratio
    figure = f"{ratio:.2f}x smaller" if ratio >= 1 else f"{artifact.size_ratio:.2f}x larger"
    sizes = [(FLOAT, before, "float"), (clean(artifact.name), artifact.size_bytes, "int8")]
    largest = max(size for _, size, _ in sizes)
    bars = [Bar(name, f"{megabytes(size)} MB", size / largest, kind) for name, size, kind in sizes]
    return Card("Size", figure, f"{percent(artifact.size_ratio)} of the bytes of {FLOAT}", bars)


def _speed_card(report: Report, artifact: ArtifactFigures) -> Card:
    speed = speed_of(report, artifact)
    if artifact.latency is None or speed is None:
        reason = clean(artifact.latency_missing or "there is no float model to compare with")
        return Card("Speed", "not timed", reason, ())
    timed = list(_timed(report, artifact))
    longest = max(latency.p50_ms for _, latency, _ in timed)
    bars = [Bar(name, f"{milliseconds(one.p50_ms)} ms", one.p50_ms / longest, kind) for name, one, kind in timed]
    figure, said = f"{speed.ratio:.2f}x as fast", f"as {speed.other}"
    if not speed.settled:
        figure, said = "as fast", f"{said}, as far as could be told ({speed.ratio:.2f}x)"
    elif speed.slower:
        figure, said = f"{1 / speed.ratio:.2f}x the time", f"slower than {speed.other}"
    if speed.other == FAST and artifact.times_faster is not None:
        said += f", the float model written for speed; beside {FLOAT} it {pace(artifact.times_faster)}"
    where = f"{runtime_name(artifact.runtime)} on {threads(artifact.latency.threads)}"
    return Card("Speed", figure, said, bars, f"median time of one image, {where}", alarm=speed.slower)


def _timed(report: Report, artifact: ArtifactFigures) -> Iterator[tuple[str, LatencyFigures, str]]:
    if artifact.runtime in report.float_latency:
        name = FLOAT if float_name(artifact) == FLOAT else FLOAT_ROW
        yield name, report.float_latency[artifact.runtime], "float"
    fast = artifact_of(report, FAST)
    if fast and fast.latency and fast.runtime == artifact.runtime:
        yield FAST, fast.latency, "fast"
    if artifact.latency:
        yield clean(artifact.name), artifact.latency, "int8"


def _agreement_card(artifact: ArtifactFigures) -> Card | None:
    found = artifact.agreement
    if found is None:
        return None
    # Bars from zero would all look full: what matters lies close to one, and the scale says where it begins.
    floor = max(math.floor(found.cosine_min * 50 - 1) / 50, -1.0)
    rows = (("mean", found.cosine_mean), ("1 in 100 is below", found.cosine_p1), ("lowest", found.cosine_min))
    bars = [Bar(name, cosine(value), _within(value, floor, 1), "int8") for name, value in rows]
    said = f"mean cosine between its embeddings and the float model's on {found.images} drawings; 1 is no difference"
    return Card("Agreement", cosine(found.cosine_mean), said, bars, f"bars from {floor:g} to 1")


def _drawn_card(report: Report, artifact: ArtifactFigures) -> Card:
    block = report.verification
    if block is None or artifact.name not in block.artifacts:
        return UNKNOWN
    before, after = block.float_model, block.artifacts[artifact.name]
    rows = ((FLOAT_ROW, before, "float"), (clean(artifact.name), after, "int8"))
    bars = [_rate_bar(name, one.pair_accuracy, kind) for name, one, kind in rows]
    said = f"of pairs of drawings judged right (float: {percent(before.pair_accuracy)}); not measured on real faces"
    return Card(ACCURACY, percent(after.pair_accuracy), said, bars, "bars from 50 %, which is guessing")


def _rate_bar(name: str, rate: float, kind: str) -> Bar:
    return Bar(name, percent(rate), _within(rate, _CHANCE, 1), kind)


def _within(value: float, low: float, high: float) -> float:
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _evaluated_card(found: Evaluation) -> Card:
    name, lost = main_loss(found.paired) if found.paired else (main_rate(found.figures)[0], None)
    before, after = rates(found, name)
    rows = ((FLOAT_ROW, before, "float"), (clean(found.model.name), after, "int8"))
    bars = [Bar(label, f"{100 * value:.2f} %", value, kind) for label, value, kind in rows if value is not None]
    figure, said, alarm = NOTHING if after is None else percent(after), f"{name} on {data_said(found)}", False
    if float_alarm(found) is not None:
        whose = "the float model" if found.reference else "the model"
        figure, said, alarm = "nothing proven", f"{whose} does not tell them apart: {data_said(found)}", True
    elif lost is not None and lost.value is not None and not is_tied(found, name):
        figure, said = loss_said(lost, "points"), f"of {name} on {data_said(found)}{bound_said(lost)}"
    return Card(ACCURACY, figure, said, bars, f"bars: {name}" if bars else "", alarm)


def signs(report: Report, evaluation: Evaluation | None) -> list[Sign]:
    """Return what must be known before shipping, fine or not."""
    return [
        *_computed_signs(report),
        *_budget_signs(report),
        *_source_signs(report),
        _accuracy_sign(report, evaluation),
    ]


def _computed_signs(report: Report) -> Iterator[Sign]:
    artifact = main_artifact(report)
    said = integer_said(artifact) if artifact else None
    if artifact and said:
        yield Sign(said[0], f"{clean(artifact.name)}: {said[1]}")
    ledger = ledger_line(report)
    if ledger:
        yield Sign(*ledger)


def _budget_signs(report: Report) -> Iterator[Sign]:
    if report.budget is not None:
        yield Sign(*budget_said(report.budget))


def _source_signs(report: Report) -> Iterator[Sign]:
    free, name = report.calibration.contains_no_real_face_data, clean(report.calibration.set)
    known = {True: "no real face was used", False: "these are real faces", None: "these are the user's own images"}
    yield Sign(free is True, f"calibrated on the set {name}: {known[free]}")
    licence = report.source.spec.license
    if licence == "unknown":
        yield Sign(False, "the licence of the source is unknown: settle it before you ship")
    else:
        yield Sign(True, f"licence of the source: {clean(licence)}")


def _accuracy_sign(report: Report, evaluation: Evaluation | None) -> Sign:
    if evaluation is None:
        return Sign(False, "not evaluated on real faces: see qface evaluate")
    if not belongs(evaluation, report):
        return Sign(False, f"the evaluation is of another file: {clean(evaluation.model.name)}")
    return Sign(evaluation.data.kind != "drawings", f"evaluated on {data_said(evaluation)}")
