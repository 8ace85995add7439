"""ONNX with quantize/dequantize pairs, written by ourselves: no stock exporter writes int8 weights and int8 PReLU."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from qface_toolkit.backends._base import Embed, Facts
from qface_toolkit.backends._expressible import check_expressible
from qface_toolkit.backends._onnxruntime import RUNTIME_KEY, open_onnx
from qface_toolkit.backends._pixels import pixel_facts
from qface_toolkit.backends._profile import inspect_onnx
from qface_toolkit.backends.onnx_qdq._activations import oldest_runtime
from qface_toolkit.backends.onnx_qdq._codes import read_onnx_codes
from qface_toolkit.backends.onnx_qdq._tensors import SIGNED, UNSIGNED, CodeType
from qface_toolkit.backends.onnx_qdq.writer import code_names, write_qdq
from qface_toolkit.quantize.image_input import takes_pixels
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import ONNX, ONNX_SIGNED, Target
from qface_toolkit.runtimes.fusion import Fusion
from qface_toolkit.scoring.parity import Codes


@dataclass(frozen=True)
class OnnxQdq:
    """A QDQ file for one kind of processor."""

    artifact: str
    engine: str
    target: Target
    code_type: CodeType
    runtime: str = "onnxruntime"

    def lower(self, model: QuantizedModel, facts: Facts) -> bytes:
        """Return the ONNX file; facts become its metadata, with those that its own form decides."""
        check_expressible(self.artifact, self.runtime, model.scheme, model.network)
        written = write_qdq(model, self.code_type)
        own = pixel_facts(model.spec) if takes_pixels(model, self.target) else {}
        onnx.helper.set_model_props(written, dict(facts) | own | {RUNTIME_KEY: oldest_runtime(model)})
        formed = self.form(written)
        onnx.checker.check_model(formed)
        content: bytes = formed.SerializeToString(deterministic=True)
        return content

    def form(self, written: onnx.ModelProto) -> onnx.ModelProto:
        """Return what the file holds of a complete QDQ model: here, all of it as it is."""
        return written

    def open(self, artifact: Path, threads: int, content: bytes | None = None) -> Embed:
        """Load a file in ONNX Runtime; a file for ARM is let run on integers here too, if not as fast as there."""
        return open_onnx(artifact, threads, content=content, signed_allowed=self.engine == "arm")

    def codes(self, artifact: Path, model: QuantizedModel, inputs: npt.NDArray[np.float32]) -> dict[str, Codes]:
        """Return the codes that the file itself computes."""
        return read_onnx_codes(artifact, code_names(model, self.code_type), self.code_type, inputs)

    def inspect(self, artifact: Path) -> Fusion:
        """Return what ONNX Runtime runs; a file for ARM is let run as it would there, if not as fast."""
        return inspect_onnx(artifact, signed_allowed=self.engine == "arm")


ENTRIES = {
    "onnx-x86": OnnxQdq("int8.x86.onnx", "x86", ONNX, UNSIGNED),
    "onnx-arm": OnnxQdq("int8.arm.onnx", "arm", ONNX_SIGNED, SIGNED),
}
