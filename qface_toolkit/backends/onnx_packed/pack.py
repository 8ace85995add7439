"""Rewrite a QDQ graph so that its constants are stored at their true width and made again by the runtime at load.

Nothing but storage changes: every constant keeps its name and its bits, and the nodes that read it stay what they are.
"""

from collections import Counter

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from qface_toolkit.backends.onnx_packed._kinds import (
    Biases,
    Kind,
    OtherScales,
    Scales,
    Slopes,
    Vector,
    Weights,
    reshape,
)
from qface_toolkit.backends.onnx_packed._planes import UNIT, WHOLE, Word, width_of
from qface_toolkit.backends.onnx_packed._prelude import Prelude
from qface_toolkit.backends.onnx_qdq._builder import axes_as_inputs

OPSET = 18
"""The lowest opset with BitwiseOr."""
IR_VERSION = 8
ALONE = 1 << 14
"""Codes of so many elements are unpacked by themselves: the runtime copies what it cuts out of a larger tensor."""

MANY = 4 << 20
"""So many codes of a width are worth a table of 65,536 words and not of 256."""


def pack(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a QDQ model with its constants packed; its outputs are the same to the bit."""
    packed = onnx.ModelProto()
    packed.CopyFrom(model)
    graph = packed.graph
    axes_as_inputs(graph)
    prelude = Prelude(_names(graph))
    made = _make(prelude, graph)
    left = [tensor for tensor in graph.initializer if tensor.name not in made]
    nodes = [*prelude.nodes, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend([*left, *prelude.initializers])
    graph.node.extend(nodes)
    opset = max(OPSET, model.opset_import[0].version)
    del packed.opset_import[:]
    packed.opset_import.append(onnx.helper.make_opsetid("", opset))
    packed.ir_version = max(IR_VERSION, model.ir_version)
    return packed


def _names(graph: onnx.GraphProto) -> set[str]:
    values = {value.name for value in (*graph.input, *graph.output)} | {tensor.name for tensor in graph.initializer}
    return values.union(*({*node.input, *node.output} for node in graph.node))


def _make(prelude: Prelude, graph: onnx.GraphProto) -> set[str]:
    """Have the prelude make what can be stored smaller, and return the names of these constants."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if _is_packable(tensor)}
    kinds: list[Kind] = [kind(arrays, prelude) for kind in (Weights, Biases, Slopes, Scales, OtherScales)]
    _unpack(prelude, [vector for kind in kinds for vector in kind.vectors])
    for kind in kinds:
        kind.finish(prelude)
    return {name for kind in kinds for name in kind.made}


def _is_packable(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type in (TensorProto.INT8, TensorProto.INT32, TensorProto.FLOAT)


def _unpack(prelude: Prelude, vectors: list[Vector]) -> None:
    """Store all codes, small vectors of a width together, and have them unpacked under their names."""
    groups: dict[tuple[int, str], list[Vector]] = {}
    totals = Counter[int]()
    for vector in vectors:
        bits, alone = width_of(vector.codes), vector.name if vector.codes.size >= ALONE else ""
        groups.setdefault((bits, alone), []).append(vector)
        totals[bits] += vector.codes.size
    for (bits, _), group in sorted(groups.items()):
        _unpack_group(prelude, group, bits, 16 if totals[bits] >= MANY else 8)


def _unpack_group(prelude: Prelude, group: list[Vector], bits: int, word: Word) -> None:
    codes = np.concatenate([vector.codes for vector in group])
    rest = -codes.size % UNIT if bits < WHOLE else 0
    whole = prelude.unpacked(codes, bits, word)
    if len(group) == 1 and group[0].any_shape and not rest:
        prelude.rename(whole, group[0].name)
        return
    sizes = [vector.codes.size for vector in group]
    prelude.split(reshape(prelude, whole, [-1]), sizes, [vector.name for vector in group], rest)
