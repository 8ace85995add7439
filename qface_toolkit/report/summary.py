"""The sentences of every first screen: what a file gained and cost, what was not measured, and what is an alarm."""

from collections.abc import Iterator
from dataclasses import dataclass

from qface_toolkit.report.artifacts import artifact_of, main_artifact
from qface_toolkit.report.evaluation import Evaluation
from qface_toolkit.report.evaluation_verdict import UNEVEN, evaluation_verdict, knows_groups
from qface_toolkit.report.figures import clean, cosine, megabytes, percent, runtime_name, threads
from qface_toolkit.report.floor import floor_alarm
from qface_toolkit.report.page import Said
from qface_toolkit.report.parity import parity_line
from qface_toolkit.report.schema import AgreementFigures, ArtifactFigures, LatencyFigures, Report
from qface_toolkit.runtimes import FAST_ARTIFACT as FAST
from qface_toolkit.runtimes import FLOAT_ARTIFACT as FLOAT
from qface_toolkit.runtimes import ONNX_RUNTIME, runtime_of
from qface_toolkit.runtimes.time_ratio import Interval, time_ratio

NOT_MEASURED = (
    "Accuracy on real faces was not measured: qface evaluate DIR --faces PEOPLE --out DIR measures it (DIR: this "
    "result's folder; PEOPLE: a folder of aligned face crops for each person)."
)


@dataclass(frozen=True)
class Speed:
    """How many times as fast as the fastest float form a file is, and what that form is called.

    `interval` is the ratio's, where both were timed in enough rounds.
    """

    ratio: float
    other: str
    interval: Interval | None

    @property
    def settled(self) -> bool:
        """Whether the ratio can be told from one, as it is shown and as far as the rounds were alike."""
        within = self.interval is not None and self.interval.low <= 1 <= self.interval.high
        return round(self.ratio, 2) != 1 and not within

    @property
    def slower(self) -> bool:
        """Whether the file is slower for certain."""
        return self.settled and self.ratio < 1

    def surely_below(self, wanted: float) -> bool:
        """Tell whether the file is not so many times as fast, as far as the rounds were alike."""
        return self.ratio < wanted and (self.interval is None or self.interval.high < wanted)


def verdict(report: Report, evaluation: Evaluation | None = None) -> tuple[Said, ...]:
    """Return what a reader must know of a result and of how one of its files was judged, alarms first."""
    artifact = main_artifact(report)
    if artifact is None:
        return (Said("Nothing was quantized."),)
    judged = evaluation if evaluation and belongs(evaluation, report) else None
    accuracy = evaluation_verdict(judged) if judged else tuple(_drawn_said(report, artifact))
    faceless = judged is None or judged.data.kind == "drawings"
    unknown = (Said(NOT_MEASURED),) if faceless else ()
    first = first_alarms(report)
    tones = () if judged is not None and knows_groups(judged) else tuple(_tones_said(artifact.agreement))
    agreement = (*_agreement_said(artifact), *tones)
    found = (_size_said(artifact), _speed_said(report, artifact), *agreement, *accuracy, *unknown)
    return (*first, *sorted((said for said in found if said not in first), key=lambda said: not said.alarm))


def first_alarms(report: Report) -> tuple[Said, ...]:
    """Return what must be read before all else: that a file is damaged, and that int8 does not pay."""
    return tuple(said for said in (floor_alarm(report), speed_alarm(report)) if said is not None)


def speed_alarm(report: Report) -> Said | None:
    """Return that int8 does not pay here, or not as much as was asked for."""
    artifact = main_artifact(report)
    if artifact is None or (speed := speed_of(report, artifact)) is None:
        return None
    missed = _missed_said(report, artifact, speed)
    if missed is not None:
        return missed
    said = _speed_said(report, artifact)
    return said if said.alarm else None


def speed_wanted(report: Report) -> float | None:
    """Return how many times as fast as float.fast.onnx the recipe wants the first file to be."""
    budget = report.recipe.values.get("budget")
    wanted = budget.get("times_faster") if isinstance(budget, dict) else None
    return float(wanted) if isinstance(wanted, int | float) else None


def misses_speed(report: Report) -> bool:
    """Tell whether the first file is for certain not as fast as the recipe wants it."""
    artifact, wanted = main_artifact(report), speed_wanted(report)
    speed = speed_of(report, artifact) if artifact is not None else None
    return wanted is not None and (speed is None or speed.surely_below(wanted))


def _missed_said(report: Report, artifact: ArtifactFigures, speed: Speed) -> Said | None:
    wanted = speed_wanted(report)
    if wanted is None or not speed.surely_below(wanted):
        return None
    kept = len(report.budget.kept) if report.budget else 0
    why = (
        f" budget.cosine_mean keeps {kept} layers in float, which takes time: one of the two must give." if kept else ""
    )
    ship = f" {_ship(report, artifact)}" if speed.slower else ""
    told = f"budget.times_faster wants {wanted:g} times the speed of {speed.other}, and {clean(artifact.name)}"
    return Said(f"Missed: {told} {pace(speed.ratio)}.{why}{ship}", alarm=True)


def _ship(report: Report, artifact: ArtifactFigures) -> str:
    """Return which float file is the one to ship here, the faster of the two."""
    files = (artifact_of(report, name) for name in (FAST, FLOAT))
    timed = [one for one in files if one is not None and one.latency is not None and one.runtime == artifact.runtime]
    if not timed:
        return "Ship the float model on processors like this one."
    best = min(timed, key=lambda one: one.latency.p50_ms if one.latency else 0.0)
    return f"Ship {clean(best.name)} on processors like this one."


def ledger_line(report: Report) -> tuple[bool, str] | None:
    """Return whether the parity ledger is as it should be, and the ledger in one line, if there is one."""
    if report.parity is None:
        return None
    fine, line = parity_line(report.parity)
    # Float sums depend on the kernel: behind layers in float a code may differ from the simulated one by one.
    return fine or (report.budget is not None and report.budget.kept != ()), line


def belongs(evaluation: Evaluation, report: Report) -> bool:
    """Return whether an evaluation is of one of the report's own files."""
    return any(evaluation.model.sha256 == artifact.sha256 for artifact in report.artifacts)


def speed_of(report: Report, artifact: ArtifactFigures) -> Speed | None:
    """Return the speed against the fastest float form that was timed in the file's runtime."""
    if artifact.times_faster_than_fast is not None:
        fast = artifact_of(report, FAST)
        return Speed(artifact.times_faster_than_fast, FAST, _interval(artifact.latency, fast.latency if fast else None))
    if artifact.times_faster is None:
        return None
    timed = _interval(artifact.latency, report.float_latency.get(artifact.runtime))
    return Speed(artifact.times_faster, float_name(artifact), timed)


def float_name(artifact: ArtifactFigures) -> str:
    """Return what stands for the float model in the runtime of a file."""
    known = runtime_of(artifact.runtime).float_name
    return FLOAT if known == FLOAT else f"the float model in {runtime_name(artifact.runtime)}"


def _interval(mine: LatencyFigures | None, other: LatencyFigures | None) -> Interval | None:
    if mine is None or other is None:
        return None
    found = time_ratio(other.samples_ms, mine.samples_ms)
    return found.interval if found else None


def pace(ratio: float) -> str:
    """Return a ratio of speeds as a verb; what is shown as 1.00 is no difference."""
    if round(ratio, 2) == 1:
        return "is as fast"
    return f"runs {ratio:.2f} times as fast" if ratio > 1 else f"takes {1 / ratio:.2f} times as long"


def _size_said(artifact: ArtifactFigures) -> Said:
    float_bytes, name = round(artifact.size_bytes / artifact.size_ratio), clean(artifact.name)
    if artifact.simulated:
        needed = artifact.payload_bytes or artifact.size_bytes
        beside = f"{megabytes(float_bytes)} MB of float"
        return Said(f"{name} is a simulation, whose codes would take {megabytes(needed)} MB instead of {beside}.")
    sizes = f"{megabytes(artifact.size_bytes)} MB instead of the {megabytes(float_bytes)} MB of {FLOAT}"
    return Said(f"{name} takes {sizes} ({percent(artifact.size_ratio)}).")


def _speed_said(report: Report, artifact: ArtifactFigures) -> Said:
    speed = speed_of(report, artifact)
    if speed is None or artifact.latency is None:
        return Said(
            f"It was not timed: {clean(artifact.latency_missing or 'there is no float model to compare with')}."
        )
    other = f"{FAST}, the float model written for speed" if speed.other == FAST else speed.other
    if speed.slower:
        told = f"{_ship(report, artifact)} {clean(artifact.name)} is slower than {other}: it {pace(speed.ratio)}"
    elif speed.settled:
        told = f"It {pace(speed.ratio)} as {other}"
    else:
        told = f"It is neither faster nor slower than {other}, as far as could be told"
    where = f"{runtime_name(artifact.runtime)}, {threads(artifact.latency.threads)}"
    return Said(f"{told}{_beside(artifact, speed)} ({where}).", alarm=speed.slower)


def _beside(artifact: ArtifactFigures, speed: Speed) -> str:
    """Return what else the speed is compared with, or why nothing else."""
    if speed.other == FAST:
        slow = artifact.times_faster
        return "" if slow is None else f"; beside {FLOAT}, the plain export, it {pace(slow)}"
    if runtime_of(artifact.runtime).fast_name == FAST:
        return ""
    return f"; {FAST} is for {ONNX_RUNTIME.title} and was not compared"


def _agreement_said(artifact: ArtifactFigures) -> Iterator[Said]:
    found = artifact.agreement
    if found is not None:
        lowest = f"lowest of {found.images} drawings: {cosine(found.cosine_min)}"
        mean = f"a mean cosine of {cosine(found.cosine_mean)}, where 1 is no difference"
        yield Said(f"Its embeddings agree with the float model's to {mean} ({lowest}).")


def _tones_said(found: AgreementFigures | None) -> Iterator[Said]:
    """Return which drawn people lose for certain more than the average, those for whom this is surest."""
    worst = max(found.tones if found else (), key=lambda one: one.low, default=None)
    if worst is not None and worst.low > UNEVEN:
        told = f"Drawn people of {clean(worst.tone)} skin lose {worst.loss_ratio:.2f} times what all lose on average"
        fix = "Measure real people of all tones before this goes to production: qface evaluate DIR --faces PEOPLE"
        yield Said(f"{told} (95 %: {worst.low:.2f} to {worst.high:.2f}). {fix}.", alarm=True)


def _drawn_said(report: Report, artifact: ArtifactFigures) -> Iterator[Said]:
    if report.verification is None or artifact.name not in report.verification.artifacts:
        return
    before, after = report.verification.float_model, report.verification.artifacts[artifact.name]
    rates = f"{percent(after.pair_accuracy)} of the pairs right (float: {percent(before.pair_accuracy)})"
    yield Said(f"Whether two drawings show the same drawn person, it gets {rates}.")
