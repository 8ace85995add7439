"""A lean ONNX graph under construction: short names, equal constants stored once; its windows, and its front.

Windows, strides and borders are called the same in every graph that we print. A graph that takes pixels computes
nothing in front: they are codes already (see quantize.image_input).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import ascii_letters
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from qface_toolkit.backends._pixels import IMAGE
from qface_toolkit.integer.program import PoolWindow, Window
from qface_toolkit.models import ModelSpec


def convolution_attributes(window: Window) -> dict[str, Any]:
    """Return the attributes of an ONNX Conv; what has its default value, or follows from the weight, is left out."""
    given: dict[str, tuple[Any, Any]] = {
        "strides": (list(window.stride), [1, 1]),
        "pads": ([*window.padding, *window.padding], [0, 0, 0, 0]),
        "dilations": (list(window.dilation), [1, 1]),
        "group": (window.groups // window.together, 1),
    }
    return {name: value for name, (value, default) in given.items() if value != default}


def pool_attributes(window: PoolWindow, *, average: bool = False) -> dict[str, Any]:
    """Return the attributes of an ONNX MaxPool or AveragePool."""
    attributes: dict[str, Any] = {
        "kernel_shape": list(window.kernel),
        "strides": list(window.stride),
        "pads": None if window.padding is None else [*window.padding, *window.padding],
        "ceil_mode": int(window.ceil_mode),
        "count_include_pad": int(window.count_border) if average else None,
    }
    return {name: value for name, value in attributes.items() if value is not None}


OPSET = 13
"""The lowest opset whose DequantizeLinear knows per-channel scales."""
IR_VERSION = 7
NEWER = {"LayerNormalization": 17, "Gelu": 20}
"""Operators that only a higher opset has; a graph without them stays at the lowest."""
NEWER_IR_VERSION = 9
AXES_AS_INPUT = 18
_REDUCTIONS = ("ReduceL2", "ReduceMean", "ReduceMax")
"""Operators whose axes are an input from that opset on, and an attribute before."""
INPUT = "input"
OUTPUT = "embedding"


@dataclass(frozen=True)
class CodeType:
    """How activation codes are stored: unsigned, or the same codes less 128 in signed bytes."""

    dtype: type[np.uint8] | type[np.int8]
    offset: int


UNSIGNED = CodeType(np.uint8, 0)
SIGNED = CodeType(np.int8, -128)


def float_value(spec: ModelSpec) -> onnx.ValueInfoProto:
    """Return the declaration of the usual input: preprocessed images, float32 [N, C, height, width]."""
    return helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", *spec.input_shape])


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
        opset = max([OPSET, *(NEWER.get(node.op_type, 0) for node in nodes)])
        if opset >= AXES_AS_INPUT:
            axes_as_inputs(graph)
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=IR_VERSION if opset == OPSET else NEWER_IR_VERSION,
            producer_name="qface_toolkit",
        )


def axes_as_inputs(graph: onnx.GraphProto) -> None:
    """Write reductions the way that opsets from AXES_AS_INPUT on have them."""
    for node in graph.node:
        if node.op_type in _REDUCTIONS and len(node.input) == 1:
            axes = next(attribute for attribute in node.attribute if attribute.name == "axes")
            name = f"{node.output[0]}.axes"
            graph.initializer.append(numpy_helper.from_array(np.asarray(axes.ints, np.int64), name))
            node.input.append(name)
            node.attribute.remove(axes)


def image_value(spec: ModelSpec) -> onnx.ValueInfoProto:
    """Return the declaration of the input: pixels, uint8 [N, height, width, 3] in RGB or [N, height, width, 1]."""
    return helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ["batch", *spec.input_size, spec.channels])


def planes(graph: GraphBuilder, spec: ModelSpec, last: int, code: Callable[[int], str], *, signed: bool) -> str:
    """Put the channels first and add a last one of this unsigned code; `code` stores codes as the graph holds them.

    The pixels stand in one row meanwhile. In the image's own shape the runtime would move the padding to where channels
    are last, because its convolutions want them there, and write a byte behind every three: that takes four times as
    long as padding a plane and turning the result.
    """
    height, width = spec.input_size
    codes = _shifted(graph, code) if signed else IMAGE
    row = graph.node("Reshape", [codes, graph.constant([0, height * width, spec.channels], np.int64)])
    turned = graph.node("Transpose", [row], perm=[0, 2, 1])
    more = graph.node("Pad", [turned, graph.constant([0, 0, 0, 0, 1, 0], np.int64), code(last)])
    return graph.node("Reshape", [more, graph.constant([0, spec.channels + 1, height, width], np.int64)])


def _shifted(graph: GraphBuilder, code: Callable[[int], str]) -> str:
    """Return pixels as signed codes, on a grid of step 1 whatever the network's is."""
    pixels = graph.node("Cast", [IMAGE], to=TensorProto.FLOAT)
    return graph.node("QuantizeLinear", [pixels, graph.constant(1, np.float32), code(0)])
