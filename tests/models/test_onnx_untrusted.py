"""ONNX files from strangers: none of their claims is believed, whatever is wrong is named, and memory stays bounded."""

import os
import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_files import FLAT, GIVEN, RELU, build, draw, ints, node, refuse, write
from tiers import in_tiers

from qface_toolkit.errors import CheckpointError
from qface_toolkit.models import load_model


def conv(**tensor):
    """Return a sound model of one convolution, its weight's fields changed afterwards."""
    model = build([node("Conv", "x w", "z"), FLAT], {"w": draw(4, 3, 3, 3)})
    weight = model.graph.initializer[0]
    for key, value in tensor.items():
        weight.ClearField(key)
        setattr(weight, key, value) if key != "dims" else weight.dims.extend(value)
    return model


SOMETHING_ELSE = {
    b"hello, I am a text\n" * 9: "this is a text",
    b"\x00" * 100: "not an ONNX model",
    b"PK\x03\x04": "damaged or cut short",
    b"{}": "a JSON text",
    b"\x80\x02": "a Python pickle",
    b"\x08": "not an ONNX model",
}


@pytest.mark.parametrize("content", SOMETHING_ELSE)
def test_something_else(content, tmp_path):
    refuse(tmp_path, content, SOMETHING_ELSE[content])


def test_empty_missing_and_huge(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_model(tmp_path / "none.onnx")
    refuse(tmp_path, b"", "empty")
    with (tmp_path / "huge.onnx").open("wb") as stream:
        stream.truncate((1 << 30) + 1)
    with pytest.raises(CheckpointError, match="more than any face network"):
        load_model(tmp_path / "huge.onnx")


@pytest.mark.parametrize("dims", [(50_000, 50_000, 1, 1), (1 << 62, 1 << 62, 3, 3), (4, 3, 3, 4)], ids=str)
def test_weights_that_the_file_does_not_hold(dims, tmp_path):
    message = refuse(tmp_path, conv(dims=dims), r"shape needs \d+ bytes and it carries 432")
    assert "node 'the Conv' (Conv)" in message


@pytest.mark.parametrize("dims", [(-4, 3, 3, -3), (1,) * 9], ids=str)
def test_shapes_that_none_can_have(dims, tmp_path):
    refuse(tmp_path, conv(dims=dims), "which none can have")


@pytest.mark.parametrize("dims", [(0, 3, 3, 3), (108,), (12, 3, 3), (4, 1, 3, 9), (2, 6, 3, 3)], ids=str)
def test_weights_that_do_not_fit(dims, tmp_path):
    carried = {"raw_data": b""} if 0 in dims else {}
    refuse(tmp_path, conv(dims=dims, **carried), "does not fit|is for . channels")


@pytest.mark.parametrize(
    "kind", [TensorProto.INT8, TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.FLOAT8E5M2, 99]
)
def test_weights_of_another_type(kind, tmp_path):
    refuse(tmp_path, conv(data_type=kind), "element type|makes no sense|cannot read")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(value, tmp_path):
    refuse(tmp_path, conv(raw_data=np.full(108, value, np.float32).tobytes()), "NaN or infinite")


LOCATIONS = (
    "../outside.bin",
    "/etc/hostname",
    "folder/inside.bin",
    "..",
    "",
    "link.bin",
    "none.bin",
    "a\x00b",
    "pipe",
    "C:x",
)


@pytest.mark.parametrize("location", LOCATIONS)
def test_bytes_outside_the_folder(location, tmp_path):
    folder = tmp_path / "models"
    (folder / "folder").mkdir(parents=True)
    for path in (tmp_path / "outside.bin", folder / "folder" / "inside.bin"):
        path.write_bytes(bytes(432))
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    os.mkfifo(folder / "pipe")
    refuse(folder, external(location=location), "no plain file name|no such file is")


def external(**entries):
    model = conv(raw_data=b"")
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        weight.external_data.add(key=key, value=value)
    return model


@pytest.mark.parametrize(
    "entries",
    [{"length": "9999"}, {"length": "-1"}, {"offset": "1"}, {"offset": "-432"}, {"offset": "9" * 30}, {"offset": "x"}],
    ids=str,
)
def test_bytes_that_the_other_file_does_not_hold(entries, tmp_path):
    (tmp_path / "w.bin").write_bytes(bytes(432))
    refuse(tmp_path, external(location="w.bin", **entries), "it carries|claims bytes|is given as")


def test_ten_gigabytes_declared_beside_a_small_file(tmp_path):
    model = external(location="w.bin", length=str(10 << 30))
    model.graph.initializer[0].dims[:] = [10 << 18, 1024, 1, 1]
    (tmp_path / "w.bin").write_bytes(bytes(432))
    refuse(tmp_path, model, "more than 1073741824 bytes")


def nested(depth):
    graph = helper.make_graph([node("Relu", "x", "y")], "g", [], [])
    for _ in range(depth):
        graph = helper.make_graph(
            [helper.make_node("If", ["x"], ["y"], then_branch=graph, else_branch=graph)], "g", [], []
        )
    return graph


def test_nested_graphs(tmp_path):
    model = build([RELU, FLAT])
    model.graph.node.extend(nested(3).node)
    refuse(tmp_path, model, "nested graphs")


def test_functions_and_training(tmp_path):
    model = build([RELU, FLAT])
    model.functions.add().name = "f"
    refuse(tmp_path, model, "functions of its own")
    model = build([RELU, FLAT])
    model.training_info.add().algorithm.name = "g"
    refuse(tmp_path, model, "training steps")


def test_sparse_tensors(tmp_path):
    model = build([RELU, FLAT])
    values, places = numpy_helper.from_array(draw(1), "s"), numpy_helper.from_array(ints(0))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [1 << 40]))
    refuse(tmp_path, model, "sparse tensors")


def bomb(inner, times):
    """Return an ONNX file whose graph is one small field again and again."""
    body = inner * times
    size, digits = len(body), b""
    while size >= 0x80:
        digits, size = digits + bytes([size & 0x7F | 0x80]), size >> 7
    return b"\x08\x08\x3a" + digits + bytes([size]) + body


def test_long_lists(tmp_path):
    nodes = [node("Conv", "x w", "z", strides=[1] * 2000), FLAT]
    refuse(tmp_path, build(nodes, {"w": draw(4, 3, 3, 3)}), "a list of 2000 numbers")


def test_values_that_are_no_tensors(tmp_path):
    model = build([RELU, FLAT])
    model.graph.value_info.add(name="s").type.sequence_type.elem_type.tensor_type.elem_type = 1
    refuse(tmp_path, model, "values that are no tensors")


def test_numbers_that_are_not_raw_are_read(tmp_path):
    weight = draw(4, 3, 8, 8)
    for values, kind in ((weight, TensorProto.FLOAT), (weight.astype(np.float16), TensorProto.FLOAT16)):
        model = build([node("Conv", "x w", "z"), FLAT], {"w": weight})
        model.graph.initializer[0].CopyFrom(helper.make_tensor("w", kind, values.shape, values.flatten()))
        assert not model.graph.initializer[0].HasField("raw_data")
        loaded = load_model(write(tmp_path / "net.onnx", model), overrides=GIVEN).network.the_Conv.weight
        assert np.array_equal(loaded.detach().numpy(), values.astype(np.float32))


BOMBS = {
    "nodes": (b"\x0a\x00", 20_000_000),
    "initializers": (b"\x2a\x00", 20_000_000),
    "inputs": (b"\x5a\x00", 20_000_000),
    "dimensions": (b"\x2a\x02\x08\x01", 1_000_000),
    "attributes": (b"\x0a\x04\x2a\x02\x40\x01", 1_000_000),
    "unknown fields": (b"\xf8\x07\x01", 10_000_000),
    "names": (b"\x0a\x02\x0a\x00", 10_000_000),
}
"""What a bomb repeats, and how often; each is made where it is thrown."""


@pytest.mark.parametrize("kind", in_tiers(BOMBS, fast=("nodes", "dimensions")))
def test_small_fields_that_would_fill_the_memory(kind, tmp_path):
    refuse(tmp_path, bomb(*BOMBS[kind]), "more than 500000 fields")


def test_many_nodes(tmp_path):
    names = ["x", *(f"r{n}" for n in range(20_001))]
    nodes = [helper.make_node("Relu", [one], [other]) for one, other in zip(names, names[1:], strict=False)]
    refuse(tmp_path, build([*nodes, node("Flatten", names[-1], "y")]), "20002 nodes")


def test_the_same_weights_a_thousand_times(tmp_path):
    nodes = [node("Conv", "x w", "c0")]
    nodes += [helper.make_node("Conv", [f"c{n}", "w"], [f"c{n + 1}"]) for n in range(1000)]
    model = build([*nodes, node("Flatten", "c1000", "y")], {"w": draw(3, 3, 7, 7)}, shape=("N", 3, 112, 112))
    for one in model.graph.node[:-1]:
        one.attribute.append(helper.make_attribute("pads", [3, 3, 3, 3]))
    refuse(tmp_path, model, "used again and again|grows beyond")


def test_a_tensor_that_doubles(tmp_path):
    nodes = [helper.make_node("Concat", [f"c{n}"] * 2, [f"c{n + 1}"], axis=1) for n in range(60)]
    nodes[0].input[:] = ["x", "x"]
    refuse(tmp_path, build([*nodes, node("Flatten", "c60", "y")]), "grows beyond any face network")


@pytest.mark.slow
def test_memory_and_time_stay_bounded(tmp_path):
    write(tmp_path / "a.onnx", bomb(*BOMBS["nodes"]))
    write(tmp_path / "b.onnx", conv(dims=(50_000, 50_000, 1, 1)))
    outer = [node("Mul", "a b", "c"), node("Add", "x c", "z"), FLAT]
    write(tmp_path / "c.onnx", build(outer, {"a": draw(9000, 1), "b": draw(1, 9000)}))
    program = (
        "import sys\n"
        "from qface_toolkit.untrusted.limits import peak_memory_bytes\n"
        "from qface_toolkit.errors import QFaceError\n"
        "from qface_toolkit.models import load_model\n"
        "before = peak_memory_bytes()\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        load_model(path)\n"
        "    except QFaceError:\n"
        "        continue\n"
        "    sys.exit('loaded ' + path)\n"
        "print(peak_memory_bytes() - before)\n"
    )
    paths = [str(tmp_path / f"{name}.onnx") for name in "abc"]
    command = [sys.executable, "-c", program, *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 200_000_000, f"{done.stdout} bytes more"
