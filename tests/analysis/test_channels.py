"""Classes of channels: any factors for them leave every network's function alone."""

import pytest
import torch
from quantized import SMALL_NETWORKS, run, small_network, smooth_images, trained
from tiers import in_tiers
from torch import nn

from qface_toolkit.analysis.channels import channel_classes, scaled
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.canonical.graph import operation


def random_factors(classes, seed=0, least=0.3):
    draw = torch.Generator().manual_seed(seed)
    return classes.bounded(torch.rand(len(classes.lowest), generator=draw) * 2 * least - least)


SCALED = [name for name in SMALL_NETWORKS if name != "mobilefacenet-relu6"]


@pytest.mark.parametrize("name", in_tiers(SCALED, fast=("mobilefacenet", "quantface", "iresnet")))
def test_scaling_changes_nothing(name):
    network, size = small_network(name)
    canonical, images = canonicalise(network, size), smooth_images(size, 2)
    classes = channel_classes(canonical, size)
    factors = random_factors(classes)
    # A gate of squeeze-and-excitation and the shortcut beside it hold the channels of their unit.
    least = 0.3 if name == "irse" else 0.5
    assert (factors != 0).float().mean() > least, "most channels are free"
    expected, got = run(canonical, images), run(scaled(canonical, classes, factors), images)
    assert abs(got - expected).max() <= 1e-5 * abs(expected).max()


class Clamped(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.clamp, self.last = nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.Conv2d(4, 8, 14)

    def forward(self, x):
        return torch.flatten(self.last(self.clamp(self.first(x))), 1)


def test_behind_a_relu6_channels_only_grow():
    canonical, images = canonicalise(trained(Clamped()), (16, 16)), smooth_images((16, 16), 2)
    classes = channel_classes(canonical, (16, 16))
    factors = random_factors(classes)
    assert factors.min() == 0 < factors.max()
    largest = canonical.get_submodule("first")(torch.from_numpy(images)).max()
    assert largest * factors.exp().max() < 6, "no channel reaches the clamp"
    assert abs(run(scaled(canonical, classes, factors), images) - run(canonical, images)).max() < 1e-5


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 8, 14)

    def forward(self, x):
        x = self.first(x)
        return torch.flatten(self.last(self.second(x) * torch.sigmoid(x)), 1)


def test_gates_and_both_ends_keep_their_scale():
    canonical = canonicalise(trained(Gated()), (16, 16))
    classes = channel_classes(canonical, (16, 16))
    for node in canonical.graph.nodes:
        if operation(node) in ("input", "sigmoid", "mul", "conv", "flatten"):
            assert (classes.highest[classes.of[node.name]] == 0).all(), node.name


@pytest.mark.slow
def test_a_sum_ties_its_terms_and_a_concatenation_does_not():
    network, size = small_network("pocketnet")
    canonical = canonicalise(network, size)
    classes = channel_classes(canonical, size)
    for node in canonical.graph.nodes:
        parts = [classes.of[source.name] for source in node.all_input_nodes]
        if operation(node) == "add":
            assert torch.equal(parts[0], parts[1])
        if operation(node) == "concat":
            assert torch.equal(torch.cat(parts), classes.of[node.name])
