"""What compress reads, evaluate, benchmark and inspect read by the same rules, whichever odd form it has."""

import json

import numpy as np
import onnx
import pytest
import torch
from helpers import run_here
from onnx import TensorProto, helper, numpy_helper

from qface_toolkit.evaluation import embed_images, synthetic_people
from qface_toolkit.models import load_model
from qface_toolkit.result.opening import Wanted, open_embedder

FACTS = {"mean": 127.5, "std": 128.0, "color": "rgb"}
SIZE = 32


def weights(seed, *shape):
    return (np.random.default_rng(seed).standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def network(*, dtype=np.float32, batch="N", size=(SIZE, SIZE), last=False, tail=(), outputs=(("e", ["N", 16]),)):
    """Return a small ONNX network; `tail` are nodes behind the vector "v" of 16 numbers, which "e" is by default."""
    arrays = {"w": weights(0, 8, 3, 3, 3), "m": weights(1, 8, 16), "c": np.array([16, 3], dtype)}
    given = [numpy_helper.from_array(value.astype(dtype), name) for name, value in arrays.items()]
    given.append(numpy_helper.from_array(np.array([1, 8], np.int64), "one"))
    given.append(numpy_helper.from_array(np.array([0, 16, 1, 1], np.int64), "four"))
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    shape = [batch, *size, 3] if last else [batch, 3, *size]
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])] if last else []
    nodes += [
        helper.make_node("Conv", ["t" if last else "x", "w"], ["a"], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["v"]),
        *(tail or [helper.make_node("Identity", ["v"], ["e"])]),
    ]
    shown = [helper.make_tensor_value_info(name, kind, axes) for name, axes in outputs]
    entering = helper.make_tensor_value_info("x", kind, shape)
    graph = helper.make_graph(nodes, "net", [entering], shown, given)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def baked():
    """Return a network that says it takes any batch, and reshapes to one image."""
    model = network()
    model.graph.node[3].CopyFrom(helper.make_node("Reshape", ["g", "one"], ["f"]))
    return model


def renamed():
    """Return a network whose input has the name that ours give to pixels."""
    model = network()
    model.graph.input[0].name = model.graph.node[0].input[0] = "image"
    return model


def shapeless():
    """Return a network that says nothing of its input's shape."""
    model = network()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    return model


def listed():
    """Return a network whose weights are inputs too, as old exporters write them, and of an old opset."""
    model = network()
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    model.opset_import[0].version, model.ir_version = 8, 3
    return model


def of_several_domains():
    """Return a network that asks for operators of domains which it does not use, and the standard one by its name."""
    model = network()
    model.opset_import[0].domain = "ai.onnx"
    model.opset_import.extend([helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("com.microsoft", 1)])
    return model


def opened(name):
    """Return a network whose number of channels is left open."""
    model = network()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = name
    return model


NORM = [helper.make_node("Identity", ["v"], ["e"]), helper.make_node("ReduceL2", ["v"], ["n"], axes=[1])]
TWO = [helper.make_node("Identity", ["v"], ["e"]), helper.make_node("Neg", ["v"], ["o"])]
ODD = {
    "plain": (network, {}),
    "half": (lambda: network(dtype=np.float16), {}),
    "double": (lambda: network(dtype=np.float64), {}),
    "four axes": (
        lambda: network(tail=[helper.make_node("Reshape", ["v", "four"], ["e"])], outputs=[("e", ["N", 16, 1, 1])]),
        {},
    ),
    "a norm beside it": (lambda: network(tail=NORM, outputs=[("e", ["N", 16]), ("n", ["N", 1])]), {}),
    "a norm before it": (lambda: network(tail=NORM, outputs=[("n", ["N", 1]), ("e", ["N", 16])]), {}),
    "one of two": (lambda: network(tail=TWO, outputs=[("o", ["N", 16]), ("e", ["N", 16])]), {"output": "e"}),
    "inside": (lambda: network(tail=TWO, outputs=[("o", ["N", 16])]), {"output": "v"}),
    "one image": (lambda: network(batch=1, outputs=[("e", [1, 16])]), {}),
    "three images": (lambda: network(batch=3, outputs=[("e", [3, 16])]), {}),
    "batch zero": (lambda: network(batch=0), {}),
    "baked in": (baked, {}),
    "channels last": (lambda: network(last=True), {}),
    "the name of pixels": (renamed, {}),
    "no shape": (shapeless, {"input_size": [SIZE, SIZE]}),
    "weights listed as inputs": (listed, {}),
    "several domains": (of_several_domains, {}),
    "channels open": (lambda: opened("c"), {}),
    "open size": (lambda: network(size=("h", "w")), {"input_size": [SIZE, SIZE]}),
}


@pytest.fixture(scope="module")
def images():
    return synthetic_people(2, 3).images


@pytest.fixture(scope="module")
def expected(images, tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "net.onnx"
    onnx.save(network(), path)
    return embed_images(open_embedder(path, Wanted(FACTS)), images, flip=False)


@pytest.mark.parametrize("name", ODD)
def test_compress_and_evaluate_read_the_same(name, images, expected, tmp_path):
    make, given = ODD[name]
    onnx.save(make(), tmp_path / "net.onnx")
    facts = FACTS | given
    found = embed_images(open_embedder(tmp_path / "net.onnx", Wanted(facts)), images, flip=False)
    model = load_model(tmp_path / "net.onnx", overrides=facts)
    rows = model.network(torch.from_numpy(model.spec.preprocess(np.stack([images.crop(i) for i in range(6)]))))
    coarse = 1e-2 if name == "half" else 1e-5
    assert np.allclose(found, expected, atol=coarse)
    assert np.allclose(rows.detach().numpy(), expected, atol=coarse)


@pytest.mark.parametrize("name", sorted(ODD.keys() - {"double"}))
def test_benchmark_and_inspect_run_what_compress_reads(name, tmp_path, monkeypatch, capsys):
    make, given = ODD[name]
    path = tmp_path / "net.onnx"
    onnx.save(make(), path)
    sets = [word for key, value in given.items() for word in ("--set", f"model.{key}={json.dumps(value)}")]
    batch = "3" if name == "three images" else "1"
    code, _, said = run_here(monkeypatch, capsys, "benchmark", path, "--rounds", "10", "--batch", batch, *sets)
    assert code == 0, said
    code, _, said = run_here(monkeypatch, capsys, "inspect", path)
    assert code == 0, said


def test_two_embeddings_are_asked_about(tmp_path):
    onnx.save(network(tail=TWO, outputs=[("o", ["N", 16]), ("e", ["N", 16])]), tmp_path / "net.onnx")
    for look in (
        lambda: open_embedder(tmp_path / "net.onnx", Wanted(FACTS)),
        lambda: load_model(tmp_path / "net.onnx"),
    ):
        with pytest.raises(Exception, match="more than one can be the embedding") as raised:
            look()
        assert "model.output=NAME" in raised.value.fix


def test_another_output_is_another_model_in_a_cache(tmp_path):
    onnx.save(network(tail=TWO, outputs=[("o", ["N", 16]), ("e", ["N", 16])]), tmp_path / "net.onnx")
    one, other = (open_embedder(tmp_path / "net.onnx", Wanted(FACTS | {"output": name})) for name in "eo")
    assert one.sha256 != other.sha256


def test_an_operator_of_the_runtime_alone_is_evaluated(tmp_path, images):
    model = network(tail=[helper.make_node("Celu", ["v"], ["e"])])
    onnx.save(model, tmp_path / "net.onnx")
    found = embed_images(open_embedder(tmp_path / "net.onnx", Wanted(FACTS)), images, flip=False)
    assert found.shape == (6, 16)


def test_a_type_that_is_no_picture_is_refused(tmp_path):
    model = network()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(Exception, match="ONNX element type 7"):
        open_embedder(tmp_path / "net.onnx", Wanted(FACTS))
