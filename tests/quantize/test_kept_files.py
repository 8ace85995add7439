"""ONNX files with layers in float: what was simulated, named by the inspection, in either kind of codes."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from odd_networks import CHANNELS, ODD_NETWORKS, conv, two_convs
from quantized import calibrated, cosines, opened, small_network, smooth_images
from tiers import in_tiers
from torch import nn

from qface_toolkit.backends import BACKENDS
from qface_toolkit.canonical.graph import operation
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.methods import calibrate as method
from qface_toolkit.quantize.plan import LAYERS, everywhere
from qface_toolkit.quantize.simulation import prepare
from qface_toolkit.quantize.target import ONNX, Deployment
from qface_toolkit.runtimes.fusion import KEPT

BACKEND_NAMES = ["onnx-x86", "onnx-arm"]
NETWORKS = in_tiers(("mobilefacenet", "mobilefacenet-relu6", "quantface", "iresnet"), fast=("mobilefacenet", "iresnet"))


def layers(model):
    return [node.name for node in model.network.graph.nodes if operation(node) in LAYERS]


def check_simulated(model, backend, folder):
    images = smooth_images(model.spec.input_size, count=4, seed=3)
    got = opened(backend, model, folder)(images)
    simulated = embed_as_integers(model, BACKENDS.get(backend).target, images)
    with torch.no_grad():
        trained_on = prepare(model, ONNX)(torch.from_numpy(images)).numpy()
    agreement = cosines(got, simulated)
    assert agreement.min() > 0.9999, f"lowest cosine to its simulation {agreement.min():.6f}"
    assert cosines(simulated, trained_on).min() > 0.9995, f"lowest {cosines(simulated, trained_on).min():.6f}"


def as_seen(name):
    """Return a small model whose ranges end where images did.

    Float sums may move a code by one, and the wide ranges of tensors of few pixels, as all are here, make that a large
    step.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(method, "reaching", lambda model, seen, target: model.ranges)
        return calibrated(*small_network(name))


@pytest.fixture(scope="module", params=NETWORKS)
def model(request):
    found = as_seen(request.param)
    return found.with_forms(everywhere(found.plan.forms["x86"]))  # one program for both files, whose forms may differ


PLACES = (slice(0, 3), slice(3, None, 2), slice(5, 9), slice(-3, None))


@pytest.mark.parametrize("backend", BACKEND_NAMES)
@pytest.mark.parametrize("places", in_tiers(PLACES, fast=PLACES[:2]), ids=str)
def test_files_give_what_is_simulated(model, backend, places, tmp_path):
    check_simulated(model.with_kept(layers(model)[places]), backend, tmp_path)


@pytest.mark.parametrize("form", ["twin", "scaled"])
def test_either_form_of_prelu_stands_beside_float_ones(form, tmp_path):
    model = as_seen("mobilefacenet")
    prelus = [node.name for node in model.network.graph.nodes if operation(node) == "prelu"]
    check_simulated(
        model.with_forms(everywhere(dict.fromkeys(prelus, form))).with_kept(layers(model)[1::2]), "onnx-x86", tmp_path
    )


ODD = [
    "concat of relu6 and conv",
    "concat of relu and conv",
    "a conv read often",
    "add and prelu",
    "add and relu6",
    "prelu twice",
    "prelu of a concat",
    "shared modules",
    "embedding from a sum",
    "relu6 of the input",
]


@pytest.mark.parametrize("name", in_tiers(ODD, fast=("prelu twice", "embedding from a sum", "prelu of a concat")))
def test_odd_networks_give_what_is_simulated_whichever_layer_is_kept(name, tmp_path):
    torch.manual_seed(0)
    model = calibrated(ODD_NETWORKS[name].eval(), (16, 16))
    for layer in layers(model):
        check_simulated(model.with_kept([layer]), "onnx-x86", tmp_path)


def test_the_inspection_says_why_layers_are_in_float(tmp_path):
    torch.manual_seed(0)
    network = two_convs(lambda s, x: s.a(s.c2(s.b(x))), a=nn.PReLU(CHANNELS), b=nn.PReLU(CHANNELS)).eval()
    model = calibrated(network, (16, 16)).with_kept(["c2"])
    opened("onnx-x86", model, tmp_path)
    fusion = BACKENDS.get("onnx-x86").inspect(tmp_path / "int8.x86.onnx")
    # The convolution and both products of its PReLU.
    assert [layer.reason for layer in fusion.convolutions if layer.reason] == [KEPT] * 3
    assert [island.reason for island in fusion.islands] == [KEPT]


def test_weights_of_kept_layers_are_stored_in_float(tmp_path):
    torch.manual_seed(0)
    model = calibrated(two_convs(lambda s, x: s.c2(x), c3=conv(8, 8)).eval(), (16, 16)).with_kept(["c2"])
    opened("onnx-x86", model, tmp_path)
    stored = [onnx.numpy_helper.to_array(one) for one in onnx.load(tmp_path / "int8.x86.onnx").graph.initializer]
    weight = model.network.get_submodule("c2").weight.detach().numpy()
    assert any(one.dtype == np.float32 and np.array_equal(one, weight) for one in stored)


def test_files_that_take_pixels_can_keep_their_first_layer(tmp_path):
    model = as_seen("mobilefacenet")
    model = replace(model.with_kept(layers(model)[:2]), deployment=Deployment(image="uint8"))
    inputs = smooth_images(model.spec.input_size, count=2)
    got = opened("onnx-x86", model, tmp_path)(inputs)
    assert cosines(got, embed_as_integers(model, ONNX, inputs)).min() > 0.9999
