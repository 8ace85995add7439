"""ONNX with quantize/dequantize pairs, written by ourselves: no stock exporter writes int8 weights and int8 PReLU."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from qface_toolkit.backends._base import Embed, Facts
from qface_toolkit.backends._onnxruntime import OLDEST_RUNTIME, RUNTIME_KEY, open_onnx, optimized_operators
from qface_toolkit.backends._profile import inspect_onnx
from qface_toolkit.backends.onnx_qdq.writer import write_qdq
from qface_toolkit.measure.fusion import Fusion
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import ONNX, Target


@dataclass(frozen=True)
class OnnxQdq:
    """A QDQ file for one kind of processor."""

    artifact: str
    engine: str
    target: Target = ONNX
    runtime: str = "onnxruntime"

    def lower(self, model: QuantizedModel, facts: Facts) -> bytes:
        """Return the ONNX file; facts become its metadata."""
        written = write_qdq(model)
        onnx.checker.check_model(written)
        onnx.helper.set_model_props(written, dict(facts) | {RUNTIME_KEY: OLDEST_RUNTIME})
        content: bytes = written.SerializeToString(deterministic=True)
        return content

    def open(self, artifact: Path, threads: int) -> Embed:
        """Load a file in ONNX Runtime."""
        return open_onnx(artifact, threads)

    def inspect(self, artifact: Path) -> Fusion:
        """Return what ONNX Runtime runs; a file for ARM is let run as it would there, if not as fast."""
        return inspect_onnx(artifact, signed_allowed=self.engine == "arm")

    def operators(self, artifact: Path) -> Mapping[str, int]:
        """Return the operators that ONNX Runtime runs."""
        return optimized_operators(artifact)


ENTRIES = {"onnx-x86": OnnxQdq("int8.x86.onnx", engine="x86")}
