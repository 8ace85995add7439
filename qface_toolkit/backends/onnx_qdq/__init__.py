"""ONNX with quantize/dequantize pairs, written by ourselves: no stock exporter writes int8 weights and int8 PReLU."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from torch import fx

from qface_toolkit.backends._base import Backend, Facts
from qface_toolkit.backends._onnx_files import OnnxRuntimeFiles
from qface_toolkit.backends._pixels import pixel_facts
from qface_toolkit.backends.onnx_qdq._builder import SIGNED, UNSIGNED, CodeType
from qface_toolkit.backends.onnx_qdq._codes import read_onnx_codes
from qface_toolkit.backends.onnx_qdq._groups import regrouped
from qface_toolkit.backends.onnx_qdq._printed import Printed
from qface_toolkit.backends.onnx_qdq.measure_times import measure_times
from qface_toolkit.backends.onnx_qdq.predict import predict_model, predict_network
from qface_toolkit.backends.onnx_qdq.printer import QdqPrinter, oldest_runtime
from qface_toolkit.integer.making import program_of
from qface_toolkit.integer.program import Program
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.target import ONNX, ONNX_SIGNED, Target
from qface_toolkit.scoring.parity import Codes
from qface_toolkit.times import Row, TimeTable
from qface_toolkit.verifier import MACHINE_KEY, RUNTIME_KEY


@dataclass(frozen=True)
class OnnxQdq(OnnxRuntimeFiles, Backend):
    """A QDQ file for one kind of processor."""

    settings = ("target.onnxruntime", "target.vnni", "target.prelu", "export.input")

    artifact: str
    engine: str
    target: Target
    code_type: CodeType

    @property
    def signed(self) -> bool:
        """Whether activations are signed, as processors of ARM's kind like them."""
        return self.code_type is SIGNED

    def lower(self, model: QuantizedModel, facts: Facts) -> bytes:
        """Return the ONNX file; facts become its metadata, with those that its own form decides."""
        self.check(self.artifact, model.scheme, model.network)
        program = program_of(model, self.target)
        written = self._printed(program, model).model
        own = pixel_facts(model.spec) if program.takes_pixels else {}
        own |= {RUNTIME_KEY: oldest_runtime(program), MACHINE_KEY: self.engine}
        onnx.helper.set_model_props(written, dict(facts) | own)
        formed = self.form(written)
        onnx.checker.check_model(formed)
        content: bytes = formed.SerializeToString(deterministic=True)
        return content

    def printed(self, model: QuantizedModel) -> Printed:
        """Return the graph of a model and the names of its values in it."""
        return self._printed(program_of(model, self.target), model)

    def _printed(self, program: Program, model: QuantizedModel) -> Printed:
        written, turned = regrouped(program, model.groups)
        return QdqPrinter(written, self.code_type, turned).printed()

    def form(self, written: onnx.ModelProto) -> onnx.ModelProto:
        """Return what the file holds of a complete QDQ model: here, all of it as it is."""
        return written

    def codes(self, artifact: Path, model: QuantizedModel, inputs: npt.NDArray[np.float32]) -> dict[str, Codes]:
        """Return the codes that the file itself computes."""
        return read_onnx_codes(artifact, self.printed(model).codes, self.code_type, inputs)

    def code_names(self, model: QuantizedModel) -> Mapping[str, str]:
        """Return what the file calls them, by a letter or two."""
        return self.printed(model).codes

    def time_operators(self, rows: Iterable[Row], progress: Callable[[int, int], None]) -> Mapping[Row, float]:
        """Return how long convolutions take in ONNX Runtime."""
        return measure_times(rows, progress=progress)

    def predict(self, model: QuantizedModel, times: TimeTable) -> Mapping[str, float] | None:
        """Return what the table of operator times gives for x86; for ARM there are cycles of forms and no more."""
        return predict_model(model, self.target, times).layers if self.machine == "x86" else None

    def foresee(self, canonical: fx.GraphModule, spec: ModelSpec, times: TimeTable) -> Mapping[str, float] | None:
        """Return what the table of operator times gives for x86."""
        return predict_network(canonical, spec, self.target, times).layers if self.machine == "x86" else None

    def layer_names(self, model: QuantizedModel) -> dict[str, str]:
        """Return which tensor of the file, which calls everything by a letter or two, ends which layer."""
        return self.printed(model).layer_names()


ENTRIES = {
    "onnx-x86": OnnxQdq("int8.x86.onnx", "x86", ONNX, UNSIGNED),
    "onnx-arm": OnnxQdq("int8.arm.onnx", "arm", ONNX_SIGNED, SIGNED),
}
