"""What stands in the QDQ file, and that ONNX Runtime turns all of it into integer kernels."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper
from quantized import opened, small_model, smooth_images
from tiers import in_tiers
from tiny_model import golden_model
from torch import nn

from qface_toolkit.backends import BACKENDS
from qface_toolkit.canonical.graph import operation
from qface_toolkit.quantize.plan import everywhere

BACKEND = BACKENDS.get("onnx-x86")
FLOAT = {
    "Conv",
    "Gemm",
    "MatMul",
    "PRelu",
    "BatchNormalization",
    "Add",
    "Relu",
    "Clip",
    "Concat",
    "AveragePool",
    "GlobalAveragePool",
    "DequantizeLinear",
    "MaxPool",
}
"""What must not be left after optimization; pools and concatenations run on codes under other names."""


@pytest.fixture(scope="module")
def model():
    exact = small_model("mobilefacenet")
    return exact.with_forms(everywhere(dict.fromkeys(exact.plan.forms["x86"], "twin")))


@pytest.fixture(scope="module")
def written(model):
    return onnx.load_from_string(BACKEND.lower(model, {"qface.model": "small"}))


@pytest.mark.parametrize(
    "name",
    in_tiers(
        ("mobilefacenet", "mobilefacenet-relu6", "iresnet", "pocketnet"),
        fast=("mobilefacenet", "iresnet"),
    ),
)
def test_everything_runs_as_integers(name, tmp_path):
    model = small_model(name)
    opened("onnx-x86", model, tmp_path)
    operators = BACKEND.inspect(tmp_path / BACKEND.artifact).counts
    assert not FLOAT & set(operators), f"float operators are left: {dict(operators)}"
    layers = [operation(node) for node in model.network.graph.nodes]
    # A PReLU is two convolutions and the larger of both.
    assert operators["QLinearConv"] == layers.count("conv") + layers.count("prelu")
    assert operators.get("Max", 0) == layers.count("prelu")
    assert operators["QGemm"] == layers.count("linear")
    assert operators.get("QLinearAdd", 0) == layers.count("add")
    assert operators.get("QLinearConcat", 0) == layers.count("concat")
    assert operators["QuantizeLinear"] == 1, "only the input is quantized"


def inputs_in_blocks(layer):
    """Return the input channels of a layer's stored weights: patches of an image get a fourth channel of zeros."""
    channels = layer.weight.shape[1]
    return 4 if channels == 3 else channels


def test_weights_are_bytes_and_biases_are_int32(model, written):
    stored = {tensor.name: tensor for tensor in written.graph.initializer}
    layers = [module for module in model.network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    bytes_stored = [tensor for tensor in stored.values() if tensor.data_type == TensorProto.INT8]
    weights = sorted(layer.weight.numel() // layer.weight.shape[1] * inputs_in_blocks(layer) for layer in layers)
    assert sorted(int(np.prod(t.dims)) for t in bytes_stored if len(t.dims) > 1) == weights, "each weight once, as int8"
    biases = [tensor for tensor in stored.values() if tensor.data_type == TensorProto.INT32 and len(tensor.dims) == 1]
    assert len(biases) >= len(layers)
    floats = sum(int(np.prod(t.dims)) for t in stored.values() if t.data_type == TensorProto.FLOAT)
    assert floats < 0.15 * sum(weights), f"{floats} floats are stored beside {sum(weights)} weights"


def test_no_weight_uses_the_code_that_cannot_be_negated(written):
    codes = [numpy_helper.to_array(t) for t in written.graph.initializer if t.data_type == TensorProto.INT8]
    assert min(int(array.min()) for array in codes) >= -127
    assert max(int(array.max()) for array in codes) == 127


def test_names_shapes_and_metadata(written):
    [entering], [leaving] = written.graph.input, written.graph.output
    shapes = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in (entering, leaving)
    ]
    assert (entering.name, leaving.name) == ("input", "embedding")
    assert shapes == [["batch", 3, 32, 32], ["batch", 16]]
    assert {entry.key for entry in written.metadata_props} == {"qface.model", "qface.machine", "qface.onnxruntime"}
    assert not {"BatchNormalization", "PRelu"} & {node.op_type for node in written.graph.node}
    onnx.checker.check_model(written, full_check=True)


def test_the_same_model_gives_the_same_bytes(model):
    assert BACKEND.lower(model, {"a": "1", "b": "2"}) == BACKEND.lower(model, {"a": "1", "b": "2"})


def test_optimization_changes_nothing(model, written, tmp_path):
    """The file means in plain ONNX, operator by operator, almost what the fused integer kernels compute."""
    images = smooth_images((32, 32))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(written.SerializeToString(), options, providers=["CPUExecutionProvider"])
    plain = session.run(None, {"input": images})[0]
    fused = opened("onnx-x86", model, tmp_path)(images)
    off = abs(plain - fused).max() / abs(plain).max()
    assert off < 0.1, f"plain and fused execution differ by {off:.3f} of the largest number"


def test_golden_graph(golden):
    """The text of a tiny network's file: convolution with PReLU, ReLU6, addition, pools and the linear layer."""
    golden("tiny_qdq.txt", onnx.printer.to_text(onnx.load_from_string(BACKEND.lower(golden_model(), {}))))
