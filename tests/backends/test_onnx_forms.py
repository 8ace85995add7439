"""The forms of one ONNX graph: PReLU written either way, signed codes, older runtimes and older processors."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from quantized import calibrated, cosines, opened, printed, run, small_model, smooth_images
from tiers import in_tiers
from torch import nn

from qface_toolkit.backends import BACKENDS
from qface_toolkit.canonical.graph import module, operation
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.quantize.plan import everywhere
from qface_toolkit.quantize.target import ONNX, ONNX_SIGNED, Deployment
from qface_toolkit.quantize.weights import Width, is_depthwise, largest_codes, layer_grid

NETWORKS = in_tiers(("mobilefacenet", "iresnet", "pocketnet"), fast=("mobilefacenet", "iresnet"))


@pytest.fixture(scope="module", params=NETWORKS)
def model(request):
    return small_model(request.param)


@pytest.fixture(scope="module")
def images(model):
    return smooth_images(model.spec.input_size, count=4)


def scaled(model):
    prelus = [node.name for node in model.network.graph.nodes if operation(node) == "prelu"]
    return model.with_forms(everywhere(dict.fromkeys(prelus, "scaled")))


def test_scaled_prelus_run_as_integers_and_give_what_is_simulated(model, images, tmp_path):
    other = scaled(model)
    given = opened("onnx-x86", other, tmp_path)(images)
    agreement = cosines(given, embed_as_integers(other, ONNX, images))
    assert agreement.min() > 0.9999, f"lowest cosine {agreement.min():.6f}"
    operators = BACKENDS.get("onnx-x86").inspect(tmp_path / "int8.x86.onnx").counts
    assert not {"Conv", "PRelu", "Mul"} & set(operators), dict(operators)


def test_the_two_forms_of_prelu_are_different_roundings_of_one_function(model, images):
    exact, shared = (embed_as_integers(one, ONNX, images) for one in (model, scaled(model)))
    floats = model.embed(images)
    assert not np.array_equal(exact, shared) or not model.plan.codes["x86"].grids
    assert cosines(shared, floats).min() > 0.9, f"lowest cosine to float {cosines(shared, floats).min():.4f}"


def test_files_may_differ_in_form_and_each_computes_what_is_simulated(model, images, tmp_path):
    prelus = [node.name for node in model.network.graph.nodes if operation(node) == "prelu"]
    twin, other = dict.fromkeys(prelus, "twin"), dict.fromkeys(prelus[::2], "scaled")
    model = model.with_forms({"x86": twin, "arm": twin | other})
    assert model.plan.codes["x86"] != model.plan.codes["arm"]
    for backend, target in (("onnx-x86", ONNX), ("onnx-arm", ONNX_SIGNED)):
        (tmp_path / backend).mkdir()
        given = opened(backend, model, tmp_path / backend)(images)
        assert np.array_equal(given, embed_as_integers(model, target.on("x86"), images)), backend
    assert not np.array_equal(*(embed_as_integers(model, target, images) for target in (ONNX, ONNX_SIGNED)))


def test_signed_codes_give_the_embeddings_of_unsigned_ones(model, images, tmp_path):
    model = model.with_forms(everywhere(model.plan.forms["x86"]))
    unsigned = opened("onnx-x86", model, tmp_path)(images)
    signed = opened("onnx-arm", model, tmp_path)(images)
    agreement = cosines(signed, embed_as_integers(model, ONNX_SIGNED, images))
    assert agreement.min() > 0.9999, f"lowest cosine to its simulation {agreement.min():.6f}"
    twins = cosines(signed, unsigned)
    assert twins.min() > 0.99999, f"lowest cosine between the twins {twins.min():.6f}"


def test_signed_files_hold_signed_codes(model):
    written = printed("onnx-arm", model).model
    stored = {tensor.name: tensor for tensor in written.graph.initializer}
    zeros = {stored[node.input[2]].data_type for node in written.graph.node if node.op_type == "QuantizeLinear"}
    assert zeros == {onnx.TensorProto.INT8}


@pytest.mark.parametrize("write", [lambda model: model, scaled])
def test_the_form_for_older_runtimes_computes_the_same(model, images, tmp_path, write):
    newest = write(model)
    older = replace(newest, deployment=replace(model.deployment, onnxruntime="1.18"))
    (tmp_path / "older").mkdir()
    given = opened("onnx-x86", older, tmp_path / "older")(images)
    assert np.array_equal(given, opened("onnx-x86", newest, tmp_path)(images))
    file = onnx.load(tmp_path / "older" / "int8.x86.onnx")
    assert "Max" not in BACKENDS.get("onnx-x86").inspect(tmp_path / "older" / "int8.x86.onnx").counts
    assert {entry.key: entry.value for entry in file.metadata_props}["qface.onnxruntime"] == "1.18.0"


def test_without_vnni_no_pair_of_products_leaves_16_bits(model, images, tmp_path):
    other = replace(model, deployment=replace(model.deployment, vnni=False))
    for node in other.network.graph.nodes:
        if operation(node) in ("conv", "linear"):
            _check_pairs(module(node), other)
    given = opened("onnx-x86", other, tmp_path)(images)
    agreement = cosines(given, embed_as_integers(other, ONNX, images))
    assert agreement.min() > 0.9999, f"lowest cosine to its simulation {agreement.min():.6f}"


def _check_pairs(layer, model):
    """Add the products of neighbouring input channels, as vpmaddubsw would at the largest activations."""
    if is_depthwise(layer):
        return
    grid = layer_grid(layer, np.float32(0.01), ONNX, model.deployment, Width())
    codes = grid.codes(layer.weight).astype(np.int64)
    rows = np.moveaxis(codes, 1, -1).reshape(len(codes), -1)
    left, right = rows[:, 0 : rows.shape[1] // 2 * 2 : 2], rows[:, 1::2]
    positive = np.maximum(left, 0) + np.maximum(right, 0)
    negative = np.minimum(left, 0) + np.minimum(right, 0)
    assert positive.max() * 255 <= 32767 and negative.min() * 255 >= -32768


def test_only_channels_that_can_saturate_give_up_a_bit():
    conv = nn.Conv2d(4, 2, 1)
    conv.weight.data = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]]).reshape(2, 4, 1, 1)
    assert largest_codes(conv, ONNX, Deployment(vnni=False), Width()).tolist() == [63, 127]
    assert largest_codes(conv, ONNX, Deployment(), Width()).tolist() == [127, 127]


@pytest.mark.parametrize("slopes", [(0.0, 0.0), (1.0, -1.0), (1e-9, -1e-6), (1.7, 3.1), (-1.6, -4.0), (0.25, -0.3)])
@pytest.mark.parametrize("write", [lambda model: model, scaled])
def test_every_slope_is_exact(slopes, write, tmp_path):
    """Steep, negative, tiny and zero slopes: the file gives what the float network gives, up to its roundings."""
    torch.manual_seed(0)
    prelu = nn.PReLU(2)
    prelu.weight.data = torch.tensor(slopes)
    network = nn.Sequential(nn.Conv2d(3, 2, 1), prelu, nn.Conv2d(2, 4, 1), nn.Flatten(), nn.Linear(4 * 64, 4)).eval()
    images = smooth_images((8, 8), count=8)
    model = write(calibrated(network, (8, 8), images, observer="minmax"))
    agreement = cosines(opened("onnx-x86", model, tmp_path)(images), run(network, images))
    assert agreement.mean() > 0.999, f"mean cosine {agreement.mean():.5f} for slopes {slopes}"


def test_without_vnni_the_weights_as_stored_are_safe(tmp_path):
    """A fourth input channel is stored for images, which makes other neighbours than the layer's own weights have."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 256, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256 * 64, 4)).eval()
    model = calibrated(network, (8, 8), smooth_images((8, 8)))
    written = printed("onnx-x86", replace(model, deployment=Deployment(vnni=False))).model
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in written.graph.initializer}
    codes = next(array for array in stored.values() if array.dtype == np.int8 and array.ndim == 4)
    assert codes.shape == (256, 4, 3, 3)
    pairs = np.moveaxis(codes.astype(np.int64), 1, -1).reshape(256, -1, 2)
    assert max(np.maximum(pairs, 0).sum(2).max(), np.maximum(-pairs, 0).sum(2).max()) * 255 <= 32767


@pytest.mark.parametrize(("oldest", "has"), [("1.24", True), ("1.24.0", False), ("1.24.1", True), ("1.18", False)])
def test_a_release_without_a_patch_is_the_last_of_its_line(oldest, has):
    assert Deployment(onnxruntime=oldest).has_onnxruntime("1.24.1") is has
