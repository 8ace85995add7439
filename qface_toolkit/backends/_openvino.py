"""Running ONNX files in OpenVINO: ours, and the float model that they are compared with.

OpenVINO is an extra: nothing of it is imported before it is needed.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from qface_toolkit.backends._base import Embed
from qface_toolkit.errors import ArtifactError, BackendUnavailable
from qface_toolkit.untrusted.writing import disk_errors

Outputs = Callable[[npt.NDArray[np.float32]], list[npt.NDArray[Any]]]
"""Runs a file: inputs float32 [N, C, height, width] to all its outputs."""

MOST_SIZES = 2


def openvino() -> ModuleType:
    """Import OpenVINO.

    Raises:
        BackendUnavailable: naming the extra that installs it.
    """
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise BackendUnavailable(
            f"OpenVINO cannot be imported: {error}", fix="pip install 'qface_toolkit[openvino]'"
        ) from error


def open_openvino(artifact: Path, threads: int, content: bytes | None = None) -> Embed:
    """Load an ONNX file, whose bytes may have been read already, for running in OpenVINO with this many threads.

    Raises:
        BackendUnavailable: if OpenVINO is not installed.
        ArtifactError: if the file cannot be read, or OpenVINO refuses it.
    """
    with disk_errors(artifact):
        run = open_outputs(artifact, content or artifact.read_bytes(), threads)
    return lambda inputs: run(inputs)[0]


def open_outputs(artifact: Path, content: bytes, threads: int) -> Outputs:
    """Load an ONNX file, or a changed copy of it, and return what runs it and gives all its outputs; see above.

    Where the batch size is open, OpenVINO plans the network anew for every call, which takes longer than running a
    small one. So it is compiled for each size that comes along; the last ones are kept.
    """
    requests = {1: compiled(artifact, content, 1, threads).create_infer_request()}

    def run(inputs: npt.NDArray[np.float32]) -> list[npt.NDArray[Any]]:
        size = len(inputs)
        if size not in requests:
            for old in list(requests)[: len(requests) + 1 - MOST_SIZES]:
                del requests[old]
            requests[size] = compiled(artifact, content, size, threads).create_infer_request()
        found = requests[size].infer([np.ascontiguousarray(inputs)])
        return [np.array(found[place]) for place in range(len(found))]

    return run


def repeat_openvino(
    artifact: Path, inputs: npt.NDArray[np.float32], threads: int, content: bytes | None = None
) -> Callable[[], object]:
    """Load an ONNX file and return what runs it on these inputs, handed over once, for timing; see `open_openvino`."""
    with disk_errors(artifact):
        request = compiled(artifact, content or artifact.read_bytes(), len(inputs), threads).create_infer_request()
    request.set_input_tensor(openvino().Tensor(np.ascontiguousarray(inputs)))
    return lambda: request.infer()


def compiled(artifact: Path, content: bytes, batch: int, threads: int, *, timed: bool = False) -> Any:  # noqa: ANN401 - OpenVINO may be absent, and its types with it
    """Return an ONNX file compiled for the processor and this batch size; `timed` lets it time each operator.

    What is left in float stays float32: by default some processors would run it in bfloat16, and give other numbers.

    Raises:
        BackendUnavailable: if OpenVINO is not installed.
        ArtifactError: if it refuses the file.
    """
    package = openvino()
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
        "PERF_COUNT": timed,
    }
    core = package.Core()
    try:
        model = core.read_model(content)
        sizes = list(model.input().get_partial_shape())
        model.reshape([batch, *(size.get_length() for size in sizes[1:])])
        return core.compile_model(model, "CPU", options)
    except (RuntimeError, TypeError, ValueError) as error:
        said = (str(error).strip().splitlines() or ["it does not say why"])[-1][:300]
        raise ArtifactError(f"OpenVINO {package.__version__} refuses the file: {said}", where=str(artifact)) from error
