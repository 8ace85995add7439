"""Time what is meant for this machine, the float model and its artifacts in turns, and tell how the two compare."""

import platform
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qface_toolkit.backends import BACKENDS, Backend, Embed
from qface_toolkit.backends._onnxruntime import repeat_onnx
from qface_toolkit.backends._openvino import repeat_openvino
from qface_toolkit.backends.simulation import RUNTIME
from qface_toolkit.models import FloatModel
from qface_toolkit.result.job import Job
from qface_toolkit.runtimes import FAST_ARTIFACT, FLOAT_ARTIFACT
from qface_toolkit.runtimes.latency import Latency, measure_latency, times_faster
from qface_toolkit.sources import Crop

LATENCY_ROUNDS = 60
LATENCY_BUDGET_S = 30.0
"""Only a network of many billion operations meets this; small ones end after LATENCY_ROUNDS."""

FLOAT_IN = {"torch": "float network, traced", "onnxruntime": FLOAT_ARTIFACT, "openvino": "float.onnx in OpenVINO"}
"""Runtime -> what stands for the float model there; in OpenVINO it is timed only if an artifact is."""


def take_turns(job: Job, path: Callable[[str], Path], crop: Crop) -> dict[str, Latency]:
    """Time everything that is meant for this machine on one crop [1, height, width, 3], on one thread, in turns."""
    one = job.model.spec.preprocess(crop)
    torch.set_num_threads(1)
    try:
        return measure_latency(_calls(job, path, one), rounds=LATENCY_ROUNDS, budget_s=LATENCY_BUDGET_S)
    finally:
        torch.set_num_threads(job.threads)


def _calls(job: Job, path: Callable[[str], Path], example: npt.NDArray[np.float32]) -> dict[str, Callable[[], object]]:
    calls: dict[str, Callable[[], object]] = {
        FLOAT_IN["torch"]: partial(frozen(job.model, example), example),
        FLOAT_ARTIFACT: repeat_onnx(path(FLOAT_ARTIFACT), example, threads=1),
        FAST_ARTIFACT: repeat_onnx(path(FAST_ARTIFACT), example, threads=1),
    }
    for name in job.recipe.backends:
        backend = BACKENDS.get(name)
        if not foreign(backend):
            calls[backend.artifact] = _call(backend, path(backend.artifact), example)
        if backend.runtime == "openvino":
            calls[FLOAT_IN["openvino"]] = repeat_openvino(path(FLOAT_ARTIFACT), example, threads=1)
    return calls


def _call(backend: Backend, file: Path, example: npt.NDArray[np.float32]) -> Callable[[], object]:
    if backend.runtime == "onnxruntime":
        return repeat_onnx(file, example, threads=1, signed_allowed=backend.engine == "arm")
    if backend.runtime == "openvino":
        return repeat_openvino(file, example, threads=1)
    return partial(backend.open(file, threads=1), example)


def speeds(runtime: str, latency: Latency | None, latencies: Mapping[str, Latency]) -> dict[str, Any]:
    """Return how many times as fast as the float files for its runtime something is."""
    if latency is None:
        return {}
    references = {"times_faster": FLOAT_IN[runtime]}
    if runtime == "onnxruntime":
        references["times_faster_than_fast"] = FAST_ARTIFACT
    return {key: times_faster(latencies[name], latency) for key, name in references.items()}


def frozen(model: FloatModel, example: npt.NDArray[np.float32]) -> Embed:
    """Return the float network in torch's fastest plain form, traced and frozen as the int8 archives are."""
    with torch.no_grad():
        frozen = torch.jit.freeze(torch.jit.trace(model.network.eval(), torch.from_numpy(example)))  # type: ignore[no-untyped-call]  # torch ships it so

    def run(inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            embeddings: npt.NDArray[np.float32] = frozen(torch.from_numpy(inputs)).numpy()
            return embeddings

    return run


def foreign(backend: Backend) -> str | None:
    """Return why a backend's speed on this machine would say nothing, or None if it would."""
    if backend.runtime == RUNTIME:
        return "a simulation; its speed says nothing"
    here = "arm" if platform.machine() in ("aarch64", "arm64") else "x86"
    meant = "arm" if backend.engine in ("qnnpack", "arm") else "x86"
    return None if here == meant else f"made for {meant}; its speed on {here} says nothing"
