"""ONNX files that converters wrote in ways of their own; other tools refused them or computed something else."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from reported import (
    EMBEDDING,
    FACTS,
    SIZE,
    WIDTH,
    assert_judged,
    assert_read,
    built,
    drawn,
    exported,
    images,
    module_rows,
    node,
    runtime_rows,
    saved,
    small_network,
    tail,
)
from torch import nn

from qface_toolkit.errors import CheckpointError
from qface_toolkit.models import load_model

CONV = node("Conv", "x w", "a", strides=[2, 2], pads=[1, 1, 1, 1])
END, LAST = tail()
CONSTANTS = {"w": drawn(0, WIDTH, 3, 3, 3), **LAST}
SLOPES = abs(drawn(1, WIDTH, scale=0.3))


def norm(channels):
    """Return the constants of a BatchNormalization, in its order."""
    scale, shift, mean = drawn(5, 3, channels, scale=0.3)
    return {"scale": scale + 1, "shift": shift, "mean": mean, "var": abs(drawn(6, channels, scale=1)) + 0.1}


def same_as_runtime(folder, model, **options):
    """Assert that a file is read as what ONNX Runtime computes with it, and return the model."""
    path, batch = saved(folder, model), images(2)
    return assert_read(path, runtime_rows(path, batch), batch, **options)


def rest_of(shape):
    """Return nodes from "a" through a PRelu whose slopes are given another shape on the way."""
    constants = {**CONSTANTS, "s": SLOPES, "k": np.array(shape, np.int64)}
    return [CONV, node("Reshape", "s k", "t"), node("PRelu", "a t", "z"), *END], constants


@pytest.mark.parametrize("shape", [(1, WIDTH, 1, 1), (WIDTH, 1, 1), (-1, 1, 1)])
@pytest.mark.parametrize("opset", [8, 13])
def test_slopes_that_pass_a_reshape(shape, opset, tmp_path):
    nodes, constants = rest_of(shape)
    same_as_runtime(tmp_path, built(nodes, constants, opset=opset))


@pytest.mark.parametrize("opset", [7, 8, 9])
def test_slopes_without_their_axes(opset, tmp_path):
    nodes = [CONV, node("PRelu", "a s", "z"), *END]
    right = built([CONV, node("PRelu", "a s", "z"), *END], {**CONSTANTS, "s": SLOPES[:, None, None]}, opset=opset)
    expected = runtime_rows(saved(tmp_path, right, "right.onnx"), images(2))
    path = saved(tmp_path, built(nodes, {**CONSTANTS, "s": SLOPES}, opset=opset))
    assert_read(path, expected, images(2))


@pytest.mark.parametrize("later", [True, False])
def test_slopes_without_axes_on_maps_as_wide_as_they_have_channels(later, tmp_path):
    """Their own letter says columns; the other slopes of the file say what its writer meant."""
    wide = node("Conv", "x w", "a", strides=[2, 2])

    def chain(slopes):
        first = [wide, node("PRelu", f"a {slopes}", "b")]  # 15 columns
        second = [node("Conv", "b v", "c", strides=[2, 2], pads=[1, 1, 1, 1]), node("PRelu", f"c {slopes}", "d")]  # 8
        third = [node("Conv", "d v", "e", pads=[1, 1, 0, 0]), node("PRelu", f"e {slopes}", "z")] if later else []  # 7
        ends, _ = tail("z" if later else "d")
        return [*first, *second, *third, *ends]

    constants = {**CONSTANTS, "v": drawn(2, WIDTH, WIDTH, 3, 3)}
    right = built(chain("s"), {**constants, "s": SLOPES[:, None, None]}, opset=8)
    expected = runtime_rows(saved(tmp_path, right, "right.onnx"), images(2))
    assert_read(saved(tmp_path, built(chain("s"), {**constants, "s": SLOPES}, opset=8)), expected, images(2))


def test_slopes_of_columns_alone_are_by_the_letter(tmp_path):
    nodes = [node("Conv", "x w", "a", strides=[4, 4], pads=[1, 1, 1, 1]), node("PRelu", "a s", "z"), *END]
    same_as_runtime(tmp_path, built(nodes, {**CONSTANTS, "s": SLOPES}))


@pytest.mark.parametrize("keys", [{"spatial": 0}, {"spatial": 1}, {"spatial": 0, "momentum": 0.9}])
@pytest.mark.parametrize("opset", [9, 11, 13])
def test_attributes_that_newer_opsets_no_longer_have(keys, opset, tmp_path):
    network = small_network()
    model = exported(network, opset=opset)
    for one in model.graph.node:
        if one.op_type == "BatchNormalization":
            del one.attribute[1:]  # epsilon stays
            one.attribute.extend(helper.make_attribute(key, value) for key, value in keys.items())
    assert_read(saved(tmp_path, model), module_rows(network, images(2)), images(2))


@pytest.mark.parametrize("opset", [8, 9, 17])
def test_batch_norm_on_rows_and_on_pixels(opset, tmp_path):
    begin = [
        node("BatchNormalization", "x scale shift mean var", "n", epsilon=2e-5),
        node("Conv", "n w", "a"),
        *tail("a")[0],
    ]
    same_as_runtime(tmp_path, built(begin, {**CONSTANTS, **norm(3)}, opset=opset))
    rows = [
        CONV,
        *tail("a")[0][:-1],
        node("Gemm", "f last none", "r"),
        node("BatchNormalization", "r scale shift mean var", "y"),
    ]
    same_as_runtime(tmp_path, built(rows, {**CONSTANTS, **norm(EMBEDDING)}, opset=opset))


@pytest.mark.parametrize("listed", [False, True])
def test_weights_that_nothing_reads(listed, tmp_path):
    model = exported(small_network(), opset=9, keep_initializers_as_inputs=listed)
    spare = {"layer4.2.bn1.num_batches_tracked": np.array(7), "head.weight": np.zeros((1000, EMBEDDING), np.float32)}
    for name, values in spare.items():
        model.graph.initializer.append(numpy_helper.from_array(values, name))
        if listed:
            kind = helper.np_dtype_to_tensor_dtype(values.dtype)
            model.graph.input.append(helper.make_tensor_value_info(name, kind, values.shape))
    same_as_runtime(tmp_path, model)


def halved(network, *, inside):
    """Return an ONNX file of float16, with Cast at its ends if its own input and output stay float32."""
    model = exported(network)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    ends = (model.graph.input[0], model.graph.output[0])
    if not inside:
        for end in ends:
            end.type.tensor_type.elem_type = TensorProto.FLOAT16
        return model
    for one in model.graph.node:
        one.input[:] = ["in16" if name == "input" else name for name in one.input]
        one.output[:] = ["out16" if name == "embedding" else name for name in one.output]
    nodes = list(model.graph.node)
    del model.graph.node[:]
    first, last = node("Cast", "input", "in16", to=10), node("Cast", "out16", "embedding", to=1)
    model.graph.node.extend([first, *nodes, last])
    return model


@pytest.mark.parametrize("inside", [True, False])
def test_half_precision(inside, tmp_path):
    network = small_network()
    path = saved(tmp_path, halved(network, inside=inside))
    model = assert_read(path, module_rows(network, images(2)), images(2), most=1e-2)
    assert "converted float16 weights to float32" in model.notes


def test_half_precision_around_a_norm_of_floats(tmp_path):
    network = small_network()
    model = halved(network, inside=True)
    nodes = list(model.graph.node)
    place = max(at for at, one in enumerate(nodes) if one.op_type == "BatchNormalization")
    norm_node = nodes[place]
    for tensor in model.graph.initializer:
        if tensor.name in norm_node.input:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    before, after = norm_node.input[0], norm_node.output[0]
    norm_node.input[0], norm_node.output[0] = "single", "normed"
    around = [node("Cast", before, "single", to=1), norm_node, node("Cast", "normed", after, to=10)]
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:place], *around, *nodes[place + 1 :]])
    assert_read(saved(tmp_path, model), module_rows(network, images(2)), images(2), most=1e-2)


@pytest.mark.parametrize("batch", ["?", "None", "-1", "unk__12", 0])
def test_any_batch_by_any_name(batch, tmp_path):
    network = small_network()
    model = exported(network, batch=None)
    for end in (*model.graph.input, *model.graph.output):
        axis = end.type.tensor_type.shape.dim[0]
        axis.Clear()
        if batch:
            axis.dim_param = batch
    assert_read(saved(tmp_path, model), module_rows(network, images(2)), images(2))


def test_a_batch_of_three(tmp_path):
    network = small_network()
    model = exported(network)
    for end in (*model.graph.input, *model.graph.output):
        end.type.tensor_type.shape.dim[0].dim_value = 3
    assert_read(saved(tmp_path, model), module_rows(network, images(2)), images(2))


UNIT = {
    "square": [node("Mul", "v v", "q"), node("ReduceSum", "q one", "s", keepdims=1), node("Max", "s e", "m")],
    "root": [node("Sqrt", "m", "l"), node("Reciprocal", "l", "i"), node("Mul", "v i", "y")],
}


@pytest.mark.parametrize("shape", [(1, 3, *SIZE), ("unk__1", *SIZE, 3)])
def test_channels_exchanged_twice_and_a_norm_in_pieces(shape, tmp_path):
    last = shape[-1] == 3
    swap = [node("Transpose", "x" if last else "n", "u", perm=[0, 3, 1, 2])]
    turn = [] if last else [node("Transpose", "x", "n", perm=[0, 2, 3, 1])]
    body = [node("Conv", "u w", "a", strides=[2, 2]), node("Relu", "a", "r")]
    mean = [node("ReduceMean", "r", "p", axes=[2, 3], keepdims=0), node("MatMul", "p last", "k")]
    bottleneck = [node("Mul", "k scale", "c"), node("Add", "c shift", "v")]
    nodes = [*turn, *swap, *body, *mean, *bottleneck, *UNIT["square"], *UNIT["root"]]
    more = {**CONSTANTS, **norm(EMBEDDING), "one": np.array([1]), "e": np.float32(1e-10)}
    path = saved(tmp_path, built(nodes, more, shape=shape, ends={"y": (shape[0], EMBEDDING)}))
    batch = images(2)
    given = batch.transpose(0, 2, 3, 1) if last else batch
    assert_read(path, runtime_rows(path, np.ascontiguousarray(given)), batch)


def test_a_file_exported_while_training_is_refused(tmp_path):
    network = small_network()
    options = {"training": torch.onnx.TrainingMode.TRAINING, "do_constant_folding": False}
    with pytest.raises(CheckpointError, match="normalises by the batch") as raised:
        load_model(saved(tmp_path, exported(network, **options)), overrides=FACTS)
    assert "model.eval()" in raised.value.fix


@pytest.mark.parametrize("order", ["last first", "casts at the end", "shuffled"])
def test_nodes_in_any_order(order, tmp_path):
    network = small_network()
    model = halved(network, inside=True)
    nodes = list(model.graph.node)
    shuffled = [nodes[at] for at in np.random.default_rng(0).permutation(len(nodes))]
    orders = {"last first": nodes[::-1], "casts at the end": [*nodes[1:-1], nodes[0], nodes[-1]], "shuffled": shuffled}
    del model.graph.node[:]
    model.graph.node.extend(orders[order])
    path = saved(tmp_path, model)
    assert_read(path, runtime_rows(path, images(2)), images(2), most=1e-2)


@pytest.mark.parametrize("side", [1, 16])
@pytest.mark.parametrize("turned", [0, 1])
def test_a_matrix_straight_behind_pixels(side, turned, tmp_path):
    entering = WIDTH * side * side
    shape = (EMBEDDING, entering) if turned else (entering, EMBEDDING)
    matrix = drawn(3, *shape, scale=entering**-0.5)
    pool = [node("GlobalAveragePool", "a", "p")] if side == 1 else []
    last, constants = "p" if pool else "a", {"w": CONSTANTS["w"], "none": LAST["none"], "matrix": matrix}
    flat = [node("Flatten", last, "f"), node("Gemm", "f matrix none", "y", transB=turned)]
    right = saved(tmp_path, built([CONV, *pool, *flat], constants, opset=8), "right.onnx")
    straight = built([CONV, *pool, node("Gemm", f"{last} matrix none", "y", transB=turned)], constants, opset=8)
    assert_read(saved(tmp_path, straight), runtime_rows(right, images(2)), images(2))


def switch(shape=(), name="phase_train"):
    return helper.make_tensor_value_info(name, TensorProto.BOOL, shape)


def switched(nodes, entering, **more):
    """Return a file whose nodes make "z" of "a", and that has inputs beside the image."""
    return built([CONV, *nodes, *END], {**CONSTANTS, **more}, entering=entering)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(), (1,)])
def test_an_input_that_says_whether_this_is_training(shape, tmp_path):
    nodes = [node("Neg", "a", "n"), node("Relu", "a", "r"), node("Where", "phase_train n r", "z")]
    path, batch = saved(tmp_path, switched(nodes, [switch(shape)])), images(2)
    model = assert_read(path, runtime_rows(path, batch, phase_train=np.zeros(shape, bool)), batch)
    assert "took the input 'phase_train' as false: this is no training" in model.notes
    assert_judged(path, images(2))


def test_an_input_that_nothing_reads(tmp_path):
    keep = helper.make_tensor_value_info("keep_prob", TensorProto.FLOAT, ())
    path = saved(tmp_path, switched([node("Relu", "a", "z")], [switch(), keep]))
    expected = runtime_rows(path, images(2), phase_train=np.array(False), keep_prob=np.array(1, np.float32))
    assert_read(path, expected, images(2))


def test_an_input_that_is_no_switch_is_named(tmp_path):
    rate = helper.make_tensor_value_info("rate", TensorProto.FLOAT, ())
    with pytest.raises(CheckpointError, match="2 inputs .'x', 'rate'."):
        load_model(saved(tmp_path, switched([node("Mul", "a rate", "z")], [rate])), overrides=FACTS)


def branch(op):
    shown = helper.make_tensor_value_info(f"o_{op}", TensorProto.FLOAT, None)
    return helper.make_graph([node(op, "a", f"o_{op}")], op, [], [shown])


def test_the_advice_for_branches_in_the_graph_works(tmp_path):
    parts = {"then_branch": branch("Neg"), "else_branch": branch("Relu")}
    model = switched([node("If", "phase_train", "z", **parts)], [switch()])
    path = saved(tmp_path, model)
    with pytest.raises(CheckpointError, match="nested graphs") as raised:
        load_model(path, overrides=FACTS)
    assert "optimized_model_filepath at ORT_ENABLE_BASIC" in raised.value.fix and "phase_train" in raised.value.fix
    expected = runtime_rows(path, images(2), phase_train=np.array(False))
    del model.graph.input[1]
    model.graph.initializer.append(numpy_helper.from_array(np.array(False), "phase_train"))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "flat.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert_read(tmp_path / "flat.onnx", expected, images(2))


def optimized(folder, model):
    """Return the file that ONNX Runtime saves of a model that it has optimized."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath, options.log_severity_level = str(folder / "opt.onnx"), 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return folder / "opt.onnx"


ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Tanh, nn.Hardsigmoid, lambda: nn.LeakyReLU(0.1))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_onnxruntime_saved_after_optimizing(activation, tmp_path):
    end = nn.Flatten(), nn.Linear(WIDTH * 64, 32), activation(), nn.Linear(32, EMBEDDING)
    layers = nn.Conv2d(3, WIDTH, 3, 2, 1), activation(), nn.Conv2d(WIDTH, WIDTH, 3, 2, 1, groups=2), activation()
    path = optimized(tmp_path, exported(nn.Sequential(*layers, *end).eval()))
    assert {one.op_type for one in onnx.load(path).graph.node} >= {"FusedConv"}
    assert_read(path, runtime_rows(path, images(2)), images(2))
    assert_judged(path, images(2))


def test_a_fused_sum_and_a_fused_unknown(tmp_path):
    sums = [node("Conv", "x w", "s", pads=[1, 1, 1, 1]), node("FusedConv", "x w none s", "z", pads=[1, 1, 1, 1]), *END]
    sums[1].domain = "com.microsoft"
    sums[1].attribute.append(helper.make_attribute("activation", "Relu"))
    model = built(sums, {**CONSTANTS, "none": np.zeros(EMBEDDING, np.float32)[:WIDTH]})
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(EMBEDDING, np.float32), "rows"))
    for one in model.graph.node:
        one.input[:] = ["rows" if one.op_type == "Gemm" and name == "none" else name for name in one.input]
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    same_as_runtime(tmp_path, model)
    model.graph.node[1].attribute[-1].s = b"Softmax"
    with pytest.raises(CheckpointError, match="domain 'com.microsoft'"):
        load_model(saved(tmp_path, model), overrides=FACTS)


@pytest.mark.parametrize("last", [True, False])
def test_the_advice_for_a_file_that_takes_bytes_works(last, tmp_path):
    turn = [node("Cast", "x", "floats", to=1), node("Transpose", "floats", "t", perm=[0, 3, 1, 2])]
    begin = turn if last else [node("Cast", "x", "t", to=1)]
    prepared = [node("Sub", "t half", "m"), node("Mul", "m scale", "p"), node("Conv", "p w", "a", strides=[2, 2])]
    constants = {**CONSTANTS, "half": np.full((1, 3, 1, 1), 127.5, np.float32), "scale": np.float32(1 / 128)}
    shape = ("N", *SIZE, 3) if last else ("N", 3, *SIZE)
    model = built([*begin, *prepared, node("Relu", "a", "z"), *END], constants, shape=shape)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    path = saved(tmp_path, model)
    with pytest.raises(CheckpointError, match="element type 2; images enter as float") as raised:
        load_model(path, overrides=FACTS)
    assert "elem_type = 1" in raised.value.fix
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, *SIZE)).astype(np.uint8)
    given = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)) if last else pixels
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": given})[0]
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = 1
    onnx.save(model, tmp_path / "floats.onnx")
    batch = pixels.astype(np.float32)
    assert_read(tmp_path / "floats.onnx", expected, batch, mean=0, std=1)
