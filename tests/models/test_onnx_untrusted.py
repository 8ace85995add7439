"""ONNX files from strangers: none of their claims is believed, whatever is wrong is named, and memory stays bounded."""

import os
import random
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_files import FLAT, GIVEN, build, draw, ints, node, positive, write

from qface_toolkit.errors import CheckpointError, QFaceError, UnsupportedModel
from qface_toolkit.models import load_model
from qface_toolkit.models._onnx_wire import check_wire

MOST_SECONDS = 10
"""Far more than any of these takes, and far less than one that is believed."""


def refuse(path, model, match, error=CheckpointError):
    """Assert that the file is refused for this reason, naming the file and a next step, and return the message."""
    started = time.perf_counter()
    with pytest.raises(error, match=match) as caught:
        load_model(write(path / "net.onnx", model), overrides=GIVEN)
    assert time.perf_counter() - started < MOST_SECONDS
    assert str(path / "net.onnx") in caught.value.where
    assert caught.value.fix
    return str(caught.value)


def conv(**tensor):
    """Return a sound model of one convolution, its weight's fields changed afterwards."""
    model = build([node("Conv", "x w", "z"), FLAT], {"w": draw(4, 3, 3, 3)})
    weight = model.graph.initializer[0]
    for key, value in tensor.items():
        weight.ClearField(key)
        setattr(weight, key, value) if key != "dims" else weight.dims.extend(value)
    return model


@pytest.mark.parametrize(
    "content", [b"hello, I am a text\n" * 9, b"\x00" * 100, b"PK\x03\x04", b"{}", b"\x80\x02", b"\x08"]
)
def test_something_else(content, tmp_path):
    refuse(tmp_path, content, "not an ONNX model")


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
    refuse(tmp_path, conv(dims=dims, **carried), "does not fit 1 groups|is for . channels")


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


RELU = node("Relu", "x", "z")
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
    "channels last": (("N", 8, 8, 3), TensorProto.FLOAT),
    "grey": (("N", 1, 8, 8), TensorProto.FLOAT),
    "bytes": (("N", 3, 8, 8), TensorProto.UINT8),
    "larger than a crop": (("N", 3, 160, 160), TensorProto.FLOAT),
    "any size": (("N", 3, "H", "W"), TensorProto.FLOAT),
    "no pixels": (("N", 3, 0, 8), TensorProto.FLOAT),
    "negative": (("N", 3, -8, 8), TensorProto.FLOAT),
    "a vector": (("N", 192), TensorProto.FLOAT),
    "a number": ((), TensorProto.FLOAT),
}


@pytest.mark.parametrize("case", INPUTS)
def test_inputs_that_are_no_aligned_crop(case, tmp_path):
    shape, kind = INPUTS[case]
    message = refuse(tmp_path, build([RELU, FLAT], shape=shape, kind=kind), r"float \[N, 3, height, width\]")
    assert "NCHW" in message


def test_two_inputs_and_two_outputs(tmp_path):
    model = build([RELU, FLAT])
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    refuse(tmp_path, model, "2 inputs .'x', 'mask'.")
    ends = {"y": ("N", 192), "other": ("N", 192)}
    refuse(
        tmp_path, build([RELU, FLAT, node("Sigmoid", "y", "other")], outputs=ends), "2 outputs .'y' of 2 axes, 'other'"
    )


@pytest.mark.parametrize("opset", [0, 8, 10_000, -1, 2**62])
def test_opsets_that_are_not_read(opset, tmp_path):
    refuse(tmp_path, build([RELU, FLAT], opset=opset), "opset")


def test_operators_of_one_runtime(tmp_path):
    fused = helper.make_node("FusedConv", ["x"], ["z"], name="it", domain="com.microsoft")
    refuse(tmp_path, build([fused, FLAT]), "domain 'com.microsoft'")


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


BOMBS = {
    "nodes": bomb(b"\x0a\x00", 20_000_000),
    "initializers": bomb(b"\x2a\x00", 20_000_000),
    "inputs": bomb(b"\x5a\x00", 20_000_000),
    "dimensions": bomb(b"\x2a\x02\x08\x01", 1_000_000),
    "attributes": bomb(b"\x0a\x04\x2a\x02\x40\x01", 1_000_000),
    "unknown fields": bomb(b"\xf8\x07\x01", 10_000_000),
    "names": bomb(b"\x0a\x02\x0a\x00", 10_000_000),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_small_fields_that_would_fill_the_memory(kind, tmp_path):
    refuse(tmp_path, BOMBS[kind], "more than 500000 fields")


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


def test_memory_stays_bounded(tmp_path):
    write(tmp_path / "a.onnx", BOMBS["nodes"])
    write(tmp_path / "b.onnx", conv(dims=(50_000, 50_000, 1, 1)))
    write(tmp_path / "c.onnx", build(*GRAPHS["an outer product"][:2]))
    program = (
        "import resource, sys\n"
        "from qface_toolkit.errors import QFaceError\n"
        "from qface_toolkit.models import load_model\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        load_model(path)\n"
        "    except QFaceError:\n"
        "        continue\n"
        "    sys.exit('loaded ' + path)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    paths = [str(tmp_path / f"{name}.onnx") for name in "abc"]
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 200_000, f"{done.stdout} KiB more"


def sound():
    """Return a small valid file with most kinds of parts."""
    nodes = [
        node("Conv", "x w b", "c", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", "c s s s v", "n"),
        node("PRelu", "n p", "r"),
        node("Add", "r r", "a"),
        node("Concat", "a r", "j", axis=1),
        node("Clip", "j l h", "k"),
        node("MaxPool", "k", "m", kernel_shape=[2, 2]),
        node("Shape", "m", "t"),
        node("Gather", "t zero", "g", axis=0),
        node("Unsqueeze", "g first", "u"),
        node("Concat", "u rest", "to", axis=0),
        node("Reshape", "m to", "f"),
        node("Gemm", "f q", "e", transB=1),
        node("LpNormalization", "e", "y", axis=1),
    ]
    constants = {
        "w": draw(4, 3, 3, 3), "b": draw(4), "s": draw(4), "v": positive(4), "p": draw(4, 1, 1), "q": draw(5, 72),
        "l": np.float32(0), "h": np.float32(6), "zero": np.int64(0), "first": ints(0), "rest": ints(-1),
    }  # fmt: skip
    model = build(nodes, constants)
    helper.set_model_props(model, {"qface.mean": "127.5", "qface.std": "128.0", "qface.color": "rgb"})
    return model


SOUND = sound()
SOUND_BYTES = SOUND.SerializeToString()


def load_or_refuse(path):
    """Load a file: it may be refused in our words, or become a network that runs; nothing else."""
    started = time.perf_counter()
    try:
        model = load_model(path)
    except QFaceError as error:
        assert str(error).isprintable() or "\n" in str(error)
        assert "\x1b" not in str(error)
    else:
        with torch.no_grad():
            embeddings = model.network(torch.zeros(2, 3, *model.spec.input_size))
        assert embeddings.shape == (2, model.spec.embedding_size)
    assert time.perf_counter() - started < MOST_SECONDS


def test_the_sound_file_loads(tmp_path):
    onnx.checker.check_model(SOUND)
    assert load_model(write(tmp_path / "net.onnx", SOUND)).spec.embedding_size == 5


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.booleans(),
)
def test_damaged_bytes_never_cause_another_error(places, cut, tmp_path):
    data = bytearray(SOUND_BYTES)
    for place, value in places:
        data[int(place * len(data))] = value
    load_or_refuse(write(tmp_path / "net.onnx", bytes(data[: int(places[0][0] * len(data)) + 1] if cut else data)))


NUMBERS = (0, 1, -1, 2, 3, 7, 8, 72, 113, 2**31, 2**62, -(2**63))
OPERATORS = sorted({one.op_type for one in SOUND.graph.node}) + [
    "Slice", "Squeeze", "Transpose", "Mul", "Div", "Sub", "Pad", "ReduceMean", "ReduceL2", "Cast", "Expand", "MatMul",
    "Flatten", "ConstantOfShape", "Sigmoid", "HardSigmoid", "AveragePool", "Constant", "Identity",
]  # fmt: skip


def mutate(model, draws):
    """Change one thing about the structure of a model."""
    graph = model.graph
    one = draws.choice(graph.node)
    tensor = draws.choice(graph.initializer)
    names = ["", "x", *(t.name for t in graph.initializer), *(name for n in graph.node for name in n.output)]
    change = draws.randrange(11)
    if change == 0 and one.input:
        one.input[draws.randrange(len(one.input))] = draws.choice(names)
    elif change == 1:
        one.op_type = draws.choice(OPERATORS)
    elif change == 2:
        graph.node.remove(one)
    elif change == 3 and tensor.dims:
        tensor.dims[draws.randrange(len(tensor.dims))] = draws.choice(NUMBERS)
    elif change == 4 and one.attribute:
        attribute = draws.choice(one.attribute)
        attribute.i = draws.choice(NUMBERS)
        attribute.ints[:] = [draws.choice(NUMBERS) for _ in range(draws.randrange(5))]
    elif change == 5:
        key = draws.choice(["axis", "axes", "perm", "group", "alpha", "keepdims", "auto_pad", "ends", "to", "value"])
        value = draws.choice([draws.choice(NUMBERS), 1.5, [0, 1], [2, 3], [0.5], "SAME_UPPER", tensor])
        one.attribute.append(helper.make_attribute(key, value))
    elif change == 6:
        values = np.array([draws.choice(NUMBERS) for _ in range(draws.randrange(5))], np.int64)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    elif change == 7:
        tensor.data_type = draws.randrange(24)
    elif change == 8:
        dim = draws.choice(graph.input[0].type.tensor_type.shape.dim)
        dim.dim_value = draws.choice(NUMBERS)
    elif change == 9:
        model.metadata_props[draws.randrange(3)].value = draws.choice(["", "[1,", "\x1b[2J", "[1e400, 0, 0]", "bgr"])
    elif change == 10 and len(one.output):
        one.output[0] = draws.choice(names)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 4))
def test_other_structures_never_cause_another_error(seed, changes, tmp_path):
    model, draws = onnx.ModelProto(), random.Random(seed)
    model.CopyFrom(SOUND)
    for _ in range(changes):
        mutate(model, draws)
    load_or_refuse(write(tmp_path / "net.onnx", model))


@given(data=st.binary(max_size=200))
def test_any_bytes_are_measured(data):
    try:
        check_wire(data)
    except CheckpointError as error:
        assert error.fix
