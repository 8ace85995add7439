"""What ONNX Runtime makes of float.fast.onnx, operator by operator, and what the table of times says of each.

On x86 its convolutions compute on channels in blocks, and whatever cannot costs a change of layout before and behind.
"""

from collections.abc import Iterator, Mapping
from math import prod

from torch import fx

from qface_toolkit.canonical.edit import shape_of
from qface_toolkit.canonical.graph import inputs, module, operation
from qface_toolkit.quantize.groups import fastest_float_form, form_time, has_groups, shape_of_conv
from qface_toolkit.quantize.weights import is_affine
from qface_toolkit.times import ConvShape, TimeTable
from qface_toolkit.times.table import BLOCK

_FUSED = ("relu", "relu6", "sigmoid", "hard_sigmoid", "add")
"""What the runtime's float convolutions end with, where nobody else reads what they make."""
_IN_BLOCKS = ("relu", "relu6", "sigmoid", "hard_sigmoid", "add", "max_pool", "average_pool", "global_average_pool")
"""What the runtime computes on channels in blocks, as its convolutions leave them."""

FLOAT_KERNELS: Mapping[str, str] = {
    "add": "Add",
    "mul": "Mul",
    "relu": "Relu",
    "relu6": "Clip",
    "sigmoid": "Sigmoid",
    "hard_sigmoid": "HardSigmoid",
    "max_pool": "MaxPool",
    "average_pool": "AveragePool",
    "global_average_pool": "GlobalAveragePool",
    "concat": "Concat",
    "normalize": "Div",
    "prelu": "PRelu",
    "layer_norm": "LayerNormalization",
    "gelu": "Gelu",
    "softmax": "Softmax",
    "matmul": "MatMul",
    "plus": "Add",
    "times": "Mul",
    "scaled": "Mul",
    "permute": "Transpose",
    "reshape": "Reshape",
    "slice": "Slice",
    "unit": "ReduceL2",
    "length": "ReduceL2",
    "nearest": "Upsample",
    "resized": "Resize",
}
"""What ONNX Runtime calls the float kernels of operations."""


def float_operators(network: fx.GraphModule, times: TimeTable) -> Iterator[tuple[str, float]]:
    """Yield the layer and the microseconds of each operator of a canonical network whose shapes are noted."""
    blocked: set[fx.Node] = set()
    turned: set[fx.Node] = set()
    for node in network.graph.nodes:
        if operation(node) in ("input", "output"):
            continue
        wants = _in_blocks(node, blocked)
        for source in inputs(node):
            if (
                source not in turned
                and operation(source) != "input"
                and (source in blocked) != wants
                and not _ends(source, node)
            ):
                turned.add(source)
                kernel = "ReorderInput" if wants else "ReorderOutput"
                yield node.name, times.other(kernel, prod(shape_of(source)[1:]))
        for time in _float_times(node, times):
            yield node.name, time
        if wants:
            blocked.add(node)


def _in_blocks(node: fx.Node, blocked: set[fx.Node]) -> bool:
    """Tell whether the runtime computes an operation on channels in blocks; of odd counts it does not."""
    name, shape = operation(node), shape_of(node)
    if name == "conv":
        conv = shape_of_conv(node)
        return not (conv.groups > 1 and conv.outputs % BLOCK)
    if name == "prelu":
        return len(shape) == 4 and shape[1] % BLOCK == 0
    if name == "concat":
        return all(source in blocked and shape_of(source)[1] % BLOCK == 0 for source in inputs(node))
    return name in _IN_BLOCKS and all(source in blocked for source in inputs(node))


def _float_times(node: fx.Node, times: TimeTable) -> Iterator[float]:
    name = str(operation(node))
    numbers = prod(shape_of(node)[1:])
    if name in ("conv", "linear"):
        behind = next(iter(node.users), None)
        if name == "conv" and is_affine(module(node)) and behind is not None and operation(behind) == "prelu":
            return  # goes into the PReLU's own products
        form = fastest_float_form(node, times) if has_groups(node) else None
        shape = shape_of_conv(node)
        yield form_time(shape, form, times, "float") if form else times.convolution(shape, "float")
    elif name == "prelu":
        yield from _float_prelu(node, times)
    elif not (name in _FUSED and any(_ends(source, node) for source in inputs(node))):
        yield times.other(FLOAT_KERNELS.get(name, name), numbers)


def _float_prelu(node: fx.Node, times: TimeTable) -> Iterator[float]:
    """Yield the two products of a PReLU, which end with its ReLU and its sum."""
    shape = shape_of(node)
    if len(shape) != 4:
        yield times.other("PRelu", prod(shape[1:]))
        return
    _, channels, height, width = shape
    for _ in range(2):
        yield times.convolution(ConvShape(channels, channels, 1, 1, 1, channels, height, width), "float")


def _ends(source: fx.Node, reader: fx.Node) -> bool:
    """Tell whether a convolution ends with an operation, as nobody else reads it."""
    return operation(source) == "conv" and list(source.users) == [reader] and operation(reader) in _FUSED
