"""Widths from a recipe to the files: what the scheme says is what the files hold, and mistakes are told first."""

import json

import numpy as np
import onnx
import pytest
from helpers import SMALL_SETS, measure_quickly, write_tiny

from qface_toolkit import pipeline
from qface_toolkit.canonical.graph import inputs, module, operation
from qface_toolkit.errors import RecipeError
from qface_toolkit.quantize.compact import on_slope_grid
from qface_toolkit.quantize.model import load_quantized
from qface_toolkit.quantize.plan import LAYERS
from qface_toolkit.quantize.scheme import activation_qparams
from qface_toolkit.quantize.target import ONNX
from qface_toolkit.quantize.weights import is_depthwise, weight_grid

WIDTHS = ("scheme.weights.bits=4", "scheme.layers=[{match: linear1_conv, weights: 8}, {match: '*conv*', weights: 3}]")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("widths")
    with pytest.MonkeyPatch.context() as patch:
        measure_quickly(patch)
        checkpoint = write_tiny(folder / "tiny.pth")
        job = pipeline.plan_job(checkpoint, recipe="int8-fast", sets=[*SMALL_SETS, *WIDTHS], backends=["onnx-x86"])
        pipeline.run_job(job, folder / "out")
    return folder / "out"


def layers_of(model):
    """Return for each layer the codes that its weights have, worked out from its scale alone."""
    found = {}
    for node in model.network.graph.nodes:
        if operation(node) in LAYERS:
            scale, _ = activation_qparams(model.range_of(inputs(node)[0].name, ONNX))
            grid = weight_grid(node, scale, ONNX, model.deployment, model.scheme)
            weight = module(node).weight.detach().numpy().reshape(len(grid.scales), -1)
            found[node.name] = np.rint(weight / grid.scales[:, None])
    return found


def stored(file):
    """Return the bytes of each int8 constant of an ONNX file."""
    tensors = [one for one in onnx.load(file).graph.initializer if one.data_type == onnx.TensorProto.INT8]
    return {onnx.numpy_helper.to_array(one).tobytes() for one in tensors}


@pytest.mark.slow
def test_the_files_hold_codes_of_the_widths(out):
    model = load_quantized(out / "quantization.json", out / "model.safetensors")
    for name, codes in layers_of(model).items():
        most = 127 if name == "linear1_conv" else 3
        assert np.abs(codes).max() >= most / 2, name
        if name != "conv1_conv":  # its stored codes have a fourth channel
            assert codes.clip(-most, most).astype(np.int8).tobytes() in stored(out / "int8.x86.onnx"), name


@pytest.mark.slow
def test_a_result_remembers_its_widths_and_can_be_lowered_again(out):
    model = load_quantized(out / "quantization.json", out / "model.safetensors")
    assert json.loads((out / "quantization.json").read_text())["scheme"]["layers"][0] == {
        "match": "linear1_conv",
        "weights": 8,
    }
    assert model.scheme.weight_bits("linear1_conv") == 8
    assert model.scheme.compact
    assert on_slope_grid(model.network) is model.network, "slopes of a compact model lie on their grid"
    exported = pipeline.export(out, "onnx-arm")
    assert len(stored(exported) & stored(out / "int8.x86.onnx")) >= 20, "the codes of the layers"


def test_layers_that_are_not_there_are_told_before_anything_is_read(tmp_path):
    checkpoint = write_tiny(tmp_path / "tiny.pth")
    entries = "[{match: linaer1_conv, weights: 4}, {match: '*_prelu', weights: 4, activations: 6}]"
    with pytest.raises(RecipeError) as caught:
        pipeline.plan_job(checkpoint, sets=[f"scheme.layers={entries}"])
    assert "scheme.layers.0: no weights belong to 'linaer1_conv'; did you mean linear1_conv?" in str(caught.value)
    assert "scheme.layers.1: no weights belong to '*_prelu'" in str(caught.value)
    assert "activations belong" not in str(caught.value), "PReLUs make tensors"


@pytest.mark.parametrize("scheme", ["weights.bits=1", "weights.bits=9", "activations.bits=3", "activations.bits=16"])
def test_other_widths_are_refused(scheme, tmp_path):
    with pytest.raises(RecipeError, match=r"scheme\.\w+\.bits: should be (less|greater) than or equal to"):
        pipeline.plan_job("demo", sets=[f"scheme.{scheme}"])


def test_depthwise_kernels_may_have_a_width_of_their_own(checkpoint):
    job = pipeline.plan_job(checkpoint, recipe="w4a8")
    convolutions = [node for node in job.canonical.graph.nodes if operation(node) == "conv"]
    wide = {node.name for node in convolutions if is_depthwise(module(node))}
    assert wide and {node.name for node in convolutions if job.scheme.weight_bits(node.name) == 8} == wide
    same = pipeline.plan_job(checkpoint, recipe="w4a8", sets=["scheme.weights.depthwise=null"])
    assert {same.scheme.weight_bits(node.name) for node in convolutions} == {4}
    first = sorted(wide)[0]
    own = pipeline.plan_job(checkpoint, recipe="w4a8", sets=[f"scheme.layers=[{{match: {first}, weights: 5}}]"])
    assert own.scheme.weight_bits(first) == 5, "an entry of its own counts first"


@pytest.mark.parametrize("bits", ["1", "9", "wide"])
def test_a_width_of_depthwise_kernels_that_no_file_holds_is_refused(checkpoint, bits):
    with pytest.raises(RecipeError, match=r"scheme\.weights\.depthwise"):
        pipeline.plan_job(checkpoint, sets=[f"scheme.weights.depthwise={bits}"])
