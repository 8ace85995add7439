"""Files whose pattern fits run on integers; where one does not, the island is found, with its cost and the reason."""

import logging

import numpy as np
import onnx
import pytest
from qdq_files import CHANNELS, SCALE, QdqFile, batch_norm, between, float_network, prelu, whole, write

from qface_toolkit.backends._profile import inspect_onnx
from qface_toolkit.runtimes.fusion import (
    ENDS,
    FLOAT_MODEL,
    MADE_BY_RUNTIME,
    PREPARES,
    UNTRACED,
    Layer,
    Operator,
    integer_count,
    measure_fusion,
)

SIGNED = "its activations are int8 and this processor's build of ONNX Runtime runs only uint8"


def after_first(put, **options):
    """Return a network that ends with what `put` makes of the first convolution's output."""
    file = QdqFile(**options)
    return file.model(put(file, file.pair(file.conv(file.pair("image"), 3, "first"))))


def first(**options):
    file = QdqFile()
    return file.model(file.head(file.pair(file.conv(file.pair("image"), 3, "first", **options))))


def residual(**options):
    return after_first(
        lambda file, x: file.head(file.pair(file.node("Add", [x, file.pair(file.conv(x, name="second"))], name="sum"))),
        **options,
    )


def two_quantizers():
    file = QdqFile()
    y = file.conv(file.pair("image"), 3, "first")
    return file.model(file.head(file.pair(file.node("Add", [file.pair(y), file.pair(y, 100)]))))


def not_quantized_input():
    file = QdqFile()
    return file.model(file.head(file.pair(file.conv("image", 3, "first"))))


def pooled(behind):
    def put(file, x):
        codes = [file.constant(behind), file.constant(128, np.uint8)]
        pool = file.node("MaxPool", [x], name="pool", kernel_shape=[2, 2], strides=[2, 2])
        return file.head(file.dequantize(file.node("QuantizeLinear", [pool, *codes]), scale=behind))

    return after_first(put)


def beta(file, x):
    flat = file.pair(file.node("Flatten", [file.pair(file.node("GlobalAveragePool", [x]))]))
    return file.layer("Gemm", flat, CHANNELS, "fc", transB=1, beta=0.5)


# What is built, the operators of its island, and what the reason must say.
ISLANDS = {
    "prelu without a quantizer before it": (between(prelu), {"Conv", "PRelu"}, "PRelu has no integer kernel"),
    "prelu": (between(lambda file, x: prelu(file, file.pair(x))), {"PRelu"}, "Max of two convolutions"),
    "batch norm": (between(batch_norm), {"Conv", "BatchNormalization"}, "BatchNormalization has no integer kernel"),
    "relu that the codes do not make": (
        between(lambda file, x: file.node("Relu", [x])),
        {"FusedConv"},
        "alone (read by Relu)",
    ),
    "bias scale": (first(bias_scale=1.5), {"Conv"}, "its bias scale is not input scale x weight scale"),
    "float weight": (first(float_weight=True), {"Conv"}, "its weight is a float constant, without DequantizeLinear"),
    "float input": (not_quantized_input(), {"Conv"}, "it reads the graph's input and not DequantizeLinear"),
    "two quantizers": (two_quantizers(), {"Conv"}, "read by several QuantizeLinear"),
    "pool between scales": (pooled(np.float32(0.06)), {"MaxPool"}, "different scales"),
    "beta": (after_first(beta), {"Gemm"}, "its beta is 0.5 and not 1"),
}


@pytest.mark.parametrize(("model", "kinds", "reason"), ISLANDS.values(), ids=ISLANDS)
def test_island_is_found_with_cost_and_reason(model, kinds, reason, tmp_path):
    fusion = inspect_onnx(write(model, tmp_path / "file.onnx"))
    assert [set(island.kinds) for island in fusion.islands] == [kinds]
    [island] = fusion.islands
    assert reason in island.reason
    assert 0 < island.share < 1
    own = sum(one.time_us for one in fusion.operators if one.name in island.operators)
    assert island.share > own / fusion.time_us, "the conversions around an island are part of its cost"
    assert integer_count(fusion.convolutions) + integer_count(fusion.linear_layers) > 0


INTEGERS = {
    "whole": (whole(), 2),
    "fixed batch": (whole(opset=17), 2),
    "residual": (residual(), 2),
    "int8 codes without branches": (whole(codes=np.int8), 2),
    "pool on one scale": (pooled(SCALE), 1),
    "relu made by the codes": (between(lambda file, x: file.pair(file.node("Relu", [x]), 0)), 2),
}


@pytest.mark.parametrize(("model", "convolutions"), INTEGERS.values(), ids=INTEGERS)
def test_what_fits_runs_on_integers(model, convolutions, tmp_path):
    fusion = inspect_onnx(write(model, tmp_path / "file.onnx"))
    assert (fusion.islands, fusion.integer_share, fusion.quantized) == ((), 1.0, True)
    assert integer_count(fusion.convolutions) == len(fusion.convolutions) == convolutions
    assert integer_count(fusion.linear_layers) == len(fusion.linear_layers) == 1


def test_float_layers_are_named_as_in_the_file(tmp_path):
    fusion = inspect_onnx(write(between(prelu), tmp_path / "file.onnx"))
    reason = "Conv: its output is not followed by QuantizeLinear alone (read by PRelu)"
    assert fusion.convolutions == (Layer("Conv", "first"), Layer("Conv", "second", reason))
    assert fusion.islands[0].operators == ("second", "slopes")


def test_layers_without_a_name_are_called_after_their_output(tmp_path):
    model = first(float_weight=True)
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    conv.name = ""
    fusion = inspect_onnx(write(model, tmp_path / "file.onnx"))
    assert [layer.name for layer in fusion.convolutions] == [conv.output[0]]


def test_signed_codes_with_branches_run_on_integers_only_where_allowed(tmp_path):
    """The option stands for ARM, where int8 codes run as they are; on ARM itself both would."""
    file = write(residual(codes=np.int8), tmp_path / "file.onnx")
    assert inspect_onnx(file, signed_allowed=True).integer_share == 1.0
    fusion = inspect_onnx(file)
    if fusion.islands:
        assert {SIGNED in island.reason for island in fusion.islands} == {True}
        assert integer_count(fusion.convolutions) == 0


@pytest.mark.parametrize("put", ["LpNormalization", "ReduceL2"])
def test_the_embedding_itself_may_be_float(put, tmp_path):
    def tail(file, x):
        embedding = file.head(x)
        if put == "LpNormalization":
            return file.node(put, [embedding], p=2, axis=1)
        embedding = file.pair(embedding)
        return file.node("Div", [embedding, file.node(put, [embedding], axes=[1], keepdims=1)])

    fusion = inspect_onnx(write(after_first(tail), tmp_path / "file.onnx"))
    assert (fusion.islands, [island.reason for island in fusion.all_islands]) == ((), [ENDS])
    assert integer_count(fusion.linear_layers) == 1


def test_preparing_the_image_in_float_costs_and_is_said(tmp_path):
    file = QdqFile()
    image = file.node("Mul", [file.node("Sub", ["image", file.constant(0.5)]), file.constant(2.0)])
    model = file.model(file.head(file.pair(file.conv(file.pair(image), 3, "first"))))
    fusion = inspect_onnx(write(model, tmp_path / "file.onnx"))
    assert [(island.reason, set(island.kinds)) for island in fusion.islands] == [(PREPARES, {"Sub", "Mul"})]


def test_float_model_is_called_one(tmp_path):
    fusion = inspect_onnx(write(float_network(), tmp_path / "file.onnx"))
    assert (fusion.quantized, fusion.integer_share, fusion.all_islands) == (False, 0.0, ())
    assert fusion.convolutions == (Layer("Conv", "conv0", FLOAT_MODEL), Layer("Conv", "conv1", FLOAT_MODEL))
    assert sum(kind.share for kind in fusion.kinds()) == pytest.approx(1)


def test_the_runtimes_own_quantizer_leaves_prelu_in_float(tmp_path, monkeypatch):
    monkeypatch.setattr(logging, "warning", lambda *_: None)  # it advises to run its own preparation first
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Images(CalibrationDataReader):
        left = [{"image": np.random.default_rng(seed).normal(size=(1, 3, 8, 8)).astype(np.float32)} for seed in (0, 1)]

        def get_next(self):
            return self.left.pop() if self.left else None

    float_file, out = write(float_network(), tmp_path / "float.onnx"), tmp_path / "static.onnx"
    quantize_static(float_file, out, Images(), per_channel=True, activation_type=QuantType.QUInt8)
    fusion = inspect_onnx(out)
    assert integer_count(fusion.convolutions) == len(fusion.convolutions) == 2
    assert [dict(island.kinds) for island in fusion.islands] == [{"PRelu": 1}] * 2
    assert sorted(name for island in fusion.islands for name in island.operators) == ["prelu0", "prelu1"]
    assert 0 < sum(island.share for island in fusion.islands) < 1


def test_shares_and_kinds_add_up(tmp_path):
    fusion = inspect_onnx(write(between(prelu), tmp_path / "file.onnx"))
    assert sum(kind.count for kind in fusion.kinds()) == len(fusion.operators)
    assert sum(kind.time_us for kind in fusion.kinds()) == pytest.approx(fusion.time_us)
    times = [kind.time_us for kind in fusion.kinds()]
    assert times == sorted(times, reverse=True)


def test_uint8_image_of_any_batch(tmp_path):
    """An exported file may eat the image as it comes, height before width before colour."""
    file = QdqFile()
    codes = file.node("Transpose", ["image"], perm=[0, 3, 1, 2])
    model = file.model(file.head(file.pair(file.conv(file.dequantize(codes), 3, "first"))))
    model.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["n", 8, 8, 3]))
    fusion = inspect_onnx(write(model, tmp_path / "file.onnx"))
    assert (integer_count(fusion.convolutions), fusion.islands) == (1, ())


def operator(kind, arithmetic, reads, writes, time_us=1.0):
    return Operator(kind, f"{kind} {writes}", arithmetic, (reads,), (writes,), source=kind, time_us=time_us)


def test_moves_join_what_computes_and_lone_moves_are_no_island():
    chain = (
        operator("DequantizeLinear", "move", "codes", "a", 2.0),
        operator("Conv", "float", "a", "b", 3.0),
        operator("ReorderOutput", "move", "b", "c", 1.0),
        operator("PRelu", "float", "c", "d", 3.0),
        operator("QuantizeLinear", "move", "d", "e", 1.0),
        operator("Transpose", "move", "e", "f", 4.0),
        operator("QLinearConv", "integer", "f", "g", 6.0),
    )
    fusion = measure_fusion(chain, [], lambda source: f"{source}!", quantized=True)
    [island] = fusion.islands
    assert dict(island.kinds) == {"Conv": 1, "ReorderOutput": 1, "PRelu": 1}
    assert (island.share, island.reason) == (0.5, "Conv!; PRelu!")


def test_what_cannot_be_traced_is_not_claimed():
    made = Operator("Conv", "made", "float", ("a",), ("b",), time_us=1.0)
    end = operator("QuantizeLinear", "move", "b", "c")
    fusion = measure_fusion(
        (made, end, operator("PRelu", "float", "c", "d")), [Layer("Conv", "lost")], str.upper, quantized=True
    )
    assert fusion.convolutions == (Layer("Conv", "lost", UNTRACED),)
    assert {island.reason for island in fusion.islands} == {MADE_BY_RUNTIME, "PRELU"}


def test_without_times_there_are_no_shares():
    fusion = measure_fusion(
        [Operator("PRelu", "p", "float", ("a",), ("b",), source="p")], [], str.upper, quantized=True
    )
    assert (fusion.time_us, fusion.islands[0].share, fusion.kinds()[0].share) == (None, None, None)
