"""Latencies against the baseline's: where both were taken, whether they compare, and what their interval says."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from qface_toolkit.environment import Environment
from qface_toolkit.gate.verdict import Finding, Outcome, Unchecked
from qface_toolkit.report.schema import ArtifactFigures, LatencyFigures, Report
from qface_toolkit.runtimes import FAST_ARTIFACT, FLOAT_ARTIFACT, runtime_of
from qface_toolkit.runtimes.latency import Latency, times_faster
from qface_toolkit.runtimes.time_ratio import Interval, Ratio, growth, time_ratio

FIGURE = "latency_ratio"
NOT_MEASURED = "it was not measured"


@dataclass(frozen=True)
class Timing:
    """Latencies of files by name and of the float model by runtime, and why some are missing.

    `hashes` are the SHA-256 of the files. `recorded` names files that cannot be measured anew: what a report has of
    them stands, as long as the machine is the same.
    """

    environment: Environment
    files: Mapping[str, LatencyFigures]
    floats: Mapping[str, LatencyFigures]
    hashes: Mapping[str, str]
    missing: Mapping[str, str] = field(default_factory=dict)
    recorded: frozenset[str] = frozenset()

    @property
    def anew(self) -> bool:
        """Whether these were taken by `--measure`, which times ONNX files alone: a job times other files, too."""
        among = {
            name for one in self.files.values() for name in one.among if name.partition(" in ")[0] != FLOAT_ARTIFACT
        }
        return bool(among) and all(name.endswith(".onnx") for name in among)

    def put_into(self, report: Report) -> Report:
        """Return a report with these latencies in the place of its own, and with the machine they were taken on."""
        artifacts = tuple(self._timed(one, report) for one in report.artifacts)
        floats = {**report.float_latency, **self.floats}
        changed = {"artifacts": artifacts, "float_latency": floats, "environment": self.environment}
        return report.model_copy(update=changed)

    def _timed(self, artifact: ArtifactFigures, report: Report) -> ArtifactFigures:
        stands = artifact.name in self.recorded
        if stands and not other_machine(self.environment, report.environment, artifact.runtime, threads=1):
            return artifact
        latency = self.files.get(artifact.name)
        if latency is None:
            missing = {"latency": None, "latency_missing": self.missing.get(artifact.name, NOT_MEASURED)}
            return artifact.model_copy(update={**missing, "times_faster": None, "times_faster_than_fast": None})
        fast = self.files.get(runtime_of(artifact.runtime).fast_name or "")
        ratios = {
            "times_faster": _faster(self.floats.get(artifact.runtime), latency),
            "times_faster_than_fast": _faster(fast, latency),
        }
        return artifact.model_copy(update={"latency": latency, "latency_missing": None, **ratios})


def _faster(reference: LatencyFigures | None, latency: LatencyFigures) -> float | None:
    return times_faster(Latency(reference.samples_ms), Latency(latency.samples_ms)) if reference else None


def recorded(report: Report) -> Timing:
    """Return the latencies that a report has."""
    return Timing(
        report.environment,
        {one.name: one.latency for one in report.artifacts if one.latency},
        report.float_latency,
        {one.name: one.sha256 for one in report.artifacts},
        {one.name: one.latency_missing for one in report.artifacts if one.latency_missing},
    )


def other_machine(now: Environment, before: Environment, runtime: str, threads: int) -> str | None:
    """Return why times of a runtime on one machine say nothing about those on another, or None if they do.

    Compared are the CPU and those features that decide which kernels run, the runtime's version, and the number of
    cores if several threads were timed.
    """
    facts = [("CPU", now.cpu, before.cpu), ("kind of machine", now.machine, before.machine)]
    facts += [("set of CPU features", _flags(now), _flags(before))]
    if threads > 1:
        facts.append(("number of cores", str(now.cores), str(before.cores)))
    versions = (now.versions.get(runtime, "unknown"), before.versions.get(runtime, "unknown"))
    for what, here, there in (*facts, (f"{runtime} version", *versions)):
        if here != there:
            return f"the baseline was measured with another {what} ({there}; now {here})"
    return None


def _flags(environment: Environment) -> str:
    return " ".join(sorted(environment.cpu_flags)) or "none"


def latency_finding(artifact: ArtifactFigures, now: Timing, before: Timing, budget: float) -> Finding | None:
    """Return whether an artifact became slower beside float than a budget allows, or None if it was never timed."""
    name = artifact.name
    if name not in now.files and name not in before.files:
        return None
    outcome, reason = _not_compared(artifact, now, before)
    if reason:
        return Finding(name, FIGURE, outcome, f"latency: {reason}")
    if now.hashes[name] == before.hashes[name] and now.files[name] == before.files[name]:
        return Finding(name, FIGURE, "passed", "latency: hash and samples in the report are the baseline's own")
    reference = _reference(artifact, now, before)
    here, there = (_ratio(name, artifact.runtime, reference, one) for one in (now, before))
    if here is None or there is None:
        which = "this report" if here is None else "the baseline"
        said = f"latency: the samples of {which} are too few or not from the same rounds; measure with --measure"
        return Finding(name, FIGURE, "inconclusive", said)
    return _judged(name, reference or f"the float model in {artifact.runtime}", here, there, budget)


def speed_finding(artifact: ArtifactFigures, now: Timing, wanted: float) -> Finding:
    """Return whether an artifact is so many times as fast as float.fast.onnx as its recipe wants it to be."""
    name, figure = artifact.name, "times_faster"
    if name not in now.files or FAST_ARTIFACT not in now.files:
        why = now.missing.get(name) or now.missing.get(FAST_ARTIFACT) or NOT_MEASURED
        return Finding(name, figure, "not looked at", f"speed: {why}")
    ratio = time_ratio(now.files[FAST_ARTIFACT].samples_ms, now.files[name].samples_ms)
    if ratio is None:
        return Finding(name, figure, "inconclusive", "speed: the samples are too few; measure with --measure")
    found = ratio.interval
    outcome: Outcome = "passed" if found.low >= wanted else "failed" if found.high < wanted else "inconclusive"
    said = f"{found.value:.2f} times as fast as {FAST_ARTIFACT} (99 % interval {found.low:.2f} to {found.high:.2f})"
    more = ". The machine was too busy to tell: measure again with --measure" if outcome == "inconclusive" else ""
    told = f"{said}; budget.times_faster wants {wanted:g}{more}"
    return Finding(name, figure, outcome, told, found.value, None, wanted)


def never_timed(now: Timing, before: Timing, names: Iterable[str]) -> Iterator[Unchecked]:
    """Return the files of these names whose latency neither report has, those of one reason together."""
    reasons: dict[str, list[str]] = {}
    for name in names:
        if name not in now.files and name not in before.files:
            reasons.setdefault(before.missing.get(name, NOT_MEASURED), []).append(name)
    for reason, found in reasons.items():
        yield Unchecked(f"latency of {', '.join(found)}", f"the baseline has none: {reason}")


def _not_compared(artifact: ArtifactFigures, now: Timing, before: Timing) -> tuple[Outcome, str]:
    """Return why two latencies are not compared, and whether they could be; the reason is empty if they are."""
    name, runtime = artifact.name, artifact.runtime
    here, there = now.files.get(name), before.files.get(name)
    if here is None:
        return "not looked at", f"this report has none: {now.missing.get(name, NOT_MEASURED)}"
    if there is None:
        return "not comparable", f"the baseline has none: {before.missing.get(name, NOT_MEASURED)}"
    if runtime not in now.floats or runtime not in before.floats:
        return "not comparable", f"the float model was not timed in {runtime}"
    if (here.threads, here.batch) != (there.threads, there.batch):
        return "not comparable", "the two were measured with other threads or batches"
    if here.among != there.among:
        return "not looked at", _other_turns(now, before)
    return "not comparable", other_machine(now.environment, before.environment, runtime, here.threads) or ""


def _other_turns(now: Timing, before: Timing) -> str:
    if before.anew and not now.anew:
        return "the baseline was made with --measure: add --measure to this check"
    return (
        "the two took turns with other files, which changes short times: make the baseline anew with "
        "--update --measure, and add --measure to this check"
    )


def _reference(artifact: ArtifactFigures, now: Timing, before: Timing) -> str | None:
    """Return the float file to compare with, or None for the float model in the artifact's runtime.

    float.fast.onnx runs the same kinds of kernels as an int8 file does, so that what disturbs one disturbs the other
    alike; as a reference it must be the same file on both sides.
    """
    runtime = runtime_of(artifact.runtime)
    both = all(FAST_ARTIFACT in one.files and FAST_ARTIFACT in one.hashes for one in (now, before))
    if runtime.fast_name and both and now.hashes[FAST_ARTIFACT] == before.hashes[FAST_ARTIFACT]:
        return FAST_ARTIFACT
    return FLOAT_ARTIFACT if runtime.float_name == FLOAT_ARTIFACT else None


def _ratio(name: str, runtime: str, reference: str | None, timing: Timing) -> Ratio | None:
    float_model = timing.files.get(reference) if reference else None
    float_model = float_model or timing.floats[runtime]
    return time_ratio(timing.files[name].samples_ms, float_model.samples_ms)


def _judged(name: str, reference: str, now: Ratio, before: Ratio, budget: float) -> Finding:
    change = growth(now, before)
    outcome: Outcome = "passed" if change.high <= budget else "failed" if change.low > budget else "inconclusive"
    here, there = now.interval, before.interval
    said = (
        f"takes {here.value:.3f} of the time of {reference}, in the baseline {there.value:.3f}: "
        f"{_moved(change)}; {100 * budget:.3g} % more are allowed"
    )
    if outcome == "inconclusive":
        said += ". The machine was too busy to tell: measure again with --measure"
    return Finding(
        name,
        FIGURE,
        outcome,
        said,
        here.value,
        there.value,
        there.value * (1 + budget),
        change,
        improved=change.high < 0,
    )


def _moved(change: Interval) -> str:
    return f"{100 * change.value:+.1f} % (99 % interval {100 * change.low:+.1f} to {100 * change.high:+.1f})"
