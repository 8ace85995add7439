"""Activations that people and exporters spell in several operations become the modules of their names."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qface_toolkit.canonical import _constants, _spellings
from qface_toolkit.canonical._tracing import trace
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.canonical.edit import propagate_shapes

SIZE = (8, 8)
ROOT = 1.4142135381698608
"""Of two, as float32 has it."""


class Spelled(nn.Module):
    """A convolution, an activation that is given the tensor and one slope a channel, and a convolution."""

    def __init__(self, function, slopes):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1)
        self.slopes, self.function = nn.Parameter(slopes), function

    def forward(self, x):
        return self.last(self.function(self.first(x), self.slopes))


def channels(*slopes):
    return torch.tensor(slopes).reshape(1, -1, 1, 1)


GENTLE, STEEP = channels(0.25, 0.1, 0.0, -0.3, 0.9, 0.5), channels(25.0, -21.0, 1.5, 1.0, 0.2, -1.0)
ZERO, SIX = torch.zeros(()), torch.full((), 6.0)
PRELUS = {
    "by the negative": lambda x, a: F.relu(x) - a * F.relu(-x),
    "by a negative slope": lambda x, a: F.relu(x) + (-a) * F.relu(-x),
    "by minus one": lambda x, a: torch.relu(x) - a * torch.relu(x * -1.0),
    "by what is left": lambda x, a: x.relu() + a * (x - x.relu()),
    "by |x|": lambda x, a: F.relu(x) + a * (x - x.abs()) * 0.5,
    "by |x| twice": lambda x, a: 0.5 * (x + torch.abs(x)) + 0.5 * a * (x - torch.abs(x)),
    "by halves": lambda x, a: (1 + a) / 2 * x + (1 - a) / 2 * abs(x),
    "by extremes": lambda x, a: torch.maximum(x, ZERO) + a * torch.minimum(x, ZERO),
    "by a choice": lambda x, a: torch.where(x > 0, x, a * x),
    "by clamps": lambda x, a: x.clamp(min=0) + a * torch.clamp(x, max=0),
}


@pytest.mark.parametrize("slopes", [GENTLE, STEEP, torch.tensor(0.3)], ids=["gentle", "steep", "one"])
@pytest.mark.parametrize("way", PRELUS)
def test_a_prelu_in_any_spelling(way, slopes):
    network, found = named(PRELUS[way], slopes)
    [prelu] = activations(found)
    assert isinstance(prelu, nn.PReLU)
    assert torch.allclose(prelu.weight.detach(), slopes.flatten(), rtol=1e-6, atol=1e-7)
    assert_same(network, found)


def test_the_larger_of_a_number_and_its_part_is_a_prelu_only_with_gentle_slopes():
    network, found = named(lambda x, a: torch.max(x, a * x), GENTLE)
    assert [type(one) for one in activations(found)] == [nn.PReLU]
    assert_same(network, found)
    steep, kept = named(lambda x, a: torch.max(x, a * x), channels(2.0, 0.1, 0.1, 0.1, 0.1, 0.1))
    assert not activations(kept)
    assert_same(steep, kept)


NAMES = {
    "GELU, divided": (nn.GELU, lambda x, _: 0.5 * x * (1 + torch.erf(x / ROOT))),
    "GELU, multiplied": (nn.GELU, lambda x, _: x * (torch.erf(x * 0.7071067690849304) + 1) * 0.5),
    "GELU of tanh": (nn.GELU, lambda x, _: 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x**3)))),
    "GELU of tanh, in cubes": (nn.GELU, lambda x, _: x * 0.5 * (1 + (0.79788456 * x * (1 + 0.044715 * x * x)).tanh())),
    "Mish": (nn.Mish, lambda x, _: x * torch.tanh(F.softplus(x))),
    "Mish of exponentials": (nn.Mish, lambda x, _: x * torch.tanh(torch.log(1 + torch.exp(x)))),
    "SiLU of exponentials": (nn.SiLU, lambda x, _: x / (1 + torch.exp(-x))),
    "sigmoid of exponentials": (nn.Sigmoid, lambda x, _: 1 / (1 + torch.exp(-x))),
    "hard-swish of extremes": (nn.Hardswish, lambda x, _: x * torch.minimum(F.relu(x + 3), SIX) / 6),
    "softplus, never infinite": (nn.Softplus, lambda x, _: torch.where(x > 20, x, torch.log(1 + torch.exp(x)))),
    "softplus": (nn.Softplus, lambda x, _: torch.log(1 + torch.exp(x))),
    "ReLU of |x|": (nn.ReLU, lambda x, _: (x + x.abs()) / 2),
    "ReLU6 of two": (nn.Hardtanh, lambda x, _: F.relu(x).clamp(max=6)),
    "a clamp of two": (nn.Hardtanh, lambda x, _: torch.maximum(torch.minimum(x, SIX), -SIX / 2)),
}


@pytest.mark.parametrize("way", NAMES)
def test_activations_get_their_names(way):
    kind, function = NAMES[way]
    network, found = named(function, torch.tensor(0.3))
    assert [type(one) for one in activations(found)] == [kind]
    assert_same(network, found)


OTHERS = {
    "a quick GELU": lambda x, _: x * torch.sigmoid(1.702 * x),
    "an affine map": lambda x, a: x * a + 1,
    "nothing": lambda x, _: x + 1 - 1,
    "a PReLU with a ceiling": lambda x, a: F.relu(x).clamp(max=50) - a * F.relu(-x),
    "GELU that is off by a hundredth": lambda x, _: 0.5 * x * (1 + torch.erf(x / 1.428)),
    "slopes of pixels": lambda x, a: F.relu(x) - a * torch.ones(1, 1, 8, 8) * F.relu(-x),
    "two tensors": lambda x, a: F.relu(x) - a * F.relu(-x.flip(1)),
    "SiLU as the gates know it": lambda x, _: x * torch.sigmoid(x),
    "hard-swish as the gates know it": lambda x, _: x * F.relu6(x + 3) / 6,
}


@pytest.mark.parametrize("way", OTHERS)
def test_what_has_no_name_is_left_alone(way):
    network, found = named(OTHERS[way], GENTLE)
    assert not [one for one in activations(found) if isinstance(one, (nn.GELU, nn.PReLU, nn.SiLU, nn.Hardswish))]
    assert_same(network, found)


def test_what_is_read_in_between_stays():
    network, found = named(lambda x, a: (F.relu(x) - a * F.relu(-x)) + F.relu(-x).sum(1, keepdim=True), GENTLE)
    assert any(isinstance(one, nn.PReLU) for one in activations(found))
    assert_same(network, found)


def test_a_network_with_spelled_prelus_is_canonical():
    network = nn.Sequential(Spelled(PRELUS["by |x|"], STEEP), nn.Flatten(), nn.Linear(256, 8)).eval()
    found = canonicalise(network, SIZE)
    assert sum(isinstance(module, nn.PReLU) for module in found.modules()) == 1
    assert_same(network, found, most=1e-3)


def named(function, slopes):
    """Return a network with an activation spelled so, and what naming activations makes of its graph."""
    torch.manual_seed(0)
    network = Spelled(function, slopes).eval()
    graph_module = trace(network, (3, *SIZE))
    for rewrite in (*_constants.PASSES, *_spellings.PASSES):
        propagate_shapes(graph_module, SIZE)
        rewrite(graph_module)
        graph_module.recompile()
    return network, graph_module


def activations(graph_module):
    called = [graph_module.get_submodule(node.target) for node in graph_module.graph.nodes if node.op == "call_module"]
    return [module for module in called if not isinstance(module, nn.Conv2d)]


def assert_same(network, found, most=1e-5):
    images = torch.randn(2, 3, *SIZE) * 20
    with torch.no_grad():
        expected = network(images)
        off = (found(images) - expected).abs().max() / expected.abs().max()
    assert off < most, f"off by {off:.2e}"
