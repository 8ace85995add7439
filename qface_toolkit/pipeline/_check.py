"""Check a report, and measure the latency of its files anew, on this machine, until it is known well enough.

The folder may come from anybody: files are opened as a stranger's are, and must be those that the report speaks of.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qface_toolkit.backends import Backend
from qface_toolkit.backends._open import backend_of
from qface_toolkit.environment import record_environment
from qface_toolkit.errors import ArtifactError
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
from qface_toolkit.pipeline._benchmark import measure_enough, repeat_file, vetted
from qface_toolkit.report.schema import ArtifactFigures, LatencyFigures, SpecFacts
from qface_toolkit.result.golden import held_out
from qface_toolkit.result.job import Tell, silent
from qface_toolkit.runtimes import FAST_ARTIFACT, FLOAT_ARTIFACT
from qface_toolkit.runtimes.latency import Latency
from qface_toolkit.untrusted.onnx import read_onnx
from qface_toolkit.untrusted.reading import file_sha256
from qface_toolkit.untrusted.writing import disk_errors

LONGEST_S = 40.0
IN_OPENVINO = "float.onnx in OpenVINO"
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
    example = _spec(judged.report.source.spec).preprocess(held_out(1))
    tell("read the files")
    calls = _openers(folder, there, example)
    progress = tell("measure the latency")
    quantized = [name for name in calls if name not in (FLOAT_ARTIFACT, FAST_ARTIFACT, IN_OPENVINO)]
    reference = FAST_ARTIFACT if FAST_ARTIFACT in calls else FLOAT_ARTIFACT
    found = measure_enough(calls, dict.fromkeys(quantized, reference), longest_s or LONGEST_S, progress)
    return _timing(judged, found, missing)


def _why_not(folder: Path, artifact: ArtifactFigures) -> str | None:
    """Return why a file is not measured."""
    if artifact.latency is None:
        return artifact.latency_missing
    if artifact.runtime == "torch":
        return NOT_ONNX
    file = folder / artifact.name
    if Path(artifact.name).name != artifact.name or not file.is_file():
        return "the file is not beside the report"
    with disk_errors(file):
        return None if file_sha256(file) == artifact.sha256 else "the file is not the one that the report speaks of"


def _spec(facts: SpecFacts) -> ModelSpec:
    return ModelSpec("model", facts.input_size, facts.embedding_size, mean=facts.mean, std=facts.std, color=facts.color)


def _openers(
    folder: Path, artifacts: list[ArtifactFigures], example: npt.NDArray[np.float32]
) -> dict[str, Callable[[], Callable[[], object]]]:
    """Return what opens each file for timing, once each of them was found to be what it should."""
    openers: dict[str, Callable[[], Callable[[], object]]] = {}
    for one in artifacts:
        backend = backend_of(one.name)
        file = folder / one.name
        content = vetted(file, read_onnx(file).data, backend, example)
        openers[one.name] = _opener(file, content, backend, example)
    if any(one.runtime == "openvino" for one in artifacts):
        like = next(backend_of(one.name) for one in artifacts if one.runtime == "openvino")
        openers[IN_OPENVINO] = _opener(folder / FLOAT_ARTIFACT, read_onnx(folder / FLOAT_ARTIFACT).data, like, example)
    return openers


def _opener(
    file: Path, content: bytes, backend: Backend | None, example: npt.NDArray[np.float32]
) -> Callable[[], Callable[[], object]]:
    return lambda: repeat_file(file, content, backend, example, threads=1)


def _timing(judged: OpenedReport, found: Mapping[str, Latency], missing: Mapping[str, str]) -> Timing:
    figures = {name: LatencyFigures.of(latency, threads=1, batch=1) for name, latency in found.items()}
    floats = {"onnxruntime": figures[FLOAT_ARTIFACT]} if figures else {}
    if IN_OPENVINO in figures:
        floats["openvino"] = figures.pop(IN_OPENVINO)
    before = judged.report.environment
    hashes = {one.name: one.sha256 for one in judged.report.artifacts}
    recorded = frozenset(name for name, why in missing.items() if why == NOT_ONNX)
    environment = record_environment(before.seed, before.threads)
    return Timing(environment, figures, floats, hashes, missing, recorded=recorded)
