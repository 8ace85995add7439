"""Bias correction: channel means come back, layer by layer, also behind a ReLU that torch.ao fuses."""

import numpy as np
import pytest
import torch
from quantized import calibrated, cosines, run, small_model, small_network, smooth_images, trained
from tiers import in_tiers
from torch import fx, nn

from qface_toolkit.canonical.graph import operation
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.methods import METHODS, Context
from qface_toolkit.quantize.simulation import prepare
from qface_toolkit.quantize.target import ONNX

CORRECT = METHODS.get("correct_bias")


def corrected(model, images, **options):
    return CORRECT.run(model, CORRECT.options(**options), Context(images, ONNX, 0, 4, lambda done, total: None))


class _Means(fx.Interpreter):
    def __init__(self, network):
        super().__init__(network)
        self.found = {}

    def run_node(self, n):
        made = super().run_node(n)
        if n.op == "call_module" and made.dim() == 4:
            self.found[str(n.target)] = made.mean(dim=(0, 2, 3))
        return made


def means(network, images):
    watched = _Means(network)
    with torch.no_grad():
        watched.run(torch.from_numpy(images))
    return watched.found


@pytest.mark.parametrize("name", in_tiers(("mobilefacenet", "mobilefacenet-relu6", "iresnet"), fast=["iresnet"]))
def test_means_are_those_of_the_float_network(name):
    network, size = small_network(name)
    images = smooth_images(size, 8)
    model = calibrated(network, size, images)
    before, after = (means(prepare(one, ONNX).prepared, images) for one in (model, corrected(model, images)))
    expected = means(model.network, images)
    layers = [node for node in model.network.graph.nodes if operation(node) == "conv"]
    bare = [str(node.target) for node in layers if not any(operation(user) == "relu" for user in node.users)]
    for layer in bare:
        scale = float(expected[layer].abs().max())
        assert float((after[layer] - expected[layer]).abs().max()) < 1e-3 * scale, layer
    assert any(float((before[layer] - expected[layer]).abs().max()) > 5e-3 for layer in bare)


def test_a_layer_with_its_relu_is_compared_behind_it():
    """Weights of one sign and inputs of one sign: rounding them down shifts every mean."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 144, 16)
    )
    with torch.no_grad():
        network[2].weight.abs_()
        network[2].weight[:, :, 0, 0] = 8.0
    images = smooth_images((16, 16), 16)
    model = calibrated(trained(network), (16, 16), images)
    unseen = smooth_images((16, 16), 16, seed=4)
    expected = run(network, unseen)
    before, after = (embed_as_integers(one, ONNX, unseen) for one in (model, corrected(model, images)))
    assert np.abs(after.mean(0) - expected.mean(0)).mean() < np.abs(before.mean(0) - expected.mean(0)).mean()
    assert cosines(after, expected).mean() >= cosines(before, expected).mean()


def test_only_biases_move_and_the_model_given_stays():
    model = small_model("mobilefacenet")
    images = smooth_images(model.spec.input_size)
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    after = corrected(model, images)
    assert after.ranges == model.ranges
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, before[name])
        if not name.endswith("bias"):
            assert torch.equal(after.network.state_dict()[name], tensor)
    assert not torch.equal(after.network.conv1.conv.bias, before["conv1.conv.bias"])
