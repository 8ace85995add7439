"""Codes at their true width: whatever is packed comes back, through the runtime's own operators."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from qface_toolkit.backends.onnx_packed._planes import PLANES, UNIT, padded, plane_words, width_of
from qface_toolkit.backends.onnx_packed._prelude import Prelude

WORDS = (8, 16)


def unpacked(codes, bits, word, *, optimized=True):
    """Return what ONNX Runtime makes of packed codes."""
    prelude = Prelude(["codes", "start"])
    whole = prelude.unpacked(codes, bits, word)
    row = prelude.node("Reshape", [whole, prelude.constant([-1], np.int64)])
    prelude.node("Slice", [row, "start", prelude.constant([1 << 30], np.int64)], "codes")
    start = helper.make_tensor_value_info("start", TensorProto.INT64, [1])
    found = helper.make_tensor_value_info("codes", TensorProto.INT8, ["count"])
    graph = helper.make_graph(prelude.nodes, "test", [start], [found], prelude.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"start": np.zeros(1, np.int64)})[0]


def every_code(bits, count):
    """Return all codes of a width in an order of no pattern, as often as there is room."""
    low = -(1 << bits - 1)
    return np.random.default_rng(bits).permutation(np.resize(np.arange(low, -low), count)).astype(np.int8)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("bits", PLANES)
@pytest.mark.parametrize("optimized", [True, False])
def test_every_code_of_a_width_comes_back(bits, word, optimized):
    codes = every_code(bits, 20 * UNIT)
    assert width_of(codes) == bits
    assert np.array_equal(unpacked(codes, bits, word, optimized=optimized), codes)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(WORDS), st.lists(st.integers(-64, 63), max_size=70), st.integers(0, 5))
def test_any_codes_of_any_length_come_back(word, values, extra):
    codes = np.array(values, np.int8) >> extra
    bits = min(width_of(codes), 7)
    found = unpacked(codes, bits, word)
    assert found.size % UNIT == 0
    assert np.array_equal(found[: codes.size], codes)


@settings(deadline=None)
@given(st.lists(st.integers(-128, 127), max_size=40))
def test_a_width_is_the_fewest_bits_that_hold_the_codes(values):
    codes = np.array(values, np.int8)
    bits = width_of(codes)
    fits = [b for b in range(2, 9) if all(-(1 << b - 1) <= value < 1 << b - 1 for value in values)]
    assert bits == fits[0]


@pytest.mark.parametrize("bits", PLANES)
@pytest.mark.parametrize("word", WORDS)
def test_planes_take_the_bits_that_they_stand_for(bits, word):
    codes = padded(every_code(bits, 999))
    stored = sum(plane_words(codes, bits, place, word).nbytes for place in range(len(PLANES[bits])))
    assert stored * 8 == codes.size * bits
    assert codes.size < 999 + UNIT


def test_a_table_is_made_once():
    prelude = Prelude([])
    for seed in range(3):
        prelude.unpacked(np.random.default_rng(seed).integers(-32, 32, 160).astype(np.int8), 6, 8)
    operators = [node.op_type for node in prelude.nodes]
    assert operators.count("Range") == 2, "one for each plane"
    assert operators.count("Gather") == 6
