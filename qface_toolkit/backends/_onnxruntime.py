"""Running ONNX files, ours and the float reference, and seeing what ONNX Runtime makes of them."""

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from qface_toolkit.backends._base import Embed, SeveralOutputs
from qface_toolkit.backends._pixels import IMAGE, read_pixels_of
from qface_toolkit.errors import ArtifactError, BackendUnavailable
from qface_toolkit.models import SHORTEST_EMBEDDING
from qface_toolkit.models.onnx import is_channels_last
from qface_toolkit.untrusted.reading import printable
from qface_toolkit.verifier import RUNTIME_KEY, fact, too_old

Outputs = Callable[[npt.NDArray[np.float32]], list[npt.NDArray[Any]]]
"""Runs a file: inputs float32 [N, C, height, width] to all its outputs."""

Fed = Callable[[npt.NDArray[np.float32]], dict[str, npt.NDArray[Any]]]
"""Makes a session's arguments of inputs float32 [N, C, height, width]."""

REFUSED = "export it again for this runtime, with standard operators, or update onnxruntime"
ERRORS = (
    failures.Fail,
    failures.InvalidGraph,
    failures.InvalidProtobuf,
    failures.NotImplemented,
    failures.InvalidArgument,
    failures.RuntimeException,
    failures.NoSuchFile,
    # Of its own messages, where they quote bytes of the file that are not text.
    UnicodeDecodeError,
)


def open_onnx(
    artifact: Path,
    threads: int,
    *,
    content: bytes | None = None,
    signed_allowed: bool = False,
    limits: onnxruntime.RunOptions | None = None,
) -> Embed:
    """Load an ONNX file for running with this many threads; one that takes pixels is given those of its inputs.

    `content` are the file's bytes where they were looked into already. `signed_allowed` lets signed activations run on
    integers where the runtime would rather leave them float. `limits` are the options of every run.

    Raises:
        BackendUnavailable: if the file says that it needs a newer runtime than this machine's.
        ArtifactError: if the runtime refuses the file.
    """
    run = open_outputs(artifact, content or str(artifact), threads, signed_allowed=signed_allowed, limits=limits)
    return lambda inputs: _embeddings(run(inputs), len(inputs), artifact)


def free_sizes(model: onnx.ModelProto) -> bool:
    """Let sizes that are written as zero or below, and those of an input without a shape, be any; tell of some.

    They are meant so, and the runtime would feed such a file nothing but empty batches.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    kinds = [value.type.tensor_type for value in model.graph.input if value.name not in weights]
    silent = [kind for kind in kinds if not kind.HasField("shape")]
    for kind in silent:
        kind.shape.dim.extend(onnx.TensorShapeProto.Dimension() for _ in range(4))
    values = (*model.graph.input, *model.graph.output)
    axes = [axis for value in values for axis in value.type.tensor_type.shape.dim]
    odd = [axis for axis in axes if axis.HasField("dim_value") and axis.dim_value <= 0]
    for axis in odd:
        axis.ClearField("dim_value")
    return bool(odd or silent)


def open_outputs(
    artifact: Path,
    content: str | bytes,
    threads: int,
    *,
    signed_allowed: bool = False,
    limits: onnxruntime.RunOptions | None = None,
) -> Outputs:
    """Load an ONNX file, or a changed copy of it, and return what runs it and gives all its outputs; see `open_onnx`.

    `content` is the file's path or the copy's bytes.
    """
    session, fed = _opened(artifact, content, session_options(threads), signed_allowed)

    def run(inputs: npt.NDArray[np.float32]) -> list[npt.NDArray[Any]]:
        outputs: list[npt.NDArray[Any]] = session.run(None, fed(inputs), limits)
        return outputs

    return run


def repeat_onnx(
    artifact: Path,
    inputs: npt.NDArray[np.float32],
    threads: int,
    *,
    content: bytes | None = None,
    signed_allowed: bool = False,
) -> Callable[[], object]:
    """Load an ONNX file and return what runs it on these inputs, prepared once, for timing; see `open_onnx`.

    Threads spin between operators, as they do in a program that leaves the options of the runtime alone.
    """
    options = session_options(threads, spinning=True)
    session, fed = _opened(artifact, content or str(artifact), options, signed_allowed)
    given = fed(inputs)
    return lambda: session.run(None, given)


def _opened(
    artifact: Path, content: str | bytes, options: onnxruntime.SessionOptions, signed_allowed: bool
) -> tuple[onnxruntime.InferenceSession, Fed]:
    """Return a session, and what makes its arguments of preprocessed images."""
    if signed_allowed:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = _session(artifact, content, options)
    facts = session.get_modelmeta().custom_metadata_map
    _check_runtime(facts.get(RUNTIME_KEY), artifact)
    entering = session.get_inputs()[0]
    name = entering.name
    if name != IMAGE or entering.type != "tensor(uint8)":
        return session, _feeding(name, entering.type, is_channels_last(entering.shape))
    pixels_of = read_pixels_of(facts, artifact)
    return session, lambda inputs: {name: pixels_of(inputs)}


_TYPES = {"tensor(float16)": np.float16, "tensor(double)": np.float64}


def _feeding(name: str, kind: str, channels_last: bool) -> Fed:
    """Return what makes the arguments of a stranger's file: its own type of numbers, its own order of axes."""
    dtype = _TYPES.get(kind, np.float32)
    if not channels_last:
        return lambda inputs: {name: inputs.astype(dtype, copy=False)}
    return lambda inputs: {name: np.ascontiguousarray(inputs.transpose(0, 2, 3, 1), dtype)}


def _embeddings(outputs: list[npt.NDArray[Any]], count: int, artifact: Path) -> npt.NDArray[np.float32]:
    """Return the embeddings [N, D] among outputs, by the rules of the reader that `compress` uses.

    It is the only output, or the only one that can be, as one number an image is a norm; of a matrix and others it is
    the matrix.
    """
    if len(outputs) == 1 and outputs[0].ndim == 2 and outputs[0].dtype == np.float32:
        return outputs[0]
    able = [one for one in outputs if _can_be(one, count)]
    matrices = [one for one in able if one.ndim == 2]
    chosen = matrices if len(matrices) == 1 else able
    if len(chosen) == 1:
        return chosen[0].reshape(count, -1).astype(np.float32, copy=False)
    if len(outputs) == 1:
        return outputs[0]
    what = f"it has {len(outputs)} outputs, of the shapes {[list(one.shape) for one in outputs][:8]}, and "
    what += "more than one can be the embedding" if able else "none is an embedding [N, D]"
    raise SeveralOutputs(what, where=str(artifact), fix="say which: --set model.output=NAME")


def _can_be(output: npt.NDArray[Any], count: int) -> bool:
    each = output.shape[1:]
    if output.dtype.kind != "f" or not each or len(output) != count:
        return False
    return bool(max(each) == math.prod(each) >= SHORTEST_EMBEDDING)


def _check_runtime(needed: str | None, artifact: Path) -> None:
    what = too_old(needed, onnxruntime.__version__)
    if what is not None:
        raise BackendUnavailable(what, where=str(artifact), fix=f"pip install 'onnxruntime>={needed}'")


def session_options(threads: int, *, spinning: bool = False) -> onnxruntime.SessionOptions:
    """Return the options that everything is run and measured with.

    Without `spinning` threads that wait for each other sleep, as torch's do in our commands (qface_toolkit._process):
    beside a busy process they would take the core that the others wait for. One thread never waits.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # What goes wrong is raised, and said by whoever catches it; the runtime need not print it, too.
    options.log_severity_level = 4
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def new_session(content: str | bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """Return a session on the CPU; `content` is a file's path or bytes.

    After some errors the runtime would print a notice on stdout and try the same once more; an error is raised instead.
    """
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)


def _session(artifact: Path, content: str | bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    try:
        return new_session(content, options)
    except ERRORS as error:
        _check_runtime(_needed_runtime(content), artifact)
        said = printable(str(error).strip().partition("\n")[0], 400)
        raise ArtifactError(
            f"ONNX Runtime {onnxruntime.__version__} refuses the file: {said}",
            where=str(artifact),
            fix=REFUSED,
        ) from error


def _needed_runtime(content: str | bytes) -> str | None:
    """Return the oldest runtime that a file asks for, which one that refuses the file cannot tell."""
    with contextlib.suppress(OSError):
        return fact(content if isinstance(content, bytes) else Path(content).read_bytes(), RUNTIME_KEY)
    return None
