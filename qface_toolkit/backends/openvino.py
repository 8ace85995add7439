"""ONNX for OpenVINO: quantize/dequantize pairs around a convolution and its activation together, as it fuses them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from qface_toolkit.backends._base import Backend, Content, Embed, Facts, Floats
from qface_toolkit.backends._onnx_files import OnnxFiles
from qface_toolkit.backends._openvino import open_openvino, repeat_openvino
from qface_toolkit.backends._openvino_profile import inspect_openvino
from qface_toolkit.backends.onnx_qdq._fused import FusedPrinter
from qface_toolkit.errors import MeasurementError
from qface_toolkit.integer.making import program_of
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.target import OPENVINO, Target
from qface_toolkit.runtimes import OPENVINO as RUNTIME
from qface_toolkit.runtimes.fusion import Fusion
from qface_toolkit.scoring.parity import Codes
from qface_toolkit.untrusted.limits import limited_memory


@dataclass(frozen=True)
class OpenVino(OnnxFiles, Backend):
    """A QDQ file for OpenVINO on a processor."""

    runtime = RUNTIME
    artifact: str = "int8.openvino.onnx"
    no_codes = "OpenVINO rounds inside kernels in ways of its own, so only embeddings are compared"
    engine: str = "cpu"
    target: Target = OPENVINO

    def lower(self, model: QuantizedModel, facts: Facts) -> bytes:
        """Return the ONNX file; facts become its metadata. OpenVINO is not needed to write it."""
        self.check(self.artifact, model.scheme, model.network)
        written = FusedPrinter(program_of(model, self.target)).printed().model
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

    def codes(self, artifact: Path, model: QuantizedModel, inputs: npt.NDArray[np.float32]) -> Mapping[str, Codes]:
        """Raise MeasurementError: looked at, a tensor may come from another kernel, which rounds otherwise."""
        raise MeasurementError(self.no_codes, where=str(artifact))

    def inspect(self, artifact: Path) -> Fusion:
        """Return what OpenVINO runs."""
        return inspect_openvino(artifact)


ENTRIES = {"openvino": OpenVino()}
