"""Operators beyond plain convolutional networks, as exporters and people write them, against ONNX Runtime."""

import numpy as np
import pytest
from onnx_files import FLAT, LAST, assert_same, draw, functions, ints, load, node, positive

FOUR = draw(4, 3, 1, 1)
WIDER = node("Conv", "x w", "c")
"""What makes four channels of three."""
ROWS = node("Reshape", "x rows", "q")
"""What makes [N, 8, 24] of the picture."""
EIGHT = {"rows": ints(0, 8, 24)}


def one(op, value, **attributes):
    """Return a node of one constant, and the constant."""
    return [node(op, "x v", "z", **attributes)], {"v": value}


def alone(op, **attributes):
    """Return a node that has no constant."""
    return [node(op, "x", "z", **attributes)], {}


def resized(scales, **attributes):
    """Return a Resize by scales."""
    return [node("Resize", "x  s", "z", **attributes)], {"s": np.array(scales, np.float32)}


def sized(height, width, **attributes):
    """Return a Resize of one image to a size."""
    return [node("Resize", "x   s", "z", **attributes)], {"s": ints(1, 3, height, width)}


def pooled(op, kernel, strides, **attributes):
    """Return a pool."""
    return alone(op, kernel_shape=kernel, strides=strides, **attributes)


def expanded(last):
    """Return a mean over channels expanded to them again, and what reads it."""
    nodes = [node("ReduceMean", "x", "m", axes=[1]), node("Expand", "m s", "e"), last]
    return nodes, {"s": ints(1, 3, 8, 8)}


def from_depth(channels, **attributes):
    """Return blocks of two made of channels."""
    nodes = [node("Conv", "x w", "c"), node("DepthToSpace", "c", "z", blocksize=2, **attributes)]
    return nodes, {"w": draw(channels, 3, 1, 1)}


POSITIVE = node("Softplus", "x", "p")
CASES = {
    "Max, a number": one("Max", np.float32(0.2)),
    "Max, then Min": (
        [node("Max", "x l", "m"), node("Min", "h m", "z")],
        {"l": np.zeros(1, np.float32), "h": np.full(1, 6, np.float32)},
    ),
    "Min, then Max": (
        [node("Min", "x h", "m"), node("Max", "m l", "z")],
        {"l": np.full(1, -0.3, np.float32), "h": np.full(1, 0.6, np.float32)},
    ),
    "Max of two": ([node("Sigmoid", "x", "s"), node("Max", "x s", "z")], {}),
    "Min of three and a constant": (
        [node("Sigmoid", "x", "s"), node("Tanh", "x", "t"), node("Min", "x s c t", "z")],
        {"c": draw(3, 1, 1)},
    ),
    "Max with one a channel": one("Max", draw(1, 3, 1, 1)),
    "Min with one a pixel": one("Min", draw(8, 8)),
    "Abs": alone("Abs"),
    "Abs of rows": ([ROWS, node("Abs", "q", "z")], EIGHT),
    "Neg": alone("Neg"),
    "Sum": ([node("Sigmoid", "x", "s"), node("Sum", "x s x", "z")], {}),
    "Sum of one": alone("Sum"),
    "Mean": ([node("Sigmoid", "x", "s"), node("Mean", "x s", "z")], {}),
    "Pow 2": one("Pow", np.float32(2)),
    "Pow 3": one("Pow", np.float32(3)),
    "Pow 0.5": ([POSITIVE, node("Pow", "p v", "z")], {"v": np.float32(0.5)}),
    "Pow -1.5": ([POSITIVE, node("Pow", "p v", "z")], {"v": np.float32(-1.5)}),
    "Sqrt": ([POSITIVE, node("Sqrt", "p", "z")], {}),
    "Reciprocal of Sqrt": ([POSITIVE, node("Sqrt", "p", "r"), node("Reciprocal", "r", "z")], {}),
    "Reciprocal": ([POSITIVE, node("Reciprocal", "p", "z")], {}),
    "Div of a constant": ([POSITIVE, node("Div", "v p", "z")], {"v": draw(3, 1, 1)}),
    "Div of two": ([POSITIVE, node("Div", "x p", "z")], {}),
    "Exp": alone("Exp"),
    "Log": ([POSITIVE, node("Log", "p", "z")], {}),
    "Erf": alone("Erf"),
    "Tanh": alone("Tanh"),
    "Elu": alone("Elu", alpha=0.7),
    "Selu": alone("Selu"),
    "Softplus": alone("Softplus"),
    "LogSoftmax": alone("LogSoftmax", axis=1),
    "LRN": alone("LRN", size=3, alpha=0.1),
    "InstanceNormalization": (
        [node("InstanceNormalization", "x s b", "z", epsilon=0.01)],
        {"s": draw(3), "b": draw(3)},
    ),
    "LayerNormalization": (
        [LAST, node("LayerNormalization", "t s b", "z", epsilon=0.01)],
        {"s": draw(3), "b": draw(3)},
    ),
    "LayerNormalization, no bias": ([node("LayerNormalization", "x s", "z", axis=2)], {"s": draw(8, 8)}),
    "LayerNormalization, turned back": (
        [LAST, node("LayerNormalization", "t s b", "n"), node("Transpose", "n", "z", perm=[0, 3, 1, 2])],
        {"s": draw(3), "b": draw(3)},
    ),
    "BatchNormalization of rows": (
        [ROWS, node("BatchNormalization", "q s b m v", "z")],
        {**EIGHT, "s": draw(8), "b": draw(8), "m": draw(8), "v": positive(8)},
    ),
    "ConvTranspose": (
        [node("ConvTranspose", "x w b", "z", strides=[2, 3], pads=[1, 0, 1, 0], output_padding=[1, 0])],
        {"w": draw(3, 4, 3, 3), "b": draw(4)},
    ),
    "ConvTranspose, uneven pads": (
        [node("ConvTranspose", "x w", "z", group=3, dilations=[2, 1], pads=[1, 0, 0, 2])],
        {"w": draw(3, 2, 3, 3)},
    ),
    "Conv of lines": (
        [ROWS, node("Conv", "q w b", "z", pads=[1, 2], strides=[2])],
        {**EIGHT, "w": draw(4, 8, 3), "b": draw(4)},
    ),
    "MaxPool of lines": ([ROWS, node("MaxPool", "q", "z", kernel_shape=[3], strides=[2], pads=[1, 1])], EIGHT),
    "AveragePool of lines": ([ROWS, node("AveragePool", "q", "z", kernel_shape=[4], strides=[4])], EIGHT),
    "GlobalAveragePool of lines": ([ROWS, node("GlobalAveragePool", "q", "z")], EIGHT),
    "MaxPool, kernel 1": alone("MaxPool", kernel_shape=[1, 1], strides=[2, 2]),
    "MaxPool, rounded up, uneven": pooled("MaxPool", [3, 2], [2, 3], pads=[0, 1, 1, 0], ceil_mode=1),
    "MaxPool, same": alone("MaxPool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    "AveragePool, uneven": alone("AveragePool", kernel_shape=[3, 2], pads=[0, 1, 1, 0]),
    "AveragePool, uneven, border counted": pooled(
        "AveragePool", [3, 2], [1, 2], pads=[0, 1, 1, 0], count_include_pad=1
    ),
    "AveragePool, same": alone("AveragePool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER"),
    "AveragePool, rounded up": alone("AveragePool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "AveragePool, rounded up, padded": pooled("AveragePool", [3, 3], [2, 2], ceil_mode=1, pads=[1] * 4),
    "AveragePool, kernel 1": alone("AveragePool", kernel_shape=[1, 1], strides=[2, 2]),
    "GlobalMaxPool": ([WIDER, node("GlobalMaxPool", "c", "z")], {"w": FOUR}),
    "ReduceMean of rows": ([ROWS, node("ReduceMean", "q", "z", axes=[2], keepdims=0)], EIGHT),
    "ReduceMean of all but channels, kept": ([WIDER, node("ReduceMean", "c", "z", axes=[3])], {"w": FOUR}),
    "ReduceSum": ([WIDER, node("ReduceSum", "c a", "z", keepdims=0)], {"w": FOUR, "a": ints(2)}),
    "ReduceMax": ([WIDER, node("ReduceMax", "c", "z", axes=[2, 3])], {"w": FOUR}),
    "ReduceMin": ([WIDER, node("ReduceMin", "c", "z", axes=[-1], keepdims=0)], {"w": FOUR}),
    "ReduceL1": ([WIDER, node("ReduceL1", "c", "z", axes=[1])], {"w": FOUR}),
    "ReduceL2 of channels": ([WIDER, node("ReduceL2", "c", "z", axes=[1])], {"w": FOUR}),
    "ReduceL2 of pixels": ([WIDER, node("ReduceL2", "c", "z", axes=[2, 3], keepdims=0)], {"w": FOUR}),
    "ReduceSumSquare": ([WIDER, node("ReduceSumSquare", "c", "z", axes=[1])], {"w": FOUR}),
    "ReduceLogSumExp": ([WIDER, node("ReduceLogSumExp", "c", "z", axes=[1])], {"w": FOUR}),
    "pixels of unit length": ([node("ReduceL2", "x", "n", axes=[1]), node("Div", "x n", "z")], {}),
    "LpNormalization of pixels": alone("LpNormalization", axis=1),
    "MatMul by rows": (
        [ROWS, node("MatMul", "q w", "m"), node("Add", "m b", "z")],
        {**EIGHT, "w": draw(24, 5), "b": draw(5)},
    ),
    "MatMul, constant first": ([ROWS, node("MatMul", "w q", "z")], {**EIGHT, "w": draw(5, 8)}),
    "MatMul by a stack": ([node("MatMul", "x w", "z")], {"w": draw(3, 8, 5)}),
    "MatMul, channels last": ([LAST, node("MatMul", "t w", "z")], {"w": draw(3, 5)}),
    "MatMul of two": (
        [ROWS, node("Transpose", "q", "k", perm=[0, 2, 1]), node("MatMul", "q k", "s"), node("Softmax", "s", "z")],
        EIGHT,
    ),
    "Einsum": (
        [ROWS, node("Sigmoid", "q", "k"), node("Einsum", "q k", "z", equation="nid,njd->nij")],
        EIGHT,
    ),
    "Einsum, turned": (
        [ROWS, node("Sigmoid", "q", "k"), node("Einsum", "q k", "z", equation="b i d, b i e -> b e d")],
        EIGHT,
    ),
    "Einsum with a constant": ([node("Einsum", "x w", "z", equation="nchw,cd->nhwd")], {"w": draw(3, 5)}),
    "Split": (
        [node("Split", "x s", "a b", axis=2), node("Concat", "b a", "z", axis=2)],
        {"s": ints(3, 5)},
    ),
    "Split evenly": ([node("Split", "x", "a b c", axis=1), node("Sub", "c a", "z")], {}),
    "Gather one": one("Gather", np.int64(-1), axis=1),
    "Gather some": one("Gather", ints(2, 0), axis=1),
    "Gather every other": one("Gather", ints(0, 2, 4, 6), axis=2),
    "Gather a table": one("Gather", ints(3, 1, 4, 1).reshape(2, 2), axis=3),
    "Tile": one("Tile", ints(1, 2, 1, 3)),
    "Expand": expanded(node("Concat", "e x", "z", axis=1)),
    "Expand before a sum": expanded(node("Sub", "x e", "z")),
    "Where": ([node("Where", "m x c", "z")], {"m": draw(8, 8) > 0, "c": draw(3, 1, 1)}),
    "Where it is greater": (
        [node("Greater", "x c", "g"), node("Sigmoid", "x", "s"), node("Where", "g s h", "z")],
        {"c": draw(3, 1, 1), "h": np.float32(0.5)},
    ),
    "Where it is less": (
        [node("Sigmoid", "x", "s"), node("LessOrEqual", "c x", "g"), node("Where", "g m s", "z")],
        {"c": np.float32(0.1), "m": draw(1, 3, 8, 8)},
    ),
    "Sign": alone("Sign"),
    "Softsign": alone("Softsign"),
    "Add that widens": ([node("ReduceMean", "x", "m", axes=[1]), node("Add", "m c", "z")], {"c": draw(4, 1, 1)}),
    "DepthToSpace": from_depth(4),
    "DepthToSpace, CRD": from_depth(8, mode="CRD"),
    "DepthToSpace, DCR": from_depth(8, mode="DCR"),
    "SpaceToDepth": alone("SpaceToDepth", blocksize=4),
    "Flatten from axis 2": ([node("Flatten", "x", "f", axis=2), node("Reshape", "f s", "z")], {"s": ints(-1, 3, 64)}),
    "windows": (
        [
            node("Reshape", "x s", "r"),
            node("Transpose", "r", "t", perm=[0, 2, 4, 3, 5, 1]),
            node("Reshape", "t w", "v"),
            node("MatMul", "v m", "u"),
            node("Softmax", "u", "o"),
            node("Reshape", "o b", "z"),
        ],
        {"s": ints(0, 3, 2, 4, 2, 4), "w": ints(-1, 16, 3), "m": draw(3, 5), "b": ints(-1, 4, 16, 5)},
    ),
    "sequences before images": (
        [
            ROWS,
            node("Transpose", "q", "t", perm=[1, 0, 2]),
            node("MatMul", "t w", "m"),
            node("Reshape", "m h", "r"),
            node("Transpose", "r", "k", perm=[1, 0, 2]),
            node("Transpose", "r", "l", perm=[1, 2, 0]),
            node("MatMul", "k l", "s"),
            node("Softmax", "s", "p"),
            node("MatMul", "p k", "o"),
            node("Transpose", "o", "b", perm=[1, 0, 2]),
            node("Reshape", "b j", "i"),
            node("Transpose", "i", "z", perm=[1, 0, 2]),
        ],
        {**EIGHT, "w": draw(24, 12), "h": ints(8, -1, 3), "j": ints(8, -1, 12)},
    ),
    "Resize, nearest": resized([1, 1, 2, 3]),
    "Resize, odd scales": resized([1, 1, 1.3, 0.7], mode="linear"),
}
SIZED = {
    "Concat with a constant": ([node("Concat", "x c", "z", axis=2)], {"c": draw(1, 3, 2, 8)}),
    "Resize": sized(12, 5),
    "Resize, floor": sized(12, 5, nearest_mode="floor", coordinate_transformation_mode="asymmetric"),
    "Resize, linear": sized(12, 5, mode="linear"),
    "Resize, linear, asymmetric": sized(16, 8, mode="linear", coordinate_transformation_mode="asymmetric"),
    "Resize, linear, corners": sized(11, 16, mode="linear", coordinate_transformation_mode="align_corners"),
    "Resize, cubic": sized(12, 5, mode="cubic"),
    "Resize, another cubic": sized(12, 16, mode="cubic", cubic_coeff_a=-0.5),
}
"""What states the whole shape, with one image."""


@pytest.mark.parametrize("case", CASES)
def test_computes_what_onnx_runtime_does(case, tmp_path):
    nodes, constants = CASES[case]
    assert_same(tmp_path / "net.onnx", load(tmp_path, [*nodes, FLAT], constants))


@pytest.mark.parametrize("case", SIZED)
def test_what_is_stated_for_one_image_is_read_for_any_number(case, tmp_path):
    nodes, constants = SIZED[case]
    assert_same(tmp_path / "net.onnx", load(tmp_path, [*nodes, FLAT], constants), one_by_one=True)


FORMS = {
    "Max, then Min": ["ReLU6"],
    "Min, then Max": ["Hardtanh"],
    "Abs": ["PReLU"],
    "Sum of one": [],
    "Pow 2": ["mul"],
    "Reciprocal of Sqrt": ["Softplus", "rsqrt"],
    "pixels of unit length": ["normalize"],
    "MatMul by rows": ["reshape", "Linear"],
    "Gather one": ["getitem"],
    "Gather every other": ["getitem"],
    "Split evenly": ["getitem", "getitem", "sub"],
    "Expand before a sum": ["mean", "sub"],
    "Resize, nearest": ["interpolate"],
    "DepthToSpace, CRD": ["Conv2d", "pixel_shuffle"],
    "LayerNormalization, turned back": ["permute", "LayerNorm", "permute"],
    "windows": ["reshape", "permute", "reshape", "Linear", "Softmax"],
}


@pytest.mark.parametrize("case", FORMS)
def test_is_written_plainly(case, tmp_path):
    nodes, constants = CASES[case]
    assert functions(load(tmp_path, [*nodes, FLAT], constants)) == [*FORMS[case], "flatten"]


OLD_RESIZES = {
    7: [node("Upsample", "x", "z", mode="nearest", scales=[1.0, 1.0, 2.0, 3.0])],
    9: [node("Upsample", "x s", "z", mode="linear")],
    10: [node("Resize", "x s", "z", mode="nearest")],
}


@pytest.mark.parametrize("opset", OLD_RESIZES)
def test_resizing_of_older_opsets(opset, tmp_path):
    scales = {"s": np.array([1, 1, 2, 3], np.float32)} if opset > 7 else {}
    model = load(tmp_path, [*OLD_RESIZES[opset], FLAT], scales, opset=opset, ir_version=4)
    assert_same(tmp_path / "net.onnx", model)


def test_softmax_of_older_opsets_is_over_all_axes_from_one_on(tmp_path):
    model = load(tmp_path, [node("Softmax", "x", "z", axis=2), FLAT], opset=11)
    assert_same(tmp_path / "net.onnx", model)


def test_group_norms(tmp_path):
    nodes = [WIDER, node("GroupNormalization", "c s b", "z", num_groups=2), FLAT]
    model = load(tmp_path, nodes, {"w": FOUR, "s": draw(4), "b": draw(4)}, opset=21, ir_version=10)
    assert_same(tmp_path / "net.onnx", model)


def test_norms_by_the_root_mean_square(tmp_path):
    nodes = [LAST, node("RMSNormalization", "t s", "z", axis=-1, epsilon=0.01), FLAT]
    model = load(tmp_path, nodes, {"s": draw(3)}, opset=23, ir_version=10)
    assert_same(tmp_path / "net.onnx", model)


def test_what_is_expanded_costs_no_weights(tmp_path):
    nodes = [
        node("GlobalAveragePool", "x", "g"),
        node("Expand", "g s", "e"),
        node("Concat", "e x", "j", axis=1),
        node("MaxPool", "j", "z", kernel_shape=[16, 16], strides=[16, 16]),
    ]
    model = load(tmp_path, [*nodes, FLAT], {"s": ints(1, 1, 200, 200)}, shape=("N", 3, 200, 200))
    assert not list(model.network.buffers())
    assert_same(tmp_path / "net.onnx", model)
