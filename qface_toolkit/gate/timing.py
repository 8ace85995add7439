"""Latencies of one run and where they were taken: those that a report has, or those that were measured just now."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from qface_toolkit.environment import Environment
from qface_toolkit.measure.latency import Latency, times_faster
from qface_toolkit.report.schema import ArtifactFigures, LatencyFigures, Report

FLOAT_ARTIFACT, FAST_ARTIFACT = "float.onnx", "float.fast.onnx"
"""As the backends name them; importing those would load torch, which takes longer than a check."""


@dataclass(frozen=True)
class Timing:
    """Latencies of files by name and of the float model by runtime, and why some are missing.

    `hashes` are the SHA-256 of the files.
    """

    environment: Environment
    files: Mapping[str, LatencyFigures]
    floats: Mapping[str, LatencyFigures]
    hashes: Mapping[str, str]
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def anew(self) -> bool:
        """Whether these were taken by `--measure`, which times ONNX files alone: a job times what torch runs, too."""
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
        if artifact.runtime == "torch" and not other_machine(self.environment, report.environment, "torch", threads=1):
            return artifact
        latency = self.files.get(artifact.name)
        if latency is None:
            missing = {"latency": None, "latency_missing": self.missing.get(artifact.name, "it was not measured")}
            return artifact.model_copy(update={**missing, "times_faster": None, "times_faster_than_fast": None})
        fast = self.files.get(FAST_ARTIFACT) if artifact.runtime == "onnxruntime" else None
        ratios = {
            "times_faster": _ratio(self.floats.get(artifact.runtime), latency),
            "times_faster_than_fast": _ratio(fast, latency),
        }
        return artifact.model_copy(update={"latency": latency, "latency_missing": None, **ratios})


def _ratio(reference: LatencyFigures | None, latency: LatencyFigures) -> float | None:
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
