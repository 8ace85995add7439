"""Each ONNX operator that is read, in each spelling that exporters use, against ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from onnx_files import FLAT, GIVEN, LAST, assert_same, build, draw, functions, ints, load, node, positive, write
from torch import nn

from qface_toolkit.errors import UnsupportedModel
from qface_toolkit.models import load_model

FIRST = node("Transpose", "s", "z", perm=[0, 3, 1, 2])
WIDER, FOUR = node("Conv", "x w", "c"), draw(4, 3, 1, 1)
"""What makes four channels of three: three numbers are no embedding."""
SINGLE = {
    "Conv": (
        [node("Conv", "x w b", "z", pads=[1, 2, 1, 2], strides=[2, 1], dilations=[1, 2])],
        {"w": draw(4, 3, 3, 3), "b": draw(4)},
    ),
    "Conv, grouped": ([node("Conv", "x w", "z", group=3, kernel_shape=[1, 1])], {"w": draw(6, 1, 1, 1)}),
    "Conv, uneven pads": ([node("Conv", "x w", "z", pads=[0, 1, 2, 0])], {"w": draw(4, 3, 3, 3)}),
    "Conv, same upper": ([node("Conv", "x w", "z", auto_pad="SAME_UPPER", strides=[2, 2])], {"w": draw(4, 3, 3, 3)}),
    "Conv, same lower": ([node("Conv", "x w", "z", auto_pad="SAME_LOWER", strides=[2, 2])], {"w": draw(4, 3, 3, 3)}),
    "Conv, valid": ([node("Conv", "x w", "z", auto_pad="VALID")], {"w": draw(4, 3, 3, 3)}),
    "BatchNormalization": (
        [node("BatchNormalization", "x s b m v", "z", epsilon=0.01)],
        {"s": draw(3), "b": draw(3), "m": draw(3), "v": positive(3)},
    ),
    "PRelu a channel": ([node("PRelu", "x w", "z")], {"w": draw(3, 1, 1)}),
    "PRelu [1, C, 1, 1]": ([node("PRelu", "x w", "z")], {"w": draw(1, 3, 1, 1)}),
    "PRelu shared": ([node("PRelu", "x w", "z")], {"w": draw(1)}),
    "PRelu scalar": ([node("PRelu", "x w", "z")], {"w": np.float32(0.3)}),
    "LeakyRelu": ([node("LeakyRelu", "x", "z", alpha=0.3)], {}),
    "Clip": ([node("Clip", "x l h", "z")], {"l": np.float32(-0.5), "h": np.float32(0.7)}),
    "Clip from below": ([node("Clip", "x l", "z")], {"l": np.float32(0)}),
    "Clip from above": ([node("Clip", "x  h", "z")], {"h": np.float32(0.7)}),
    "Clip of nothing": ([node("Clip", "x", "z")], {}),
    "Sigmoid": ([node("Sigmoid", "x", "z")], {}),
    "HardSigmoid": ([node("HardSigmoid", "x", "z", alpha=1 / 6, beta=0.5)], {}),
    "HardSigmoid of Keras": ([node("HardSigmoid", "x", "z")], {}),
    "HardSwish": ([node("HardSwish", "x", "z")], {}),
    "Add a number": ([node("Add", "x c", "z")], {"c": np.float32(0.3)}),
    "Add a constant first": ([node("Add", "c x", "z")], {"c": draw(3, 1, 1)}),
    "Sub a constant": ([node("Sub", "x c", "z")], {"c": draw(1, 3, 1, 1)}),
    "Sub from a constant": ([node("Sub", "c x", "z")], {"c": draw(3, 1, 1)}),
    "Mul by a constant": ([node("Mul", "x c", "z")], {"c": draw(3, 1, 1)}),
    "Mul by each pixel's": ([node("Mul", "x c", "z")], {"c": draw(1, 1, 8, 8)}),
    "Div by a constant": ([node("Div", "x c", "z")], {"c": positive(3, 1, 1)}),
    "Add to itself": ([node("Add", "x x", "z")], {}),
    "Mul of two": ([node("Relu", "x", "r"), node("Mul", "x r", "z")], {}),
    "Sub of two": ([node("Relu", "x", "r"), node("Sub", "x r", "z")], {}),
    "Mul by a gate": ([node("GlobalAveragePool", "x", "g"), node("Mul", "g x", "z")], {}),
    "Pad": ([node("Pad", "x p", "z")], {"p": ints(0, 0, 1, 2, 0, 0, 0, 3)}),
    "Pad nothing": ([node("Pad", "x p", "z")], {"p": ints(0, 0, 0, 0, 0, 0, 0, 0)}),
    "MaxPool": ([node("MaxPool", "x", "z", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])], {}),
    "MaxPool, uneven pads": ([node("MaxPool", "x", "z", kernel_shape=[2, 2], pads=[0, 0, 1, 1])], {}),
    "MaxPool, rounded up": ([node("MaxPool", "x", "z", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)], {}),
    "AveragePool": ([node("AveragePool", "x", "z", kernel_shape=[2, 2], strides=[2, 2])], {}),
    "AveragePool, padded": ([node("AveragePool", "x", "z", kernel_shape=[3, 3], pads=[1, 1, 1, 1])], {}),
    "AveragePool, border counted": (
        [node("AveragePool", "x", "z", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)],
        {},
    ),
    "ReduceMean": ([WIDER, node("ReduceMean", "c", "z", axes=[-1, 2])], {"w": FOUR}),
    "ReduceMean, dropped": ([WIDER, node("ReduceMean", "c", "z", axes=[2, 3], keepdims=0)], {"w": FOUR}),
    "Transpose twice": ([LAST, node("Sigmoid", "t", "s"), FIRST], {}),
    "Transpose between": (
        [node("Transpose", "x", "t", perm=[0, 3, 1, 2]), node("Conv", "t w", "z")],
        {"w": draw(4, 8, 1, 1)},
    ),
    "PRelu, channels last": ([LAST, node("PRelu", "t w", "s"), FIRST], {"w": draw(1, 1, 3)}),
    "ReduceMean, channels last": (
        [WIDER, node("Transpose", "c", "t", perm=[0, 2, 3, 1]), node("ReduceMean", "t", "z", axes=[1, 2])],
        {"w": FOUR},
    ),
    "Pad, channels last": ([LAST, node("Pad", "t p", "s"), FIRST], {"p": ints(0, 1, 2, 0, 0, 3, 0, 0)}),
    "Concat": ([node("Relu", "x", "r"), node("Concat", "x r x", "z", axis=-3)], {}),
    "Concat, channels last": ([LAST, node("Relu", "t", "r"), node("Concat", "t r", "s", axis=3), FIRST], {}),
    "Concat of different orders": (
        [node("Transpose", "x", "t", perm=[0, 1, 3, 2]), node("Concat", "t x", "z", axis=1)],
        {},
    ),
    "Slice": ([node("Slice", "x a b c", "z")], {"a": ints(1, -6), "b": ints(2**60, -1), "c": ints(2, 3)}),
    "Slice twice": (
        [node("Slice", "x a b c", "s"), node("Slice", "s a b c", "z")],
        {"a": ints(1), "b": ints(99), "c": ints(2)},
    ),
    "Slice of all images": ([node("Slice", "x a b c", "z")], {"a": ints(0), "b": ints(2**63 - 1), "c": ints(0)}),
    "Identity, Dropout, Cast": (
        [node("Identity", "x", "i"), node("Dropout", "i", "d"), node("Cast", "d", "z", to=TensorProto.FLOAT)],
        {},
    ),
    "Unsqueeze and Squeeze": ([node("Unsqueeze", "x a", "u"), node("Squeeze", "u a", "z")], {"a": ints(2)}),
    "Reshape and back": (
        [node("Reshape", "x a", "r"), node("Reshape", "r b", "z")],
        {"a": ints(0, 3, -1), "b": ints(-1, 3, 8, 8)},
    ),
    "Softmax": ([node("Softmax", "x", "z")], {}),
    "Softmax of channels": ([node("Softmax", "x", "z", axis=1)], {}),
    "Softmax, channels last": ([LAST, node("Softmax", "t", "s", axis=3), FIRST], {}),
    "Pad, reflected": ([node("Pad", "x p", "z", mode="reflect")], {"p": ints(0, 0, 1, 1, 0, 0, 2, 1)}),
    "Pad, edges": ([node("Pad", "x p", "z", mode="edge")], {"p": ints(0, 0, 1, 1, 0, 0, 0, 1)}),
    "Pad with ones": ([node("Pad", "x p v", "z")], {"p": ints(0, 0, 1, 1, 0, 0, 1, 1), "v": np.float32(1)}),
    "Pad of channels": ([node("Pad", "x p", "z")], {"p": ints(0, 1, 0, 0, 0, 4, 0, 0)}),
    "Pad that cuts": ([node("Pad", "x p", "z")], {"p": ints(0, 0, -1, 2, 0, -1, 0, -3)}),
    "Slice with steps": (
        [node("Slice", "x a b c d", "z")],
        {"a": ints(0, 1), "b": ints(8, 7), "c": ints(2, 3), "d": ints(2, 3)},
    ),
    "Slice backwards": (
        [node("Slice", "x a b c d", "z")],
        {"a": ints(-1), "b": ints(-(2**63)), "c": ints(1), "d": ints(-1)},
    ),
    "PRelu a column": ([node("PRelu", "x w", "z")], {"w": draw(8)}),
    "PRelu a pixel": ([node("PRelu", "x w", "z")], {"w": draw(3, 8, 8)}),
    "ReduceMean of channels": ([node("ReduceMean", "x", "z", axes=[1])], {}),
    "channels shuffled": (
        [
            node("Conv", "x w", "c"),
            node("Reshape", "c a", "r"),
            node("Transpose", "r", "t", perm=[0, 2, 1, 3, 4]),
            node("Reshape", "t b", "z"),
        ],
        {"w": draw(4, 3, 1, 1), "a": ints(0, 2, 2, 8, 8), "b": ints(0, 4, 8, 8)},
    ),
}


@pytest.mark.parametrize("case", SINGLE)
def test_computes_what_onnx_runtime_does(case, tmp_path):
    nodes, constants = SINGLE[case]
    model = load(tmp_path, [*nodes, FLAT], constants)
    assert_same(tmp_path / "net.onnx", model)
    if case.startswith("Transpose twice"):
        assert functions(model) == ["Sigmoid", "flatten"]
    if case == "Slice twice":
        assert functions(model) == ["getitem", "flatten"]


def test_attributes_of_opset_9_are_read(tmp_path):
    nodes = [
        node("Pad", "x", "p", pads=[0, 0, 1, 1, 0, 0, 1, 1], value=0.0),
        node("Clip", "p", "c", min=-1.0, max=0.5),
        node("Slice", "c", "s", starts=[1], ends=[9], axes=[3]),
        node("Unsqueeze", "s", "u", axes=[1]),
        node("Squeeze", "u", "z", axes=[1]),
    ]
    load(tmp_path, [*nodes, FLAT], opset=9, ir_version=4)
    assert_same(tmp_path / "net.onnx", load_model(tmp_path / "net.onnx", overrides=GIVEN))


def test_axes_of_opset_18_are_read(tmp_path):
    model = load(tmp_path, [WIDER, node("ReduceMean", "c a", "z"), FLAT], {"w": FOUR, "a": ints(2, 3)}, opset=18)
    assert_same(tmp_path / "net.onnx", model)


def test_activations_are_fused_to_the_modules_that_lowerings_know(tmp_path):
    nodes = [
        node("Sigmoid", "x", "s"),
        node("Mul", "s x", "a"),
        node("HardSigmoid", "a", "h", alpha=1 / 6, beta=0.5),
        node("Mul", "a h", "b"),
        node("Clip", "b zero six", "z"),
    ]
    model = load(tmp_path, [*nodes, FLAT], {"zero": np.float32(0), "six": np.float32(6)})
    assert functions(model) == ["SiLU", "Hardswish", "ReLU6", "flatten"]
    assert_same(tmp_path / "net.onnx", model)


def test_modules_keep_the_nodes_names(tmp_path):
    names = ("/layer1/conv.0/Conv", "forward", "class", "", "a" * 200, "/layer1/conv.0/Conv")
    nodes = [onnx.helper.make_node("Relu", [f"r{n}"], [f"r{n + 1}"], name=name) for n, name in enumerate(names)]
    nodes[0].input[0], nodes[-1].output[0] = "x", "z"
    network = load_model(write(tmp_path / "net.onnx", build([*nodes, FLAT])), overrides=GIVEN).network
    found = [n.target for n in network.graph.nodes if n.op == "call_module"]
    assert found[:4] == ["layer1_conv_0_Conv", "relu_forward", "relu_class", "node_3"]
    assert len(set(found)) == 6
    assert len(found[4]) == 60


UNKNOWN = {
    "NonZero": ([node("NonZero", "x", "z")], {}, "operator NonZero is not known"),
    "TopK": ([node("TopK", "x k", "z i")], {"k": ints(2)}, "returns places"),
    "Slice of images": ([node("Slice", "x a b c", "z")], {"a": ints(0), "b": ints(1), "c": ints(0)}, "batch axis"),
    "Concat of images": ([node("Concat", "x x", "z", axis=0)], {}, "batch axis"),
    "Softmax over images": ([node("Softmax", "x", "z", axis=0)], {}, "batch axis"),
    "Sum over images": ([node("ReduceSum", "x a", "z")], {"a": ints(0, 1)}, "batch axis"),
    "weights computed": (
        [node("GlobalAveragePool", "x", "g"), node("Conv", "x g", "z")],
        {},
        "weight is computed from the image",
    ),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_is_not_known_is_refused_by_the_nodes_name(case, tmp_path):
    nodes, constants, message = UNKNOWN[case]
    with pytest.raises(UnsupportedModel, match=message) as caught:
        load_model(write(tmp_path / "net.onnx", build([*nodes, FLAT], constants)), overrides=GIVEN)
    assert f"net.onnx, node 'the {nodes[-1].op_type}'" in caught.value.where
    assert caught.value.fix


def test_prelu_of_older_exporters_is_one_slope_a_channel(tmp_path):
    slopes = draw(3)
    path = write(tmp_path / "net.onnx", build([node("PRelu", "x w", "z"), FLAT], {"w": slopes}))
    with pytest.raises(Exception, match="(?i)prelu|broadcast"):
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": draw(1, 3, 8, 8)})
    prelu = load_model(path, overrides=GIVEN).network.the_PRelu
    assert isinstance(prelu, nn.PReLU)
    assert torch.equal(prelu.weight, torch.from_numpy(slopes))
