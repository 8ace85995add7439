"""ONNX files, ours and anybody's: what is told of them before they run, and running them in ONNX Runtime."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from qface_toolkit.backends._base import Content, Embed, Floats, ImageInput, Numbers, Runner
from qface_toolkit.backends._onnxruntime import ERRORS, free_sizes, open_onnx, open_outputs, repeat_onnx
from qface_toolkit.backends._pixels import IMAGE
from qface_toolkit.backends._profile import inspect_onnx
from qface_toolkit.errors import ArtifactError, CheckpointError
from qface_toolkit.models import SIDES, is_size
from qface_toolkit.models.onnx import Image, output_names, read_image
from qface_toolkit.runtimes import ONNX_RUNTIME
from qface_toolkit.runtimes.fusion import Fusion
from qface_toolkit.untrusted.limits import limited_memory, limited_time
from qface_toolkit.untrusted.onnx import read_onnx
from qface_toolkit.verifier import with_outputs

_ASKS_FOR_INTEGERS = ("Quantize", "Integer")


class OnnxFiles(Runner):
    """Runs ONNX files: what can be told of them before they run, whatever runs them."""

    def read(self, file: Path) -> Content:
        """Return an ONNX file with all its data inside."""
        found = read_onnx(file)
        facts = {str(entry.key): str(entry.value) for entry in found.model.metadata_props}
        data: bytes = found.model.SerializeToString() if free_sizes(found.model) else found.data
        return Content(data, found.sha256, facts, parsed=found.model)

    def image_input(self, file: Path, content: Content) -> ImageInput:
        """Return what the only input is made for."""
        return _image_input(content.parsed, file)

    def fitted(self, file: Path, content: Content, given: Mapping[str, Any]) -> Content:
        """Return the file with the output alone that the user names, and the sizes that it leaves open filled in."""
        if not given.keys() & _GIVEN_TO_FILES or _takes_pixels(content.parsed):
            return content
        model = onnx.ModelProto()
        model.CopyFrom(content.parsed)
        _fill(model, _image_of(model, file, given))
        sha256 = content.sha256
        if given.get("output") is not None:
            _cut(model, given["output"], file)
            # What embeds otherwise must not be taken for the file itself, whose embeddings may be kept.
            sha256 = hashlib.sha256(f"{sha256} {given['output']}".encode()).hexdigest()
        if model == content.parsed:
            return content
        return replace(content, data=model.SerializeToString(deterministic=True), parsed=model, sha256=sha256)

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
        with _limited(file) as limits:
            return open_onnx(file, 1, content=content.data, signed_allowed=self.signed, limits=limits)(inputs)

    def look(self, file: Path, inputs: Floats, content: Content, tensors: Sequence[str]) -> list[Numbers]:
        """Return what a copy of the file gives that gives these tensors, too."""
        copy = with_outputs(content.data, tensors)
        with _limited(file) as limits:
            return open_outputs(file, copy, 1, signed_allowed=self.signed, limits=limits)(inputs)

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


@contextlib.contextmanager
def _limited(file: Path) -> Iterator[onnxruntime.RunOptions]:
    """Give the options of runs within bounds of memory and time; what the runtime raises is an ArtifactError."""
    try:
        with limited_memory(file), limited_time() as limits:
            yield limits
    except ERRORS as error:
        what = f"the runtime cannot run the file: {str(error).splitlines()[0]}"
        raise ArtifactError(what, where=str(file), fix="make it again, or give another file") from error


_GIVEN_TO_FILES = {"input_size", "output", "color"}


def _entering(file: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    weights = {tensor.name for tensor in file.graph.initializer}
    return [value for value in file.graph.input if value.name not in weights]


def _takes_pixels(file: onnx.ModelProto) -> bool:
    """Tell whether a file takes pixels as they are, [N, height, width, 3], as ours do on request."""
    entering = _entering(file)
    if len(entering) != 1 or entering[0].name != IMAGE:
        return False
    return bool(entering[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8)


def _image_input(file: onnx.ModelProto, path: Path) -> ImageInput:
    if not _takes_pixels(file):
        image = _image_of(file, path, {})
        return ImageInput(image.size, image.batch, image.channels)
    sizes = [axis.dim_value for axis in _entering(file)[0].type.tensor_type.shape.dim]
    if len(sizes) != 4 or not is_size(sizes[1:3]) or sizes[3] not in (1, 3):
        what = f"the file's inputs are not one image of fixed size: {sizes}"
        fix = f"give a file that takes [N, height, width, 3] of {SIDES} pixels, or [N, height, width, 1]"
        raise ArtifactError(what, where=str(path), fix=fix)
    return ImageInput((sizes[1], sizes[2]), sizes[0] or None, sizes[3])


def _image_of(file: onnx.ModelProto, path: Path, given: Mapping[str, Any]) -> Image:
    """Return what a file eats by the rules of `compress`, which reads the same files."""
    try:
        return read_image(_entering(file), given)
    except CheckpointError as error:
        what = f"the file's inputs are not one image of fixed size: {error.what}"
        raise ArtifactError(what, where=str(path), fix=error.fix) from error


def _fill(file: onnx.ModelProto, image: Image) -> None:
    """Write the sizes of images into the input of a file that leaves them open."""
    kind = _entering(file)[0].type.tensor_type
    height, width = image.size
    sizes = (height, width, image.channels) if image.channels_last else (image.channels, height, width)
    for axis, size in zip(kind.shape.dim[1:], sizes, strict=True):
        axis.dim_value = size


def _cut(file: onnx.ModelProto, name: object, path: Path) -> None:
    """Leave one output in a file: one of its own, or what a node inside it returns."""
    made = [output for node in file.graph.node for output in node.output if output]
    try:
        (wanted,) = output_names(file.graph.output, made, name)
    except CheckpointError as error:
        raise CheckpointError(error.what, where=str(path), fix=error.fix) from error
    kept = [value for value in file.graph.output if value.name == wanted] or [onnx.ValueInfoProto(name=wanted)]
    del file.graph.output[:]
    file.graph.output.extend(kept)
