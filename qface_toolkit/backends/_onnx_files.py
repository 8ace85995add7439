"""ONNX files, ours and anybody's: what is told of them before they run, and running them in ONNX Runtime."""

from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
import onnxruntime

from qface_toolkit.backends._base import Content, Embed, Floats, ImageInput, Runner
from qface_toolkit.backends._onnxruntime import ERRORS, open_onnx, repeat_onnx
from qface_toolkit.backends._pixels import IMAGE
from qface_toolkit.backends._profile import inspect_onnx
from qface_toolkit.errors import ArtifactError
from qface_toolkit.models import SIDES, is_size
from qface_toolkit.runtimes import ONNX_RUNTIME
from qface_toolkit.runtimes.fusion import Fusion
from qface_toolkit.untrusted.limits import limited_memory, limited_time
from qface_toolkit.untrusted.onnx import read_onnx

_ASKS_FOR_INTEGERS = ("Quantize", "Integer")


class OnnxFiles(Runner):
    """Runs ONNX files: what can be told of them before they run, whatever runs them."""

    def read(self, file: Path) -> Content:
        """Return an ONNX file with all its data inside."""
        found = read_onnx(file)
        facts = {str(entry.key): str(entry.value) for entry in found.model.metadata_props}
        return Content(found.data, found.sha256, facts, parsed=found.model)

    def image_input(self, file: Path, content: Content) -> ImageInput:
        """Return what the only input is made for."""
        return _image_input(content.parsed, file)

    def float_network(self, content: Content) -> bool:
        """Tell whether no operator asks for integers."""
        kinds = {node.op_type for node in content.parsed.graph.node}
        return not any(word in kind for kind in kinds for word in _ASKS_FOR_INTEGERS)


class OnnxRuntimeFiles(OnnxFiles):
    """Runs ONNX files in ONNX Runtime."""

    runtime = ONNX_RUNTIME

    @property
    def loading(self) -> Mapping[str, bool] | None:
        """Options of the program that measures loading, which loads ONNX files in ONNX Runtime."""
        return {"signed": self.signed}

    @property
    def signed(self) -> bool:
        """Whether signed activations shall run on integers here too, where the runtime would leave them float."""
        return False

    def open(self, file: Path, threads: int, content: Content | None = None) -> Embed:
        """Load a file in ONNX Runtime; a file for ARM is let run on integers here too, if not as fast as there."""
        data = content.data if content else None
        return open_onnx(file, threads, content=data, signed_allowed=self.signed)

    def try_out(self, file: Path, inputs: Floats, content: Content) -> Floats:
        """Return the embeddings that a file gives within bounds of memory and time."""
        try:
            with limited_memory(file), limited_time() as limits:
                run = open_onnx(file, 1, content=content.data, signed_allowed=self.signed, limits=limits)
                return run(inputs)
        except ERRORS as error:
            what = f"the runtime cannot run the file: {str(error).splitlines()[0]}"
            raise ArtifactError(what, where=str(file), fix="make it again, or give another file") from error

    def repeat(self, file: Path, inputs: Floats, threads: int, content: Content | None = None) -> Callable[[], object]:
        """Load a file and return what runs it on these inputs, pixels made of them if it takes those."""
        data = content.data if content else None
        return repeat_onnx(file, inputs, threads, content=data, signed_allowed=self.signed)

    def inspect(self, file: Path) -> Fusion:
        """Return what ONNX Runtime runs; a file for ARM is let run as it would there, if not as fast."""
        return inspect_onnx(file, signed_allowed=self.signed)

    def version(self, content: Content | None = None) -> str:
        """Return ONNX Runtime and its version."""
        return f"{self.runtime} {onnxruntime.__version__}"


def _image_input(file: onnx.ModelProto, path: Path) -> ImageInput:
    weights = {tensor.name for tensor in file.graph.initializer}
    inputs = [value for value in file.graph.input if value.name not in weights]
    kind = inputs[0].type.tensor_type.elem_type if len(inputs) == 1 else onnx.TensorProto.FLOAT
    if kind not in (onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8):
        what = f"the file takes {onnx.TensorProto.DataType.Name(kind)} where float32 is fed"
        raise ArtifactError(what, where=str(path), fix="export it with float32 inputs")
    shape = [
        dimension.dim_value if dimension.HasField("dim_value") else None
        for value in inputs[:1]
        for dimension in value.type.tensor_type.shape.dim
    ]
    if len(inputs) == 1 and inputs[0].name == IMAGE and len(shape) == 4:
        shape = [shape[0], shape[3], *shape[1:3]]
    size, channels = shape[2:4], shape[1] or 3 if len(shape) == 4 else None
    if len(inputs) != 1 or not is_size(size) or channels not in (1, 3):
        what = f"the file's inputs are not one image of fixed size: {[value.name for value in inputs][:4]}, {shape}"
        fix = f"give a model that takes [N, 3, height, width] or [N, 1, height, width] of {SIDES} pixels"
        raise ArtifactError(what, where=str(path), fix=fix)
    return ImageInput((size[0], size[1]), shape[0] or None, channels)
