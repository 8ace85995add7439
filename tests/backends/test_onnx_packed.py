"""The packed file computes what the int8 file does, to the bit, and is nothing but integers once it is loaded."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from quantized import opened, printed, small_model, smooth_images
from tiers import in_tiers
from torch import nn

from qface_toolkit.backends import BACKENDS
from qface_toolkit.backends.onnx_packed.pack import pack
from qface_toolkit.errors import ArtifactError
from qface_toolkit.quantize.scheme import SCALE_TABLE, Scheme, TensorScheme
from qface_toolkit.runtimes.cost import measure_cost

PAIRS = {"onnx-packed-x86": "onnx-x86", "onnx-packed-arm": "onnx-arm"}
NETWORKS = in_tiers(
    ("mobilefacenet", "mobilefacenet-relu6", "iresnet", "pocketnet"),
    fast=("mobilefacenet", "iresnet"),
)
GRID = np.float32(1 / 127)


def coarse(written, bits, seed=0):
    """Return a file whose weights have codes of `bits`, its scales are powers of 2 ** (1 / 8), its slopes 127ths."""
    model, draw = onnx.ModelProto(), np.random.default_rng(seed)
    model.CopyFrom(written)
    slopes = {node.input[0] for node in model.graph.node if node.op_type == "Sign"}
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if tensor.data_type == TensorProto.INT8 and array.ndim > 1:
            largest = (1 << bits - 1) - 1
            array = np.rint(array * (largest / 127)).astype(np.int8)
        elif tensor.name in slopes:
            array = np.rint(np.clip(array, -1, 1) * 127).astype(np.float32) * GRID
        elif tensor.data_type == TensorProto.FLOAT and array.ndim == 1:
            array = np.float32(2) ** (np.rint(np.log2(array) * 8) / 8).astype(np.float32)
        elif tensor.data_type == TensorProto.INT32 and array.ndim == 1:
            array = draw.integers(-30000, 30000, array.shape).astype(np.int32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


def run_file(model, images, *, optimized=True):
    """Return the embeddings that ONNX Runtime computes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


@pytest.fixture(scope="module", params=NETWORKS)
def model(request):
    return small_model(request.param)


@pytest.fixture(scope="module")
def written(model):
    return printed("onnx-x86", model).model


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
def test_packing_changes_no_bit(model, written, bits):
    images, plain = smooth_images(model.spec.input_size, count=2), coarse(written, bits)
    packed = pack(plain)
    onnx.checker.check_model(packed, full_check=True)
    assert np.array_equal(run_file(packed, images), run_file(plain, images))


def test_without_optimization_the_numbers_are_the_same(model, written):
    images, plain = smooth_images(model.spec.input_size, count=1), coarse(written, 5)
    expected = run_file(plain, images, optimized=False)
    assert np.array_equal(run_file(pack(plain), images, optimized=False), expected)


@pytest.mark.parametrize("backend", PAIRS)
def test_codes_and_operators_are_those_of_the_int8_file(model, backend, tmp_path):
    images = smooth_images(model.spec.input_size, count=1)
    entries = [BACKENDS.get(name) for name in (backend, PAIRS[backend])]
    files = [tmp_path / entry.artifact for entry in entries]
    assert files[0].name == files[1].name.replace("int8", "packed")
    assert np.array_equal(*(opened(name, model, tmp_path)(images) for name in (backend, PAIRS[backend])))
    ours, theirs = (entry.codes(file, model, images) for entry, file in zip(entries, files, strict=True))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[tensor], theirs[tensor]) for tensor in ours)
    packed, plain = (entry.inspect(file) for entry, file in zip(entries, files, strict=True))
    assert packed.counts == plain.counts
    assert [layer.reason for layer in packed.convolutions] == [None] * len(plain.convolutions)
    assert len(packed.islands) == len(plain.islands), "what is folded at load is no island"


def test_names_of_codes_stay(model, written):
    made = {name for node in pack(written).graph.node for name in node.output}
    assert made.issuperset(printed("onnx-x86", model).codes.values())


def test_nothing_is_stored_twice_and_everything_is_read():
    written = coarse(printed("onnx-x86", small_model("mobilefacenet")).model, 4)
    graph = pack(written).graph
    names = [tensor.name for tensor in graph.initializer] + [name for node in graph.node for name in node.output]
    assert len(names) == len(set(names))
    read = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= read
    stored = [numpy_helper.to_array(tensor) for tensor in graph.initializer]
    assert not [array for array in stored if array.dtype == np.int8 and array.ndim > 1], "no weight takes whole bytes"
    assert sum(array.nbytes for array in stored if array.dtype == np.float32 and array.ndim) <= 4 * 256


def constants_of(model):
    """Return a model's constants, those that are made at load included, by the names of the first one's."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"start": np.zeros(1, np.int64)})


def holder(arrays):
    """Return a model whose outputs are these constants, by a detour that the packer does not know."""
    tensors = [numpy_helper.from_array(array, f"c{place}") for place, array in enumerate(arrays)]
    nodes = [helper.make_node("Identity", [tensor.name], [f"o{tensor.name}"]) for tensor in tensors]
    outputs = [helper.make_tensor_value_info(f"o{tensor.name}", tensor.data_type, None) for tensor in tensors]
    start = helper.make_tensor_value_info("start", TensorProto.INT64, [1])
    graph = helper.make_graph(nodes, "constants", [start], outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def shaped(values, shape, dtype):
    return np.resize(np.array(values), shape).astype(dtype)


SHAPES = st.sampled_from([(0,), (1,), (7,), (8,), (9,), (33,), (0, 3, 3, 3), (4, 1, 3, 3), (5, 7), (16, 3, 1, 1)])
ARRAYS = st.one_of(
    st.builds(shaped, st.lists(st.integers(-127, 127), min_size=1, max_size=40), SHAPES, st.just(np.int8)),
    st.builds(shaped, st.lists(st.integers(-7, 7), min_size=1, max_size=40), SHAPES, st.just(np.int8)),
    st.builds(shaped, st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1), SHAPES, st.just(np.int32)),
    st.builds(shaped, st.lists(st.integers(-40000, 40000), min_size=1), SHAPES, st.just(np.int32)),
    st.builds(shaped, st.lists(st.floats(width=32), min_size=1), SHAPES, st.just(np.float32)),
    st.builds(
        lambda codes, shape: shaped(codes, shape, np.float32) * GRID,
        st.lists(st.integers(-130, 130), min_size=1),
        SHAPES,
    ),
    st.builds(
        lambda codes, shape: np.float32(2) ** shaped(codes, shape, np.float32),
        st.lists(st.integers(-20, 20), min_size=1),
        SHAPES,
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ARRAYS, min_size=1, max_size=6))
def test_any_constants_come_back_to_the_bit(arrays):
    found = constants_of(pack(holder(arrays)))
    assert [array.tobytes() for array in found] == [array.tobytes() for array in arrays]
    assert [array.shape for array in found] == [array.shape for array in arrays]


def test_a_few_large_biases_do_not_widen_the_others():
    bias = np.random.default_rng(0).integers(-2000, 2000, 512).astype(np.int32)
    plain = pack(holder([bias])).ByteSize()
    bias[[3, 300]] = [2**31 - 1, -(2**31)]
    packed = pack(holder([bias]))
    assert np.array_equal(constants_of(packed)[0], bias)
    assert packed.ByteSize() - plain < 100
    assert plain < 512 * 13 / 8 + 1200


def test_scales_of_the_table_take_the_bits_that_their_number_asks_for():
    scales = SCALE_TABLE[np.random.default_rng(0).integers(100, 132, 5000)]
    assert pack(holder([scales])).ByteSize() < 5000 * 5 / 8 + 1600
    others = np.random.default_rng(1).choice(np.random.default_rng(2).random(200), 1000).astype(np.float32)
    found = constants_of(pack(holder([scales, others])))
    assert np.array_equal(found[0], scales)
    assert np.array_equal(found[1], others)


def test_zeros_keep_their_sign():
    zeros = np.array([0.0, -0.0] * 8, np.float32)
    arrays = [zeros, zeros + 2 * GRID, np.r_[zeros, [np.float32("nan")] * 16].astype(np.float32)]
    assert [array.tobytes() for array in constants_of(pack(holder(arrays)))] == [array.tobytes() for array in arrays]


@pytest.mark.parametrize("count", [300_000, 5_000_000])
def test_large_weights_are_packed_by_themselves(count):
    codes = np.random.default_rng(0).integers(-31, 32, (count // 16, 16)).astype(np.int8)
    packed = pack(holder([codes, codes[:5]]))
    assert packed.ByteSize() < count * 6 / 8 + 2000
    found = constants_of(packed)
    assert np.array_equal(found[0], codes)
    assert np.array_equal(found[1], codes[:5])


@pytest.mark.parametrize("backend", ["onnx-x86", "onnx-packed-x86"])
def test_the_bytes_of_the_layers_add_up(backend, tmp_path):
    model = small_model("mobilefacenet-relu6")
    model = model.with_scheme(Scheme(weights=TensorScheme(4, symmetric=True, per="channel")))
    opened(backend, model, tmp_path)
    entry = BACKENDS.get(backend)
    file = tmp_path / entry.artifact
    cost = measure_cost(onnx.load(file).graph, (), file.stat().st_size)
    assert sum(layer.size_bytes for layer in cost.layers) + cost.other_bytes == file.stat().st_size
    layers = [module for module in model.network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    largest = max(layer.weight.numel() for layer in layers)
    total = sum(layer.weight.numel() for layer in layers)
    share = max(layer.size_bytes for layer in cost.layers) / sum(layer.size_bytes for layer in cost.layers)
    assert share == pytest.approx(largest / total, rel=0.25), "shared tensors are booked on those that they are for"


def test_a_hostile_prelude_is_stopped(tmp_path):
    """Constants that unpack to far more than any network's are not unpacked."""
    graph = pack(coarse(printed("onnx-x86", small_model("mobilefacenet-relu6")).model, 4))
    ranges = {name for node in graph.graph.node if node.op_type == "Range" for name in node.input[1:2]}
    end = next(tensor for tensor in graph.graph.initializer if tensor.name in ranges)
    end.CopyFrom(numpy_helper.from_array(np.int32(2**31 - 1), end.name))
    (tmp_path / "packed.x86.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(ArtifactError):
        BACKENDS.get("onnx-packed-x86").inspect(tmp_path / "packed.x86.onnx")


def test_a_file_says_what_it_needs(model):
    file = onnx.load_from_string(BACKENDS.get("onnx-packed-x86").lower(model, {"qface.model": "small"}))
    told = {entry.key: entry.value for entry in file.metadata_props}
    assert told.keys() == {"qface.model", "qface.machine", "qface.onnxruntime", "qface.needs"}
    assert told["qface.needs"].startswith("graph optimizations on")
    assert (file.opset_import[0].version, file.ir_version) == (18, 8)
