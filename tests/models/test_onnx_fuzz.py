"""A small sound ONNX file, damaged at random: it still loads and runs, or is refused in our words; nothing else."""

import random

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx_files import assert_same, build, draw, ints, node, positive, write

from qface_toolkit.errors import CheckpointError, QFaceError
from qface_toolkit.models import load_model
from qface_toolkit.models.onnx.folding import COMPUTED
from qface_toolkit.models.onnx.operators import OPERATORS as READ
from qface_toolkit.untrusted._wire import check_wire


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
        "w": draw(4, 3, 3, 3),
        "b": draw(4),
        "s": draw(4),
        "v": positive(4),
        "p": draw(4, 1, 1),
        "q": draw(5, 72),
        "l": np.float32(0),
        "h": np.float32(6),
        "zero": np.int64(0),
        "first": ints(0),
        "rest": ints(-1),
    }
    model = build(nodes, constants)
    helper.set_model_props(model, {"qface.mean": "127.5", "qface.std": "128.0", "qface.color": "rgb"})
    return model


def sound_transformer():
    """Return a small valid file with what attention is made of."""
    nodes = [
        node("Reshape", "x rows", "r"),
        node("Transpose", "r", "t", perm=[1, 0, 2]),
        node("LayerNormalization", "t s b", "n", axis=-1),
        node("MatMul", "n q", "m"),
        node("Split", "m", "k l", axis=2),
        node("Transpose", "k", "kt", perm=[1, 0, 2]),
        node("Transpose", "l", "lt", perm=[1, 2, 0]),
        node("MatMul", "kt lt", "a"),
        node("Softmax", "a", "w"),
        node("Einsum", "w kt", "o", equation="bij,bjd->bid"),
        node("Gather", "o some", "g", axis=1),
        node("Tile", "g times", "u"),
        node("Greater", "u half", "big"),
        node("Where", "big u half", "c"),
        node("Resize", "x  scales", "z", mode="linear"),
        node("ReduceMax", "z", "top", axes=[2, 3]),
        node("Flatten", "top", "ft"),
        node("Flatten", "c", "fc"),
        node("Concat", "ft fc", "j", axis=1),
        node("Range", "zero three one", "places"),
        node("Gather", "j places", "y", axis=1),
    ]
    constants = {
        "rows": ints(0, 8, 24),
        "s": draw(24),
        "b": draw(24),
        "q": draw(24, 8),
        "some": ints(2, 0),
        "times": ints(1, 2, 1),
        "half": np.float32(0.5),
        "scales": np.array([1, 1, 1.5, 2], np.float32),
        "zero": np.int64(0),
        "three": np.int64(5),
        "one": np.int64(1),
    }
    model = build(nodes, constants)
    helper.set_model_props(model, {"qface.mean": "127.5", "qface.std": "128.0", "qface.color": "rgb"})
    return model


SOUND = sound()
TRANSFORMER = sound_transformer()
SOUND_BYTES = SOUND.SerializeToString()


def load_or_refuse(path):
    """Load a file: it may be refused in our words, or become a network that runs; nothing else."""
    try:
        model = load_model(path)
    except QFaceError as error:
        assert str(error).isprintable() or "\n" in str(error)
        assert "\x1b" not in str(error)
    else:
        with torch.no_grad():
            embeddings = model.network(torch.zeros(2, 3, *model.spec.input_size))
        assert embeddings.shape == (2, model.spec.embedding_size)


def test_the_sound_files_load(tmp_path):
    for model in (SOUND, TRANSFORMER):
        onnx.checker.check_model(model)
        path = write(tmp_path / "net.onnx", model)
        loaded = load_model(path)
        assert loaded.spec.embedding_size == 5
        assert_same(path, loaded)


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
OPERATORS = sorted({*READ, *COMPUTED, "Constant", "ConstantOfShape", "Shape", "Size"})


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


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 4), of=st.sampled_from([SOUND, TRANSFORMER]))
def test_other_structures_never_cause_another_error(seed, changes, of, tmp_path):
    model, draws = onnx.ModelProto(), random.Random(seed)
    model.CopyFrom(of)
    for _ in range(changes):
        mutate(model, draws)
    load_or_refuse(write(tmp_path / "net.onnx", model))


@given(data=st.binary(max_size=200))
def test_any_bytes_are_measured(data):
    try:
        check_wire(data)
    except CheckpointError as error:
        assert error.fix
