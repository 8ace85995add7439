"""A lean ONNX graph under construction: short names, equal constants stored once."""

from collections.abc import Callable, Sequence
from string import ascii_letters
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 13
"""The lowest opset whose DequantizeLinear knows per-channel scales."""
IR_VERSION = 7
INPUT = "input"
OUTPUT = "embedding"


def float_value(input_size: tuple[int, int]) -> onnx.ValueInfoProto:
    """Return the declaration of the usual input: preprocessed images, float32 [N, 3, height, width]."""
    return helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 3, *input_size])


def letters(number: int) -> str:
    """Return the name of the n-th tensor: a, b, ... Z, aa, ab, ..."""
    more, last = divmod(number - 1, len(ascii_letters))
    return (letters(more) if more else "") + ascii_letters[last]


class Constants:
    """The constants of a graph: equal ones are stored once; `fresh` returns a name that nothing has."""

    def __init__(self, fresh: Callable[[], str]) -> None:
        self.tensors: list[onnx.TensorProto] = []
        self._fresh = fresh
        self._names: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def named(self, value: npt.ArrayLike, dtype: Any) -> str:  # noqa: ANN401 - whatever numpy takes for a dtype
        """Store an array unless an equal one is there, and return its name."""
        array = np.asarray(value, dtype=dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._names:
            self._names[key] = self._fresh()
            self.tensors.append(numpy_helper.from_array(array, self._names[key]))
        return self._names[key]


class GraphBuilder:
    """Collects nodes and constants; names are short because a small network's text is a good part of its file."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants = Constants(self._name)
        self._count = 0
        self.note: str | None = None
        """What every node added from now on says of itself."""

    def _name(self) -> str:
        self._count += 1
        return letters(self._count)

    def constant(self, value: npt.ArrayLike, dtype: Any) -> str:  # noqa: ANN401 - whatever numpy takes for a dtype
        """Store an array unless an equal one is there, and return its name."""
        return self._constants.named(value, dtype)

    def node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:  # noqa: ANN401 - ONNX attributes
        """Add a node with one output and return the output's name."""
        output = self._name()
        self._nodes.append(helper.make_node(operator, list(inputs), [output], doc_string=self.note, **attributes))
        return output

    def model(self, output: str, entering: onnx.ValueInfoProto, embedding_size: int) -> onnx.ModelProto:
        """Return the finished model; `output` becomes the embedding of what enters, and the batch may have any size.

        What nobody reads is left out: the runtime would compute it all the same.
        """
        nodes, read = list[onnx.NodeProto](), {output}
        for node in reversed(self._nodes):
            if read.intersection(node.output):
                nodes.append(node)
                read.update(node.input)
        nodes.reverse()
        for node in nodes:
            node.output[:] = [OUTPUT if name == output else name for name in node.output]
            node.input[:] = [OUTPUT if name == output else name for name in node.input]
        graph = helper.make_graph(
            nodes,
            "qface",
            [entering],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", embedding_size])],
            [tensor for tensor in self._constants.tensors if tensor.name in read],
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="qface_toolkit"
        )
