"""Open a file in the runtime that it is made for, with nothing of this project imported.

A process of its own loads each file to weigh its memory (load_once.py), and what the toolkit brings along would weigh
more than most of them. Every runtime is set as the toolkit's own measurements set it.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Run = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
"""Runs a model: inputs float32 [N, 3, height, width] to embeddings float32 [N, D]."""

ONNXRUNTIME, OPENVINO, OPENVINO_BF16, TORCH = "onnxruntime", "openvino", "openvino-bf16", "torch"
PACKAGES = {ONNXRUNTIME: "onnxruntime", OPENVINO: "openvino", OPENVINO_BF16: "openvino", TORCH: "torch"}


def open_file(runtime: str, file: Path, threads: int, batch: int = 1) -> Run:
    """Load a file; `batch` is the size that it is prepared for, others cost time when they come."""
    package = importlib.import_module(PACKAGES[runtime])
    if runtime == ONNXRUNTIME:
        return _onnxruntime(package, file, threads)
    if runtime == TORCH:
        return _torch(package, file, threads)
    return _openvino(package, file, threads, batch, "bf16" if runtime == OPENVINO_BF16 else "f32")


def _onnxruntime(package: Any, file: Path, threads: int) -> Run:  # noqa: ANN401 - a module
    options = package.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    # A thread that goes on spinning would take its core from whichever candidate comes next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = package.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda inputs: session.run(None, {name: inputs})[0]


def _torch(package: Any, file: Path, threads: int) -> Run:  # noqa: ANN401 - a module
    package.set_num_threads(threads)
    package.backends.quantized.engine = "x86"
    network = package.jit.load(str(file))

    def run(inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with package.inference_mode():
            embeddings: npt.NDArray[np.float32] = network(package.from_numpy(inputs)).numpy()
            return embeddings

    return run


def _openvino(package: Any, file: Path, threads: int, batch: int, precision: str) -> Run:  # noqa: ANN401 - a module
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }
    core = package.Core()

    def compiled(size: int) -> Any:  # noqa: ANN401 - OpenVINO's request
        model = core.read_model(str(file))
        model.reshape([size, *(length.get_length() for length in list(model.input().get_partial_shape())[1:])])
        return core.compile_model(model, "CPU", options).create_infer_request()

    requests = {batch: compiled(batch)}

    def run(inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if len(inputs) not in requests:
            requests[len(inputs)] = compiled(len(inputs))
        return np.array(requests[len(inputs)].infer([inputs])[0])

    return run
