"""Float face ONNX files in: from a stranger's file to the same FloatModel that a checkpoint becomes, any batch size.

`reading` checks the graph, `tensors` reads the weights, `constants` computes what needs no image, `operators` names the
files that add one node each to `graph`'s network, and `facts` finds the preprocessing. No runtime sees the file.
"""

import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import fx

from qface_toolkit.errors import CheckpointError, QFaceError, UnsupportedModel
from qface_toolkit.models._model import FloatModel
from qface_toolkit.models.onnx.constants import Constants
from qface_toolkit.models.onnx.ends import GIVEN_TO_THE_READER, Image
from qface_toolkit.models.onnx.facts import find_facts
from qface_toolkit.models.onnx.graph import Network
from qface_toolkit.models.onnx.operators import OPERATORS
from qface_toolkit.models.onnx.outputs import choose_output
from qface_toolkit.models.onnx.reading import OnnxFile, OnnxNode, parse_onnx
from qface_toolkit.models.onnx.tensors import TensorReader
from qface_toolkit.models.onnx.views import Value
from qface_toolkit.untrusted.onnx import read_content
from qface_toolkit.untrusted.reading import printable

_SPARE_WEIGHTS = 1 << 16
_NUMBERS = (operator.sub, operator.add, operator.mul, operator.truediv)
_DAMAGE = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    AttributeError,
    AssertionError,
    MemoryError,
)
"""What numpy and torch raise when a damaged node asks for what cannot be."""


def load_onnx(
    stream: BinaryIO, path: Path, *, name: str | None = None, overrides: Mapping[str, Any] | None = None
) -> FloatModel:
    """Load a float face network from an open ONNX file; `path` is its name. See `load_model`.

    Raises:
        CheckpointError: if the file is damaged, not what it claims, no network from an image to an embedding, or does
            not say how images are prepared.
        UnsupportedModel: naming the node if it holds an operator that is not known here.
    """
    given = dict(overrides or {})
    with _located(str(path)):
        file, size_bytes, sha256 = _parse(stream, path.parent, given)
        network, size, notes = _import(file, size_bytes)
        title = printable(path.stem, 60) or "network"
        given = {key: value for key, value in given.items() if key not in GIVEN_TO_THE_READER}
        spec, sources = find_facts(file, network, size, name=name, title=title, overrides=given)
    arithmetic = _arithmetic_on_input(network)
    said = (f"ONNX opset {file.opset}, written by {file.producer}", *file.notes, *notes, *arithmetic, *sources)
    return FloatModel(network, spec, sha256, said, arithmetic)


@contextmanager
def _located(where: str) -> Iterator[None]:
    """Name the file in errors that name only a node, or nothing."""
    try:
        yield
    except (CheckpointError, UnsupportedModel) as error:
        place = f"{where}, {error.where}" if error.where else where
        fix = error.fix or "export the network again, in eval mode, by torch.onnx.export"
        raise type(error)(error.what, where=place, fix=fix) from error


def _parse(stream: BinaryIO, folder: Path, given: Mapping[str, Any]) -> tuple[OnnxFile, int, str]:
    """Return the file's parts, its size and its SHA-256; its bytes are let go."""
    content = read_content(stream, folder)
    with _damage("the graph"):
        return parse_onnx(content.model, given), content.size_bytes, content.sha256


def _import(file: OnnxFile, size_bytes: int) -> tuple[fx.GraphModule, int, tuple[str, ...]]:
    """Return the network, the size of its embedding, and what is worth knowing about the two."""
    network, graph, reader = _read(file, size_bytes)
    if network.slopes == {True, False}:
        network, graph, reader = _read(file, size_bytes, slopes_of_channels=True)
    output, notes = choose_output(network, {name: graph.values.get(name) for name in file.outputs})
    module = network.finish(output)
    _check_runs(module, file.image, output.shape[0])
    return module, output.shape[0], (*notes, *_precision(reader))


def _read(
    file: OnnxFile, size_bytes: int, *, slopes_of_channels: bool = False
) -> tuple[Network, "_Graph", TensorReader]:
    """Read a file's nodes into a network."""
    reader = TensorReader()
    most_weights = size_bytes // 2 + _SPARE_WEIGHTS  # weights of two bytes are the smallest
    network = Network(file.image, opset=file.opset, most_weights=most_weights, slopes_of_channels=slopes_of_channels)
    constants = Constants(reader, opset=file.opset, most_weights=most_weights)
    graph = _Graph(file, reader, network, constants)
    graph.run(file.nodes, patient=len(file.outputs) > 1)
    return network, graph, reader


class _Graph:
    """What is known of a graph's values while its nodes are read, one by one."""

    def __init__(self, file: OnnxFile, reader: TensorReader, network: Network, constants: Constants) -> None:
        self.values: dict[str, Value | QFaceError] = {file.image.name: network.image}
        self._weights = dict(file.initializers)
        self._reader, self._network, self._constants = reader, network, constants

    def run(self, nodes: Sequence[OnnxNode], *, patient: bool) -> None:
        """Read nodes; if `patient`, one that cannot be read spoils what depends on it alone."""
        for node in nodes:
            made: Value | QFaceError | tuple[Value | QFaceError, ...]
            try:
                with _damage(f"node {node.name!r} ({node.op})"), np.errstate(all="ignore"):
                    made = self._value(node, self._inputs(node))
            except QFaceError as error:
                if not patient:
                    raise
                made = (error,) * len(node.outputs)
            self.values.update(zip(node.outputs, made if isinstance(made, tuple) else (made,), strict=False))

    def _inputs(self, node: OnnxNode) -> list[Value | None]:
        """Return what a node reads; weights are read once, where they are first needed."""
        inputs: list[Value | None] = []
        for name in node.inputs:
            if name in self._weights and name not in self.values:
                self.values[name] = self._reader.read(self._weights[name])
            value = self.values.get(name) if name else None
            if isinstance(value, QFaceError):
                raise value
            inputs.append(value)
        return inputs

    def _value(self, node: OnnxNode, inputs: list[Value | None]) -> Value | tuple[Value, ...]:
        if self._constants.knows(node, inputs):
            return self._constants.evaluate(node, inputs)
        if node.op in OPERATORS:
            return OPERATORS[node.op](self._network, node, inputs)
        raise UnsupportedModel(
            f"the operator {node.op} is not known here",
            fix="simplify the file (onnxsim), end the network before it (--set model.output=NAME, NAME being what a "
            "node returns), or give the network itself to the Python API",
        )


@contextmanager
def _damage(where: str) -> Iterator[None]:
    """Turn whatever a damaged part causes into the error for a damaged file, and name the part."""
    try:
        yield
    except QFaceError as error:
        if error.where is None:
            error.where = where
        raise
    except _DAMAGE as error:
        reason = printable(str(error).partition("\n")[0], 200)
        raise CheckpointError(f"a part of the file makes no sense: {reason}", where=where) from error


def _check_runs(module: fx.GraphModule, image: Image, size: int) -> None:
    """Run the network on tensors without numbers, which costs nothing, and see that it returns embeddings."""
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    bare = {key: torch.empty_like(tensor, device="meta") for key, tensor in state.items()}
    with _damage("the whole graph"), torch.no_grad():
        images = torch.empty(2, image.channels, *image.size, device="meta")
        embeddings = torch.func.functional_call(module, bare, (images,))
    if tuple(embeddings.shape) != (2, size):
        raise CheckpointError(f"two images give {list(embeddings.shape)} instead of two embeddings")


def _precision(reader: TensorReader) -> tuple[str, ...]:
    others = sorted(reader.float_types - {"float32"})
    return tuple(f"converted {kind} weights to float32" for kind in others)


def _arithmetic_on_input(module: fx.GraphModule) -> tuple[str, ...]:
    """Say whether the graph prepares the image itself: then the facts may mean that it is fed plain pixels."""
    image = next(iter(module.graph.nodes))
    names = {"sub": "subtracts", "add": "adds", "mul": "multiplies", "truediv": "divides"}
    verbs = []
    node = image
    while len(node.users) == 1 and (node := next(iter(node.users))).target in _NUMBERS:
        verbs.append(names[node.target.__name__])
    if not verbs:
        return ()
    return (f"the graph itself {' and '.join(verbs[:4])} constants first: it may expect plain pixels 0..255",)
