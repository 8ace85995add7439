"""Check a report, and measure the latency of its files anew, on this machine, until it is known well enough.

The folder may come from anybody: files are opened as a stranger's are, and must be those that the report speaks of.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qface_toolkit.backends import Content, Runner, runner_of
from qface_toolkit.environment import record_environment
from qface_toolkit.errors import ArtifactError
from qface_toolkit.evidence.speed import Opener, measure_enough
from qface_toolkit.gate import (
    OpenedReport,
    Timing,
    Verdict,
    compare,
    open_baseline,
    open_report,
    read_budgets,
)
from qface_toolkit.models import ModelSpec
from qface_toolkit.report.schema import ArtifactFigures, LatencyFigures, SpecFacts
from qface_toolkit.result.golden import held_out
from qface_toolkit.result.job import Tell, silent
from qface_toolkit.runtimes import FAST_ARTIFACT, FLOAT_ARTIFACT, runtime_of
from qface_toolkit.runtimes.latency import Latency
from qface_toolkit.untrusted.reading import file_sha256
from qface_toolkit.untrusted.writing import disk_errors

Floats = npt.NDArray[np.float32]
LONGEST_S = 40.0
NO_FLOAT = "there is no float.onnx beside the report to compare with"
NOT_ONNX = "only ONNX files can be measured anew beside a report"


def check(
    report: str | Path,
    *,
    baseline: str | Path,
    budgets: str | Path | None = None,
    sets: Sequence[str] = (),
    measure: bool = False,
    strict: bool = False,
    tell: Tell = silent,
) -> Verdict:
    """Compare a report with its baseline; where `passed` of the verdict is true, `qface check` ends with 0.

    `report` and `baseline` are report.json or the folder it stands in. `budgets` is a YAML file of what each figure
    may lose, `sets` are BUDGET=VALUE strings that change some of them. `measure` times the ONNX files beside the
    report anew, on this machine. `strict` lets the check fail, too, on every figure that was not compared.

    Raises:
        QFaceError: if a report, the budgets or a file beside the report cannot be read, or the model is another one.
    """
    wanted, judged = read_budgets(None if budgets is None else Path(budgets), sets), open_report(Path(report))
    timing = measure_beside(judged, tell=tell) if measure else None
    return compare(judged, open_baseline(Path(baseline)), wanted, timing, strict=strict)


def measure_beside(judged: OpenedReport, *, tell: Tell = silent, longest_s: float | None = None) -> Timing:
    """Return the latencies of the ONNX files beside a report: one image at a time on one thread, in turns.

    It takes as many rounds as it needs, for LONGEST_S seconds at most, or `longest_s`. A file that is not the one that
    the report speaks of is not run; without float.onnx there is nothing to compare with, and no file is.

    Raises:
        QFaceError: if only a report was given, or a file cannot be trusted.
    """
    if judged.folder is None:
        fix = "give REPORT as the folder that `qface compress` wrote, or check without --measure"
        raise ArtifactError("there are no files beside this report to measure", where=str(judged.path), fix=fix)
    folder = judged.folder
    missing = {one.name: why for one in judged.report.artifacts if (why := _why_not(folder, one))}
    there = [one for one in judged.report.artifacts if one.name not in missing]
    if FLOAT_ARTIFACT not in [one.name for one in there]:
        missing = {one.name: missing.get(one.name, NO_FLOAT) for one in judged.report.artifacts}
        return _timing(judged, {}, missing)
    spec = _spec(judged.report.source.spec)
    example = spec.preprocess(held_out(1, spec.frame))
    tell("read the files")
    calls = _openers(folder, there, example)
    progress = tell("measure the latency")
    quantized = [one.name for one in there if one.name not in (FLOAT_ARTIFACT, FAST_ARTIFACT)]
    reference = FAST_ARTIFACT if FAST_ARTIFACT in calls else FLOAT_ARTIFACT
    found = measure_enough(calls, dict.fromkeys(quantized, reference), longest_s or LONGEST_S, progress)
    return _timing(judged, found, missing)


def _why_not(folder: Path, artifact: ArtifactFigures) -> str | None:
    """Return why a file is not measured."""
    if artifact.latency is None:
        return artifact.latency_missing
    if Path(artifact.name).suffix != ".onnx":
        return NOT_ONNX
    file = folder / artifact.name
    if Path(artifact.name).name != artifact.name or not file.is_file():
        return "the file is not beside the report"
    with disk_errors(file):
        return None if file_sha256(file) == artifact.sha256 else "the file is not the one that the report speaks of"


def _spec(facts: SpecFacts) -> ModelSpec:
    known = facts.model_dump(include={"input_size", "embedding_size", "mean", "std", "color", "crop"})
    return ModelSpec("model", **known)


def _openers(folder: Path, artifacts: list[ArtifactFigures], example: Floats) -> dict[str, Opener]:
    """Return what opens each file for timing, once each of them was found to be what it should.

    Where a runtime calls the float model by a name of its own, float.onnx is timed there, too.
    """
    openers: dict[str, Opener] = {}
    for one in sorted(artifacts, key=lambda one: one.name != FLOAT_ARTIFACT):
        file = folder / one.name
        runner = _runner(file)
        content = runner.read(file)
        runner.try_out(file, example, content)
        openers[one.name] = _opener(file, content, runner, example)
        beside = runner.runtime.float_name
        if beside is not None and beside not in openers:
            float_file = folder / FLOAT_ARTIFACT
            openers[beside] = _opener(float_file, runner.read(float_file), runner, example)
    return openers


def _runner(file: Path) -> Runner:
    runner = runner_of(file)
    assert runner is not None, "every ONNX file has a runner"
    return runner


def _opener(file: Path, content: Content, runner: Runner, example: Floats) -> Opener:
    return lambda: runner.repeat(file, example, 1, content)


def _timing(judged: OpenedReport, found: Mapping[str, Latency], missing: Mapping[str, str]) -> Timing:
    figures = {name: LatencyFigures.of(latency, threads=1, batch=1) for name, latency in found.items()}
    known = {one.runtime: runtime_of(one.runtime).float_name for one in judged.report.artifacts}
    floats = {runtime: figures[name] for runtime, name in known.items() if name in figures}
    before = judged.report.environment
    hashes = {one.name: one.sha256 for one in judged.report.artifacts}
    recorded = frozenset(name for name, why in missing.items() if why == NOT_ONNX)
    environment = record_environment(before.seed, before.threads)
    files = {name: one for name, one in figures.items() if name in hashes}
    return Timing(environment, files, floats, hashes, missing, recorded=recorded)
