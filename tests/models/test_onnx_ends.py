"""What ONNX files eat and return: channels last, gray, open sizes, baked batches, and which output is the embedding."""

import numpy as np
import pytest
import torch
from onnx_files import (
    FLAT,
    GIVEN,
    assert_same,
    build,
    draw,
    export,
    functions,
    ints,
    load,
    node,
    positive,
    refuse,
    write,
)
from torch import nn

from qface_toolkit.errors import CheckpointError
from qface_toolkit.models import load_model

FIRST = node("Transpose", "x", "f", perm=[0, 3, 1, 2])
CONV = node("Conv", "x w", "z", pads=[1, 1, 1, 1])


def test_channels_last_cost_nothing(tmp_path):
    nodes = [FIRST, node("Conv", "f w", "z"), FLAT]
    model = load(tmp_path, nodes, {"w": draw(4, 3, 8, 8)}, shape=("N", 8, 8, 3))
    assert model.spec.input_size == (8, 8)
    assert functions(model) == ["Conv2d", "flatten"]
    assert_same(tmp_path / "net.onnx", model, channels_last=True)


def test_arithmetic_on_channels_last(tmp_path):
    nodes = [node("Sub", "x m", "s"), node("PRelu", "s a", "z"), node("Reshape", "z t", "y")]
    constants = {"m": draw(3), "a": draw(1, 1, 3), "t": ints(-1, 8 * 9 * 3)}
    model = load(tmp_path, nodes, constants, shape=("N", 8, 9, 3))
    assert_same(tmp_path / "net.onnx", model, channels_last=True)


def test_a_gate_of_channels_last_is_brought_to_the_picture(tmp_path):
    nodes = [
        node("ReduceMean", "x", "g", axes=[1, 2], keepdims=0),
        node("Sigmoid", "g", "s"),
        node("Reshape", "s to", "r"),
        node("Mul", "x r", "z"),
        FLAT,
    ]
    model = load(tmp_path, nodes, {"to": ints(-1, 1, 1, 3)}, shape=("N", 8, 9, 3))
    assert functions(model)[2:] == ["Sigmoid", "reshape", "mul", "permute", "flatten"]
    assert_same(tmp_path / "net.onnx", model, channels_last=True)


@pytest.mark.parametrize("shape", [("N", 1, 8, 10), ("N", 8, 10, 1)])
def test_gray_images(shape, tmp_path):
    nodes = [FIRST, node("Conv", "f w", "z"), FLAT] if shape[-1] == 1 else [node("Conv", "x w", "z"), FLAT]
    path = write(tmp_path / "net.onnx", build(nodes, {"w": draw(4, 1, 3, 3)}, shape=shape))
    model = load_model(path, overrides={"mean": 127.5, "std": 128.0})
    assert model.spec.input_shape == (1, 8, 10)
    assert model.spec.color == "gray"
    assert_same(path, model, channels_last=shape[-1] == 1)
    with pytest.raises(CheckpointError, match="1 channel.s., and model.color is rgb"):
        load_model(path, overrides=GIVEN)


def test_images_of_any_size_take_the_one_given(tmp_path):
    nodes = [CONV, node("GlobalAveragePool", "z", "g"), node("Flatten", "g", "y")]
    path = write(tmp_path / "net.onnx", build(nodes, {"w": draw(4, 3, 3, 3)}, shape=("N", 3, "H", 24)))
    model = load_model(path, overrides={**GIVEN, "input_size": [16, 24]})
    assert model.spec.input_size == (16, 24)
    assert_same(path, model)
    with pytest.raises(CheckpointError, match="model.input_size is .16, 16."):
        load_model(path, overrides={**GIVEN, "input_size": [16, 16]})


@pytest.mark.parametrize("batch", [0, -1, 1, 4, "None", ""])
def test_any_way_to_say_how_many_images(batch, tmp_path):
    nodes = [node("Conv", "x w", "z"), node("Reshape", "z s", "y")]
    leading = batch if isinstance(batch, int) and batch > 0 else 1
    constants = {"w": draw(4, 3, 8, 8), "s": ints(leading, -1)}
    path = write(tmp_path / "net.onnx", build(nodes, constants, shape=(batch, 3, 8, 8)))
    model = load_model(path, overrides=GIVEN)
    if batch == 0:  # which runtimes take by the letter
        write(path, build(nodes, constants, shape=("N", 3, 8, 8)))
    assert_same(path, model, counts=(4,), one_by_one=batch != 4)


BAKED = {
    "a batch of one in a reshape": ([node("Reshape", "z s", "y")], {"s": ints(1, 36 * 4)}),
    "its axis dropped and given back": (
        [node("Squeeze", "z a", "q"), node("Reshape", "q s", "r"), node("Unsqueeze", "r a", "y")],
        {"a": ints(0), "s": ints(-1)},
    ),
    "its axis dropped": ([node("Reshape", "z s", "y")], {"s": ints(4 * 36)}),
    "its first image": (
        [node("Gather", "z a", "g", axis=0), node("Reshape", "g s", "y")],
        {"a": np.int64(0), "s": ints(-1)},
    ),
}


@pytest.mark.parametrize("case", BAKED)
def test_files_for_one_image_are_read_for_any_number(case, tmp_path):
    nodes, constants = BAKED[case]
    ends = {"y": None}
    path = write(
        tmp_path / "net.onnx",
        build(
            [node("Conv", "x w", "z"), *nodes], {"w": draw(4, 3, 3, 3), **constants}, shape=(1, 3, 8, 8), outputs=ends
        ),
    )
    assert_same(path, load_model(path, overrides=GIVEN), one_by_one=True)


class Two(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.body, self.heads = nn.Sequential(nn.Conv2d(3, 8, 8), nn.Flatten()), nn.ModuleList(heads)

    def forward(self, images):
        vectors = self.body(images)
        return tuple(head(vectors) for head in self.heads)


class Length(nn.Module):
    def forward(self, vectors):
        return vectors.norm(dim=1, keepdim=True)


class Unit(nn.Module):
    def forward(self, vectors):
        return vectors / vectors.norm(dim=1, keepdim=True)


def several(path, heads, **options):
    torch.manual_seed(0)
    names = ("input", *(f"out{number}" for number in range(len(heads))))
    return write(path / "net.onnx", export(Two(heads), (8, 8), names=names, **options))


def test_lengths_scores_and_huge_heads_are_no_embedding(tmp_path):
    path = several(tmp_path, [Length(), nn.Linear(8, 3), Unit(), nn.Linear(8, 5000)])
    model = load_model(path, overrides=GIVEN)
    assert "took the only output [N, D], 'out2', of 4" in model.notes
    assert functions(model)[-1] == "normalize"
    assert_same(path, model, output="out2")


def test_heads_that_are_not_read_do_not_matter(tmp_path):
    nodes = [node("Conv", "x w", "z"), node("TopK", "z k", "t i"), FLAT, node("Flatten", "t", "top")]
    constants = {"w": draw(4, 3, 8, 8), "k": ints(1)}
    path = write(tmp_path / "net.onnx", build(nodes, constants, outputs={"top": ("N", 4), "y": ("N", 4)}))
    assert load_model(path, overrides=GIVEN).spec.embedding_size == 4


def test_one_of_several_embeddings_is_named(tmp_path):
    path = several(tmp_path, [nn.Linear(8, 5), nn.Linear(8, 6)])
    message = refuse(tmp_path, path.read_bytes(), "'out0' .N, 5., 'out1' .N, 6.., and more than one")
    assert "--set model.output=NAME" in message
    model = load_model(path, overrides={**GIVEN, "output": "out1"})
    assert model.spec.embedding_size == 6
    assert_same(path, model, output="out1")
    with pytest.raises(CheckpointError, match="'out7', and nothing in the graph") as caught:
        load_model(path, overrides={**GIVEN, "output": "out7"})
    assert "'out0', 'out1'" in caught.value.fix


def test_an_embedding_inside_the_graph_is_named(tmp_path):
    nodes = [node("Conv", "x w", "z"), node("Flatten", "z", "inner"), node("ReduceSum", "inner a", "y")]
    path = write(tmp_path / "net.onnx", build(nodes, {"w": draw(4, 3, 8, 8), "a": ints(1)}, outputs={"y": ("N", 1)}))
    with pytest.raises(CheckpointError, match="no embedding") as caught:
        load_model(path, overrides=GIVEN)
    assert "--set model.output=NAME" in caught.value.fix
    assert load_model(path, overrides={**GIVEN, "output": "inner"}).spec.embedding_size == 4


NORM = {"s": draw(3), "b": draw(3), "m": draw(3), "v": positive(3)}


@pytest.mark.parametrize("opset", [7, 8])
def test_opsets_seven_and_eight(opset, tmp_path):
    nodes = [
        node("BatchNormalization", "x s b m v", "n", epsilon=0.01),
        node("Dropout", "n", "d", ratio=0.4),
        node("Clip", "d", "c", min=-1.0, max=0.5),
        node("Pad", "c", "p", pads=[0, 0, 1, 1, 0, 0, 1, 1]),
        node("Slice", "p", "z", starts=[1], ends=[9], axes=[3]),
        FLAT,
    ]
    load(tmp_path, nodes, NORM, opset=opset, ir_version=4)
    assert_same(tmp_path / "net.onnx", load_model(tmp_path / "net.onnx", overrides=GIVEN))


def test_statistics_of_each_number_of_old_opsets(tmp_path):
    each = {name: positive(3, 8, 8) if name == "v" else draw(3, 8, 8) for name in "sbmv"}
    nodes = [node("BatchNormalization", "x s b m v", "z", spatial=0), FLAT]
    model = load(tmp_path, nodes, each, opset=8, ir_version=4)
    images = draw(2, 3, 8, 8)
    expected = (images - each["m"]) / np.sqrt(each["v"] + 1e-5) * each["s"] + each["b"]
    found = model.network(torch.from_numpy(images)).numpy()
    assert abs(found - expected.reshape(2, -1)).max() < 1e-4 * abs(expected).max()
