"""Running ONNX files, ours and the float reference, and seeing what ONNX Runtime makes of them."""

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from qface_toolkit.backends._base import Embed
from qface_toolkit.backends._pixels import IMAGE, read_pixels_of
from qface_toolkit.errors import ArtifactError, BackendUnavailable

RUNTIME_KEY = "qface.onnxruntime"
ERRORS = (failures.Fail, failures.InvalidGraph, failures.InvalidProtobuf, failures.NotImplemented,
          failures.InvalidArgument, failures.RuntimeException, failures.NoSuchFile)  # fmt: skip


def open_onnx(artifact: Path, threads: int, *, signed_allowed: bool = False) -> Embed:
    """Load an ONNX file for running with this many threads; one that takes pixels is given those of its inputs.

    `signed_allowed` lets signed activations run on integers where the runtime would rather leave them float.

    Raises:
        BackendUnavailable: if the file says that it needs a newer runtime than this machine's.
        ArtifactError: if the runtime refuses the file.
    """
    options = session_options(threads)
    if signed_allowed:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = _session(artifact, options)
    facts = session.get_modelmeta().custom_metadata_map
    needed = facts.get(RUNTIME_KEY, "0")
    if _version(onnxruntime.__version__) < _version(needed):
        raise BackendUnavailable(
            f"the file needs onnxruntime {needed} or newer, here is {onnxruntime.__version__}",
            where=str(artifact),
            fix=f"pip install 'onnxruntime>={needed}'",
        )

    name = session.get_inputs()[0].name
    pixels_of = read_pixels_of(facts, artifact) if name == IMAGE else None

    def embed(inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        embeddings: npt.NDArray[np.float32] = session.run(None, {name: pixels_of(inputs) if pixels_of else inputs})[0]
        return embeddings

    return embed


def optimized_operators(artifact: Path) -> Mapping[str, int]:
    """Return how many of each operator are left after ONNX Runtime's own optimization on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        options = session_options(threads=1)
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        _session(artifact, options)
        return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Return the options that everything is run and measured with."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _session(artifact: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(str(artifact), options, providers=["CPUExecutionProvider"])
    except ERRORS as error:
        raise ArtifactError(
            f"ONNX Runtime {onnxruntime.__version__} refuses the file: {error}", where=str(artifact)
        ) from error


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("+")[0].split(".")[:3] if part.isdigit())
