"""From an ONNX file's message to its parts, checked: what the graph eats and returns, and nodes in running order."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any, TypeVar

import onnx

from qface_toolkit.errors import CheckpointError
from qface_toolkit.models.onnx.ends import Image, output_names, read_image, without_switches
from qface_toolkit.models.onnx.fused import taken_apart
from qface_toolkit.untrusted.reading import as_text, printable

OLDEST_OPSET = 7
_MOST_NAMES = 256
_LONGEST_LIST = 1024
_MOST_ATTRIBUTES = 64
_STANDARD_DOMAINS = ("", "ai.onnx")
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
_FLAT = "export the network's inference alone, as one flat graph"
_CHECK = "export again, or see what onnx.checker.check_model says"
_Proto = Any  # onnx ships no types
_N = TypeVar("_N", int, float)


@dataclass(frozen=True)
class OnnxNode:
    """One node; its attributes are read through methods that check their type."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, _Proto]

    def has(self, key: str) -> bool:
        """Tell whether the attribute is there."""
        return key in self.attributes

    def integer(self, key: str, default: int) -> int:
        """Return an integer attribute."""
        return int(self._typed(key, onnx.AttributeProto.INT).i) if self.has(key) else default

    def real(self, key: str, default: float) -> float:
        """Return a floating-point attribute, which must be finite."""
        value = float(self._typed(key, onnx.AttributeProto.FLOAT).f) if self.has(key) else default
        if not math.isfinite(value):
            raise CheckpointError(f"its attribute {key} is {value}")
        return value

    def integers(self, key: str, default: Sequence[int] = ()) -> tuple[int, ...]:
        """Return an attribute that is a list of integers."""
        return self._short(key, self._typed(key, onnx.AttributeProto.INTS).ints) if self.has(key) else tuple(default)

    def reals(self, key: str) -> tuple[float, ...]:
        """Return an attribute that is a list of numbers."""
        return self._short(key, self._typed(key, onnx.AttributeProto.FLOATS).floats)

    def text(self, key: str, default: str) -> str:
        """Return an attribute that is a text."""
        return str(self._typed(key, onnx.AttributeProto.STRING).s, "ascii") if self.has(key) else default

    def tensor(self, key: str) -> _Proto:
        """Return an attribute that is a tensor, unread."""
        return self._typed(key, onnx.AttributeProto.TENSOR).t

    def widened(self) -> "OnnxNode":
        """Return the same node for windows over pictures of one row, where its own are over lines."""
        lead = {"kernel_shape": (1,), "strides": (1,), "dilations": (1,), "pads": (0,), "output_padding": (0,)}
        given = {key: self.integers(key) for key in lead if self.has(key)}
        wide = {key: _widened(lead[key], numbers) for key, numbers in given.items()}
        protos = {key: onnx.helper.make_attribute(key, numbers) for key, numbers in wide.items()}
        return replace(self, attributes={**self.attributes, **protos})

    def _short(self, key: str, numbers: Sequence[_N]) -> tuple[_N, ...]:
        if len(numbers) > _LONGEST_LIST:
            raise CheckpointError(f"its attribute {key} is a list of {len(numbers)} numbers")
        return tuple(numbers)

    def _typed(self, key: str, kind: int) -> _Proto:
        attribute = self.attributes[key]
        if attribute.type != kind:
            raise CheckpointError(f"its attribute {key} is of the wrong type")
        return attribute


def _widened(lead: tuple[int, ...], numbers: tuple[int, ...]) -> tuple[int, ...]:
    half = len(numbers) // 2 if len(numbers) > 1 else len(numbers)
    return (*lead, *numbers[:half], *(lead if numbers[half:] else ()), *numbers[half:])


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file's parts; `nodes` is in running order, `outputs` are those that may be the embedding."""

    nodes: tuple[OnnxNode, ...]
    initializers: Mapping[str, _Proto]
    image: Image
    outputs: tuple[str, ...]
    opset: int
    producer: str
    metadata: Mapping[str, str]
    notes: tuple[str, ...] = ()


def parse_onnx(model: _Proto, given: Mapping[str, Any]) -> OnnxFile:
    """Return the parts of a decoded ONNX file that the embedding needs.

    `given` are the user's facts: `input_size` where the file leaves it open, `output` where it has several.

    Raises:
        CheckpointError: if it is not a float network, not from one image to an embedding, or its graph holds cycles,
            duplicate names or inputs that nothing makes.
    """
    graph = model.graph
    nodes = _nodes(graph)
    opset = _opset(model)
    initializers = _unique(((tensor.name, tensor) for tensor in graph.initializer), "initializer")
    entering = [value for value in graph.input if value.name not in initializers]
    entering, switches = without_switches(entering, {name for node in nodes for name in node.inputs})
    initializers |= switches
    image = read_image(entering, given)
    nodes = _in_order(nodes, {image.name, *initializers})
    made = [name for node in nodes for name in node.outputs if name]
    outputs = output_names(graph.output, made, given.get("output"))
    metadata = {as_text(entry.key): as_text(entry.value) for entry in model.metadata_props}
    notes = tuple(f"took the input {printable(name, 40)!r} as false: this is no training" for name in switches)
    return OnnxFile(_needed(nodes, outputs), initializers, image, outputs, opset, _producer(model), metadata, notes)


def _producer(model: _Proto) -> str:
    return f"{printable(model.producer_name, 40)} {printable(model.producer_version, 20)}".strip() or "unknown"


def _opset(model: _Proto) -> int:
    versions = [int(entry.version) for entry in model.opset_import if entry.domain in _STANDARD_DOMAINS]
    newest = int(onnx.defs.onnx_opset_version())
    if len(versions) != 1 or not OLDEST_OPSET <= versions[0] <= newest:
        raise CheckpointError(
            f"the file says its opset is {versions[:4]}; {OLDEST_OPSET} to {newest} can be read",
            fix="export it again with an opset in that range: torch.onnx.export(..., opset_version=17)",
        )
    return versions[0]


def _unique(pairs: Iterable[tuple[str, _Proto]], kind: str) -> dict[str, _Proto]:
    found: dict[str, _Proto] = {}
    for name, value in pairs:
        if not name or name in found:
            raise CheckpointError(f"two {kind}s are called {printable(name)!r}, or one has no name", fix=_FLAT)
        found[name] = value
    return found


def _nodes(graph: _Proto) -> Sequence[OnnxNode]:
    protos = [part for proto in graph.node for part in taken_apart(proto)]
    nodes = [_node(proto, place) for place, proto in enumerate(protos)]
    quantized = [node for node in nodes if _is_quantized(node.op)]
    if quantized:
        raise CheckpointError(
            f"the network is quantized already: {len(quantized)} nodes such as "
            f"{quantized[0].name!r} ({quantized[0].op})",
            fix="give the float file that it was made from",
        )
    return nodes


def _is_quantized(op: str) -> bool:
    return op in _QUANTIZED or op.startswith(("QLinear", "QGemm"))


def _node(proto: _Proto, place: int) -> OnnxNode:
    op, name = printable(proto.op_type, 40), printable(proto.name) or f"node {place}"
    where = f"node {name!r} ({op})"
    if proto.domain not in _STANDARD_DOMAINS and not _is_quantized(op):
        raise CheckpointError(
            f"an operator comes from the domain {printable(proto.domain)!r}, which only some runtimes know",
            where=where,
            fix="give the file as it was before a runtime optimized it",
        )
    if max(len(proto.input), len(proto.output)) > _MOST_NAMES or len(proto.attribute) > _MOST_ATTRIBUTES:
        raise CheckpointError("a node has more inputs, outputs or attributes than any operator", where=where, fix=_FLAT)
    attributes = _unique(((attribute.name, attribute) for attribute in proto.attribute), "attribute")
    return OnnxNode(op, name, tuple(proto.input), tuple(proto.output), attributes)


def _in_order(nodes: Sequence[OnnxNode], known: set[str]) -> Sequence[OnnxNode]:
    """Return nodes so that each stands behind those that it reads, which runtimes do not ask of files."""
    makers: dict[str, int] = {}
    for place, node in enumerate(nodes):
        for output in filter(None, node.outputs):
            if output in known or output in makers:
                raise CheckpointError(f"the value {printable(output)!r} is made twice", where=_where(node), fix=_FLAT)
            makers[output] = place
    before = [{makers[name] for name in _read_by(node, known, makers)} for node in nodes]
    if all(max(read, default=-1) < place for place, read in enumerate(before)):
        return nodes
    try:
        return [nodes[place] for place in TopologicalSorter(dict(enumerate(before))).static_order()]
    except CycleError as error:
        node = nodes[error.args[1][0]]
        raise CheckpointError("it reads what is computed from it: a cycle", where=_where(node), fix=_CHECK) from error


def _read_by(node: OnnxNode, known: set[str], makers: Mapping[str, int]) -> Iterator[str]:
    """Yield what a node reads of other nodes."""
    for name in filter(None, node.inputs):
        if name in makers:
            yield name
        elif name not in known:
            what = f"an input, {printable(name)!r}, is nowhere: no node makes it"
            raise CheckpointError(what, where=_where(node), fix=_CHECK)


def _needed(nodes: Sequence[OnnxNode], outputs: Sequence[str]) -> tuple[OnnxNode, ...]:
    """Return the nodes that outputs depend on, in the file's order."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(filter(None, node.outputs)):
            wanted.update(node.inputs)
            kept.append(node)
    return tuple(reversed(kept))


def _where(node: OnnxNode) -> str:
    return f"node {node.name!r} ({node.op})"
