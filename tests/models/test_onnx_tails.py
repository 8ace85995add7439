"""Where an imported ONNX graph ends: matrices, lengths to divide by, several outputs; and weights elsewhere."""

import numpy as np
import onnx
import pytest
import torch
from onnx_files import (
    FLAT,
    GIVEN,
    LAST,
    assert_same,
    build,
    draw,
    functions,
    ints,
    load,
    node,
    positive,
)

from qface_toolkit.models import load_model

TAILS = {
    "Gemm": ([node("Gemm", "f w b", "y", transB=1)], {"w": draw(5, 192), "b": draw(5)}),
    "Gemm, scaled": ([node("Gemm", "f w b", "y", alpha=0.5, beta=2.0)], {"w": draw(192, 5), "b": draw(1, 5)}),
    "Gemm, one bias": ([node("Gemm", "f w b", "y")], {"w": draw(192, 5), "b": draw(1)}),
    "MatMul": ([node("MatMul", "f w", "y")], {"w": draw(192, 5)}),
    "MatMul, Add": ([node("MatMul", "f w", "m"), node("Add", "m b", "y")], {"w": draw(192, 5), "b": draw(5)}),
    "Gemm, BatchNormalization": (
        [node("Gemm", "f w", "g"), node("BatchNormalization", "g s s s v", "y")],
        {"w": draw(192, 5), "s": draw(5), "v": positive(5)},
    ),
    "MatMul, PRelu": ([node("MatMul", "f w", "m"), node("PRelu", "m s", "y")], {"w": draw(192, 5), "s": draw(5)}),
    "LpNormalization": ([node("LpNormalization", "f", "y", axis=1)], {}),
    "ReduceL2, Div": ([node("ReduceL2", "f", "n", axes=[1]), node("Div", "f n", "y")], {}),
    "ReduceL2, Add, Div": (
        [node("ReduceL2", "f", "n", axes=[-1]), node("Add", "n e", "k"), node("Div", "f k", "y")],
        {"e": np.float32(1e-10)},
    ),
    "ReduceL2, Clip, Expand, Div": (
        [
            node("ReduceL2", "f", "n", axes=[1]),
            node("Clip", "n e", "c"),
            node("Shape", "f", "s"),
            node("Expand", "c s", "k"),
            node("Div", "f k", "y"),
        ],
        {"e": np.float32(1e-12)},
    ),
}
BEFORE = {
    "flat": [node("Flatten", "x", "f")],
    "channels last": [LAST, node("Reshape", "t a", "f")],
    "channels last, normed": [
        LAST,
        node("Flatten", "t", "j"),
        node("BatchNormalization", "j ns nb nb nv", "h"),
        node("Mul", "h nb", "f"),
    ],
}


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("tail", TAILS)
def test_tails_compute_what_onnx_runtime_does(tail, before, tmp_path):
    nodes, constants = TAILS[tail]
    constants = {**constants, "a": ints(-1, 192), "ns": draw(192), "nb": draw(192), "nv": positive(192)}
    model = load(tmp_path, [*BEFORE[before], *nodes], constants)
    assert_same(tmp_path / "net.onnx", model)
    if "L2" in tail or "Lp" in tail:
        assert functions(model)[-1] == "normalize"
    else:
        assert "permute" not in functions(model)
    if tail == "MatMul, Add":
        assert functions(model)[-1] == "Linear"


def test_outputs_of_one_pixel_are_vectors(tmp_path):
    shape = {"y": ("N", 4, 1, 1)}
    model = load(tmp_path, [node("Conv", "x w", "y")], {"w": draw(4, 3, 8, 8)}, outputs=shape)
    assert model.spec.embedding_size == 4
    assert "flattened the output [N, 4, 1, 1] to vectors" in model.notes
    assert_same(tmp_path / "net.onnx", model)


def test_the_only_matrix_is_the_embedding(tmp_path):
    ends = {"z": ("N", 4, 1, 1), "y": ("N", 4)}
    nodes = [node("Conv", "x w", "z"), FLAT, node("Softmax", "z", "unused")]
    model = load(tmp_path, nodes, {"w": draw(4, 3, 8, 8)}, outputs=ends)
    assert "took the only output [N, D], 'y', of 2" in model.notes
    assert functions(model) == ["Conv2d", "flatten"]


def test_weights_beside_the_file_are_read_and_hashed(tmp_path):
    weight = draw(4, 3, 8, 8)
    model = build([node("Conv", "x w", "z"), FLAT], {"w": weight})
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.bin", size_threshold=0)
    loaded = load_model(tmp_path / "net.onnx", overrides=GIVEN)
    assert torch.equal(loaded.network.the_Conv.weight, torch.from_numpy(weight))
    assert_same(tmp_path / "net.onnx", loaded)
    data = bytearray((tmp_path / "net.bin").read_bytes())
    data[0] ^= 1
    (tmp_path / "net.bin").write_bytes(data)
    assert load_model(tmp_path / "net.onnx", overrides=GIVEN).source_sha256 != loaded.source_sha256
