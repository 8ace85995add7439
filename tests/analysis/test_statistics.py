"""What is said of channels and weights predicts what errors in them do to the embedding."""

import numpy as np
import pytest
import torch
from odd_networks import after_conv
from quantized import small_network, smooth_images, trained
from tiers import in_tiers
from torch import fx

from qface_toolkit.analysis import statistics
from qface_toolkit.analysis.statistics import LEVELS, measure_statistics, quantile_shares
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.canonical.graph import module, operation

ERROR = 1e-3


@pytest.fixture(scope="module")
def network():
    built, size = small_network("mobilefacenet")
    return canonicalise(built, size), smooth_images(size, 16)


def measured(network, images, seed=0, batch_size=4):
    names = [node.name for node in network.graph.nodes if operation(node) in ("conv", "prelu", "add")]
    return measure_statistics(
        network, names, images, seed=seed, batch_size=batch_size, progress=lambda done, total: None
    )


class _Disturbed(fx.Interpreter):
    """Runs a network with white noise in one tensor's channel."""

    def __init__(self, network, tensor, channel):
        super().__init__(network)
        self.tensor, self.channel = tensor, channel

    def run_node(self, n):
        made = super().run_node(n)
        if n.name == self.tensor:
            made = made.clone()
            made[:, self.channel] += ERROR * torch.randn(made[:, self.channel].shape)
        return made


def turn(network, runner, images, times=20):
    """Return the mean squared turn of the embedding for an error of variance one."""
    with torch.no_grad():
        expected = torch.nn.functional.normalize(network(images).double())
        turns = [torch.nn.functional.normalize(runner().double()) - expected for _ in range(times)]
    return float(torch.stack(turns).pow(2).sum(2).mean()) / ERROR**2


@pytest.mark.parametrize(
    ("tensor", "channel"), in_tiers([("conv1_prelu", 2), ("add", 5), ("conv2_conv", 0)], fast=[("add", 5)])
)
def test_sensitivity_predicts_the_turn_of_the_embedding(network, tensor, channel):
    canonical, images = network
    seen = [measured(canonical, images, seed).sensitivity[tensor][channel] for seed in range(24)]
    inputs = torch.from_numpy(images)
    found = turn(canonical, lambda: _Disturbed(canonical, tensor, channel).run(inputs), inputs)
    assert float(torch.stack(seen).mean()) == pytest.approx(found, rel=0.3)


@pytest.mark.slow
def test_the_sensitivity_of_weights_predicts_it_too(network):
    canonical, images = network
    node = next(node for node in canonical.graph.nodes if node.name == "blocks_0_conv_6")
    seen = torch.stack([measured(canonical, images, seed).weights[node.name].sum() for seed in range(24)])
    inputs, weight = torch.from_numpy(images), module(node).weight
    before = weight.detach().clone()

    def disturbed():
        weight.data = before + ERROR * torch.randn(before.shape)
        made = canonical(inputs)
        weight.data = before
        return made

    assert float(seen.mean()) == pytest.approx(turn(canonical, disturbed, inputs, times=60), rel=0.3)


def test_quantiles_hold_the_true_ends(network):
    canonical, images = network
    values = measured(canonical, images).values["conv1_prelu"]
    runner = _Disturbed(canonical, "", 0)
    kept = {}
    runner.run_node = lambda n: kept.setdefault(n.name, fx.Interpreter.run_node(runner, n))
    with torch.no_grad():
        runner.run(torch.from_numpy(images))
    true = kept["conv1_prelu"].transpose(0, 1).flatten(1)
    assert torch.allclose(values[:, 0], true.amin(1)) and torch.allclose(values[:, -1], true.amax(1))
    assert (values.diff(dim=1) >= 0).all()
    middle = values[:, len(LEVELS) // 2]
    assert np.allclose(middle, true.median(1).values, atol=0.1 * float(true.std()))


def test_shares_sum_to_one():
    assert float(quantile_shares().sum()) == pytest.approx(1.0)


def test_weights_are_left_as_they_were(network):
    canonical, images = network
    before = [parameter.requires_grad for parameter in canonical.parameters()]
    measured(canonical, images)
    assert [parameter.requires_grad for parameter in canonical.parameters()] == before
    assert all(parameter.grad is None for parameter in canonical.parameters())


def test_roots_of_zeros_have_no_infinite_slopes():
    torch.manual_seed(0)
    roots = after_conv(lambda s, x: torch.sqrt(torch.relu(x)) + torch.relu(x).pow(0.25))
    canonical = canonicalise(trained(roots), (16, 16))
    names = [node.name for node in canonical.graph.nodes if operation(node) in ("input", "relu")]
    images = smooth_images((16, 16), 4)
    seen = measure_statistics(canonical, names, images, seed=0, batch_size=2, progress=lambda *_: None)
    assert all(bool(torch.isfinite(square).all()) for square in seen.sensitivity.values())


def test_a_large_network_sees_fewer_images_at_once(network, monkeypatch):
    canonical, images = network
    steps = []
    monkeypatch.setattr(statistics, "MOST_NUMBERS", 1)
    measure_statistics(canonical, [], images, seed=0, batch_size=32, progress=lambda done, total: steps.append(done))
    assert steps == list(range(1, len(images) + 1))
