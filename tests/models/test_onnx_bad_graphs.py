"""Graphs that are no float network from an aligned crop to an embedding: each is refused for what is wrong with it."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_files import FLAT, RELU, build, draw, ints, node, positive, refuse

from qface_toolkit.errors import CheckpointError, UnsupportedModel

WIDE = node("Conv", "x w", "c")
GRAPHS = {
    "a cycle": ([node("Add", "x q", "z"), node("Relu", "z", "q"), FLAT], {}, "a cycle"),
    "reads itself": ([node("Add", "x z", "z"), FLAT], {}, "a cycle"),
    "a missing initializer": ([node("Conv", "x nowhere", "z"), FLAT], {}, "no node makes it"),
    "a name made twice": ([RELU, node("Sigmoid", "x", "z"), FLAT], {}, "made twice"),
    "a name of the image's": ([node("Relu", "x", "x"), FLAT], {}, "made twice"),
    "no output": ([RELU], {}, "not computed from the image"),
    "a constant as output": ([node("Identity", "w", "y")], {"w": draw(2, 3)}, "not computed from the image"),
    "the image as output": ([node("Identity", "x", "y")], {}, "not computed from the image"),
    "no weight": ([node("Conv", "x", "z"), FLAT], {}, "weight is computed from the image, or missing"),
    "no input": ([node("Conv", " w", "z"), FLAT], {"w": draw(4, 3, 3, 3)}, "where the image should be|on constants"),
    "a stride of zero": (
        [node("Conv", "x w", "z", strides=[0, 1]), FLAT],
        {"w": draw(4, 3, 3, 3)},
        "none over a picture",
    ),
    "a huge stride": (
        [node("Conv", "x w", "z", strides=[2**40, 1]), FLAT],
        {"w": draw(4, 3, 3, 3)},
        "none over a picture",
    ),
    "one stride": ([node("Conv", "x w", "z", strides=[1]), FLAT], {"w": draw(4, 3, 3, 3)}, "window has 1 axes"),
    "negative pads": ([node("Conv", "x w", "z", pads=[-1, 0, 0, 0]), FLAT], {"w": draw(4, 3, 3, 3)}, "padding"),
    "huge pads": ([node("Conv", "x w", "z", pads=[2**50, 0, 0, 0]), FLAT], {"w": draw(4, 3, 3, 3)}, "padding"),
    "a huge kernel": ([node("MaxPool", "x", "z", kernel_shape=[2**40, 1]), FLAT], {}, "none over a picture"),
    "a kernel that does not fit": (
        [node("Conv", "x w", "z"), FLAT],
        {"w": draw(4, 3, 9, 9)},
        "does not fit into an image",
    ),
    "a kernel that is another": (
        [node("Conv", "x w", "z", kernel_shape=[5, 5]), FLAT],
        {"w": draw(4, 3, 3, 3)},
        "kernel_shape",
    ),
    "groups of nothing": ([node("Conv", "x w", "z", group=0), FLAT], {"w": draw(4, 3, 3, 3)}, "0 groups"),
    "groups that do not divide": ([node("Conv", "x w", "z", group=3), FLAT], {"w": draw(4, 1, 3, 3)}, "3 groups"),
    "an attribute of another type": (
        [node("Conv", "x w", "z", group=1.5), FLAT],
        {"w": draw(4, 3, 3, 3)},
        "group is of the wrong type",
    ),
    "a bias that does not fit": (
        [node("Conv", "x w b", "z"), FLAT],
        {"w": draw(4, 3, 3, 3), "b": draw(5)},
        r"\[5\] instead of \[4\]",
    ),
    "negative variances": (
        [node("BatchNormalization", "x s s s v", "z"), FLAT],
        {"s": draw(3), "v": -positive(3)},
        "variances",
    ),
    "a batch's statistics": (
        [node("BatchNormalization", "x s s s v", "z", training_mode=1), FLAT],
        {"s": draw(3), "v": positive(3)},
        "training mode",
    ),
    "a matrix that does not fit": (
        [node("Flatten", "x", "f"), node("Gemm", "f w", "y")],
        {"w": draw(9, 4)},
        "takes 9 numbers",
    ),
    "a constant that widens": ([node("Add", "x c", "z"), FLAT], {"c": draw(2, 3, 8, 8)}, "does not fit"),
    "division by zero": ([node("Div", "x c", "z"), FLAT], {"c": np.zeros((3, 1, 1), np.float32)}, "divides by zero"),
    "clipped to nothing": (
        [node("Clip", "x h l", "z"), FLAT],
        {"h": np.float32(1), "l": np.float32(-1)},
        "clips to nothing",
    ),
    "nothing left": ([node("Slice", "x a a", "z"), FLAT], {"a": ints(0, 1)}, "nothing is left|batch axis"),
    "an axis beyond": ([node("Concat", "x x", "z", axis=7), FLAT], {}, "axis 7"),
    "numbers that do not fill a shape": ([node("Reshape", "x s", "z"), FLAT], {"s": ints(0, 7, -1)}, "the shape"),
    "a gigabyte of zeros": (
        [node("ConstantOfShape", "s", "c"), node("Add", "x c", "z"), FLAT],
        {"s": ints(1 << 30, 4)},
        "more than shapes need",
    ),
    "an expanded constant": (
        [node("Expand", "c s", "e"), node("Add", "x e", "z"), FLAT],
        {"c": draw(1), "s": ints(1 << 40)},
        "more than shapes need",
    ),
    "an outer product": (
        [node("Mul", "a b", "c"), node("Add", "x c", "z"), FLAT],
        {"a": draw(9000, 1), "b": draw(1, 9000)},
        "more than shapes need",
    ),
    "a detector": ([node("Conv", "x w", "y")], {"w": draw(4, 3, 3, 3)}, "no embedding"),
    "a map of faces": ([node("Conv", "x w", "y")], {"w": draw(1, 3, 8, 8)}, "no embedding"),
    "images behind channels": (
        [WIDE, node("Transpose", "c", "z", perm=[1, 0, 2, 3]), FLAT],
        {"w": draw(4, 3, 8, 8)},
        "no embedding",
    ),
    "rows for images": (
        [node("Reshape", "x s", "y")],
        {"s": ints(-1, 64)},
        "N\\*3, 64., which is no embedding",
    ),
    "a huge classifier": ([node("Conv", "x w", "z"), FLAT], {"w": draw(4097, 3, 8, 8)}, "a classifier"),
    "quantized": (
        [node("QuantizeLinear", "x s p", "q"), node("DequantizeLinear", "q s p", "z"), FLAT],
        {"s": np.float32(1), "p": np.uint8(3)},
        "quantized already: 2 nodes",
    ),
    "quantized layers": ([node("QLinearConv", "x", "z"), FLAT], {}, "the float file that it was made from"),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_graphs_that_make_no_sense(case, tmp_path):
    nodes, constants, message = GRAPHS[case]
    refuse(tmp_path, build(nodes, constants), message, error=(CheckpointError, UnsupportedModel))


INPUTS = {
    "five channels": (("N", 5, 8, 8), TensorProto.FLOAT, r"float \[N, 3, height, width\]"),
    "bytes": (("N", 3, 8, 8), TensorProto.UINT8, r"float \[N, 3, height, width\]"),
    "a vector": (("N", 192), TensorProto.FLOAT, r"float \[N, 3, height, width\]"),
    "a number": ((), TensorProto.FLOAT, r"float \[N, 3, height, width\]"),
    "a photograph": (("N", 3, 288, 288), TensorProto.FLOAT, "to 256 pixels are supported"),
    "any size": (("N", 3, "H", "W"), TensorProto.FLOAT, "leaves open how large"),
    "no pixels": (("N", 3, 0, 8), TensorProto.FLOAT, "leaves open how large"),
    "negative": (("N", 3, -8, 8), TensorProto.FLOAT, "leaves open how large"),
}


@pytest.mark.parametrize("case", INPUTS)
def test_inputs_that_are_no_picture_of_a_face(case, tmp_path):
    shape, kind, message = INPUTS[case]
    said = refuse(tmp_path, build([RELU, FLAT], shape=shape, kind=kind), message)
    assert "NCHW" in said or "model.input_size=[112, 112]" in said or "of faces" in said


def test_two_inputs(tmp_path):
    model = build([node("Mul", "x mask", "z"), FLAT])
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    refuse(tmp_path, model, "2 inputs .'x', 'mask'.")


@pytest.mark.parametrize("opset", [0, 6, 10_000, -1, 2**62])
def test_opsets_that_are_not_read(opset, tmp_path):
    refuse(tmp_path, build([RELU, FLAT], opset=opset), "opset")


def test_operators_of_one_runtime(tmp_path):
    fused = helper.make_node("FusedConv", ["x"], ["z"], name="it", domain="com.microsoft")
    refuse(tmp_path, build([fused, FLAT]), "domain 'com.microsoft'")
