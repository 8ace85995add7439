"""Where the bytes of an ONNX file are and where its time goes, layer by layer.

The bytes are those of the file's own constants, the times those of the operators that the runtime made of it: both are
booked on the layer that they work for, so that one table shows what each layer costs.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx
from onnx import numpy_helper

from qface_toolkit.runtimes.fusion import Operator

_WHOLE_NUMBERS = frozenset({onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.UINT16})
"""Types of the lengths that a Split cuts, or of what they are cast from."""


@dataclass
class LayerCost:
    """What one layer costs: bytes of constants, microseconds (None if not measured), and the operators it became."""

    name: str
    size_bytes: int = 0
    time_us: float | None = None
    operators: Counter[str] = field(default_factory=Counter)

    def book(self, operator: Operator) -> None:
        """Add an operator that works for this layer."""
        self.operators[operator.kind] += 1
        if operator.time_us is not None:
            self.time_us = (self.time_us or 0.0) + operator.time_us


@dataclass(frozen=True)
class Cost:
    """The layers in order of execution, and the bytes that are no layer's: names, the graph, what it says of itself."""

    layers: tuple[LayerCost, ...]
    other_bytes: int


def node_names(nodes: Iterable[onnx.NodeProto]) -> list[str]:
    """Return a name for people for each node of a file, which no other node has."""
    names: list[str] = []
    taken: set[str] = set()
    for place, node in enumerate(nodes):
        name = node.name or next(filter(None, node.output), "")
        names.append(f"{name} ({place})" if not name or name in taken else name)
        taken.add(names[-1])
    return names


def measure_cost(
    graph: onnx.GraphProto, operators: Sequence[Operator], size_bytes: int, tensors: Mapping[str, str] | None = None
) -> Cost:
    """Book a file's bytes and its operators' times on layers.

    `tensors` names layers by the tensor of the file that each one ends with, and everything on the way to it belongs to
    the layer; without it each node that computes is a layer. `size_bytes` is the size of the file.
    """
    names = node_names(graph.node)
    homes = _homes(graph, names, dict(tensors) if tensors else _computed(graph, names))
    layers = {home: LayerCost(home) for home in homes}
    for shares, weight in zip(_shares(graph, homes), _constant_bytes(graph), strict=True):
        for home, part in _divided(weight, shares).items():
            layers[home].size_bytes += part
    _book_times(layers, operators, dict(zip(names, homes, strict=True)))
    found = tuple(layer for layer in layers.values() if layer.size_bytes or layer.operators)
    return Cost(found, size_bytes - sum(layer.size_bytes for layer in found))


def _computed(graph: onnx.GraphProto, names: Sequence[str]) -> dict[str, str]:
    """Return the outputs of every node that does more than to prepare constants, with the node's name."""
    constants = {tensor.name for tensor in graph.initializer} | {""}
    found: dict[str, str] = {}
    for node, name in zip(graph.node, names, strict=True):
        if constants.issuperset(node.input):
            constants.update(node.output)
        else:
            found |= dict.fromkeys(node.output, name)
    return found


def _homes(graph: onnx.GraphProto, names: Sequence[str], ends: Mapping[str, str]) -> list[str]:
    """Return each node's layer: that of the tensor it writes, or of who reads what it writes."""
    last = {value.name: value.name for value in graph.output}
    readers: dict[str, str] = {}
    homes: list[str] = []
    # Nodes stand behind those that they read from, so from the end every reader is known.
    for node, name in zip(reversed(graph.node), reversed(names), strict=True):
        known = (ends.get(tensor) or readers.get(tensor) or last.get(tensor) for tensor in node.output if tensor)
        homes.append(next(filter(None, known), name))
        readers |= dict.fromkeys(node.input, homes[-1])
    return homes[::-1]


def _shares(graph: onnx.GraphProto, homes: Sequence[str]) -> list[Mapping[str, int]]:
    """Return for each node the elements that it makes for each layer: a constant may be cut up for many at load."""
    made, pieces = {tensor.name for tensor in graph.initializer}, _piece_sizes(graph)
    for node in graph.node:
        made.update(node.output if made.issuperset(node.input) else ())
    wanted: dict[str, Mapping[str, int]] = {}
    found: list[Mapping[str, int]] = []
    for node, home in zip(reversed(graph.node), reversed(homes), strict=True):
        own: Mapping[str, int] = {home: 1}
        if made.issuperset(node.output):
            own = next((wanted[name] for name in node.output if name in wanted), own)
            cut = Counter[str]()
            for name, size in zip(node.output, pieces.get(node.output[0], ()), strict=False):
                cut.update(_divided(size, wanted.get(name, {home: 1})))
            own = cut if cut.total() else own
        found.append(own)
        wanted |= dict.fromkeys(node.input, own)
    return found[::-1]


def _piece_sizes(graph: onnx.GraphProto) -> dict[str, list[int]]:
    """Return the lengths that each Split cuts, where they are constants, by the name of its first piece."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    cast = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast" and node.input[0] in stored}
    found: dict[str, list[int]] = {}
    for node in graph.node:
        name = node.input[1] if node.op_type == "Split" and node.input[1:] else ""
        lengths = stored.get(cast.get(name, name))
        if lengths is not None and lengths.data_type in _WHOLE_NUMBERS:
            found[node.output[0]] = [max(size, 0) for size in numpy_helper.to_array(lengths).ravel().tolist()]
    return found


def _divided(whole: int, shares: Mapping[str, int]) -> dict[str, int]:
    """Divide a number in proportion to shares, so that the parts are whole and add up to it."""
    total, parts, given, seen = max(sum(shares.values()), 1), dict[str, int](), 0, 0
    for home, share in shares.items():
        seen += share
        parts[home] = whole * seen // total - given
        given += parts[home]
    return parts


def _constant_bytes(graph: onnx.GraphProto) -> list[int]:
    """Return the bytes of the constants that each node is the first to read."""
    left = {tensor.name: tensor.ByteSize() for tensor in graph.initializer}
    left |= {tensor.values.name: tensor.ByteSize() for tensor in graph.sparse_initializer}
    return [
        sum(left.pop(tensor, 0) for tensor in node.input) + sum(held.t.ByteSize() for held in node.attribute)
        for node in graph.node
    ]


def _book_times(layers: Mapping[str, LayerCost], operators: Sequence[Operator], homes: Mapping[str, str]) -> None:
    """Book every operator; one that the runtime put there itself prepares what comes next, or ends what came last."""
    ahead = next(iter(reversed(list(layers))), None)
    for operator in reversed(operators):
        ahead = homes.get(operator.source or "", ahead)
        if ahead is not None:
            layers[ahead].book(operator)
