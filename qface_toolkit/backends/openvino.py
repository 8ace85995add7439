"""ONNX for OpenVINO: quantize/dequantize pairs around a convolution and its activation together, as it fuses them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from qface_toolkit.backends._base import Backend, Content, Embed, Facts, Floats
from qface_toolkit.backends._onnx_files import OnnxFiles
from qface_toolkit.backends._openvino import open_openvino, open_outputs, repeat_openvino
from qface_toolkit.backends._openvino_profile import inspect_openvino
from qface_toolkit.backends.onnx_qdq._codes import with_outputs
from qface_toolkit.backends.onnx_qdq._tensors import UNSIGNED
from qface_toolkit.backends.onnx_qdq.writer import code_names, value_names, write_qdq
from qface_toolkit.errors import MeasurementError
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import OPENVINO, Target
from qface_toolkit.quantize.scheme import activation_qparams
from qface_toolkit.runtimes import OPENVINO as RUNTIME
from qface_toolkit.runtimes.fusion import Fusion
from qface_toolkit.scoring.parity import Codes
from qface_toolkit.untrusted.limits import limited_memory


@dataclass(frozen=True)
class OpenVino(OnnxFiles, Backend):
    """A QDQ file for OpenVINO on a processor."""

    runtime = RUNTIME
    artifact: str = "int8.openvino.onnx"
    engine: str = "cpu"
    target: Target = OPENVINO

    def lower(self, model: QuantizedModel, facts: Facts) -> bytes:
        """Return the ONNX file; facts become its metadata. OpenVINO is not needed to write it."""
        self.check(self.artifact, model.scheme, model.network)
        written = write_qdq(model, UNSIGNED, self.target)
        onnx.checker.check_model(written)
        onnx.helper.set_model_props(written, dict(facts))
        content: bytes = written.SerializeToString(deterministic=True)
        return content

    def open(self, file: Path, threads: int, content: Content | None = None) -> Embed:
        """Load a file in OpenVINO."""
        return open_openvino(file, threads, content.data if content else None)

    def try_out(self, file: Path, inputs: Floats, content: Content) -> Floats:
        """Return the embeddings that a file gives within a bound of memory."""
        with limited_memory(file):
            return self.open(file, 1, content)(inputs)

    def repeat(self, file: Path, inputs: Floats, threads: int, content: Content | None = None) -> Callable[[], object]:
        """Load a file and return what runs it on these inputs, handed over once."""
        return repeat_openvino(file, inputs, threads, content.data if content else None)

    def codes(self, artifact: Path, model: QuantizedModel, inputs: npt.NDArray[np.float32]) -> dict[str, Codes]:
        """Return the codes that a copy of the file computes that returns them too.

        Looked at, a tensor may come from another kernel, which rounds a few of its numbers otherwise.
        """
        copy, names = _with_moves(onnx.load(artifact), model, code_names(model, UNSIGNED, self.target))
        read = list(dict.fromkeys(names.values()))
        content = with_outputs(copy, names, UNSIGNED).SerializeToString()
        embedding, *found = open_outputs(artifact, content, threads=1)(inputs)
        if not np.array_equal(embedding, self.open(artifact, threads=1)(inputs)):
            what = "the file computes something else once its tensors are looked at"
            raise MeasurementError(what, where=str(artifact))
        by_name = dict(zip(read, found, strict=True))
        return {tensor: by_name[name] for tensor, name in names.items()}

    def inspect(self, artifact: Path) -> Fusion:
        """Return what OpenVINO runs."""
        return inspect_openvino(artifact)


def _with_moves(
    file: onnx.ModelProto, model: QuantizedModel, names: dict[str, str]
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Return a file that quantizes what it only moves, too, and the name of each tensor's codes."""
    found, made = dict(names), {output for node in file.graph.node for output in node.output}
    for tensor, value in value_names(model, OPENVINO).items():
        if tensor in found or not model.plan.quantized(tensor, OPENVINO.family) or value not in made:
            continue
        scale, zero_point = activation_qparams(model.range_of(tensor, OPENVINO))
        grid = (
            numpy_helper.from_array(np.asarray(scale), f"{tensor}.scale"),
            numpy_helper.from_array(np.asarray(zero_point, np.uint8), f"{tensor}.zero_point"),
        )
        found[tensor] = f"{tensor}.codes"
        file.graph.initializer.extend(grid)
        file.graph.node.append(
            helper.make_node("QuantizeLinear", [value, *(part.name for part in grid)], [found[tensor]])
        )
    return file, {tensor: found[tensor] for tensor in model.plan.tensors if tensor in found}


ENTRIES = {"openvino": OpenVino()}
