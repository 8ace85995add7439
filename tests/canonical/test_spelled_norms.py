"""Layer norms, unit lengths and global averages spelled in several operations, and what only looks like one."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qface_toolkit.canonical import _constants, _spelled_norms, _spellings
from qface_toolkit.canonical._tracing import trace
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.canonical.edit import propagate_shapes
from qface_toolkit.canonical.islands import Island

SIZE = (8, 10)


class Spelled(nn.Module):
    """A convolution, and what is given its output, one scale and one shift a channel."""

    def __init__(self, function):
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 6, 1), function
        self.scale, self.shift = nn.Parameter(torch.rand(6) + 0.5), nn.Parameter(torch.randn(6))

    def forward(self, x):
        return self.function(self.conv(x), self.scale, self.shift)


def by_channels(x, scale, shift):
    """Normalise over channels as ConvNeXt does."""
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).pow(2).mean(1, keepdim=True)
    return scale[:, None, None] * ((x - mean) / torch.sqrt(variance + 1e-6)) + shift[:, None, None]


def by_last(x, scale, shift):
    """Normalise over the last axis as exporters spell it."""
    x = x.permute(0, 2, 3, 1)
    centred = x - torch.mean(x, (-1,), True)
    return centred / ((centred**2).mean(-1, keepdim=True) + 1e-5) ** 0.5 * scale + shift


def by_inverse(x, scale, shift):
    x = x.permute(0, 2, 3, 1)
    return shift + scale * ((x - x.mean(3, True)) * torch.rsqrt(x.var(3, unbiased=False, keepdim=True) + 1e-3))


def of_each_image(x, _scale, _shift):
    centred = x - x.mean((2, 3), keepdim=True)
    return centred * (1 / torch.sqrt((centred * centred).mean((2, 3), keepdim=True) + 1e-5))


@pytest.mark.parametrize("function", [by_channels, by_last, by_inverse, of_each_image])
def test_a_layer_norm_in_any_spelling(function):
    network, found = recognised(function)
    islands = [module for module in found.modules() if isinstance(module, Island)]
    assert [island.kind for island in islands] == ["layer_norm"]
    assert not {"sub", "mean", "add", "mul"} & names(found)
    assert_same(network, found)


OTHERS = {
    "a sample's variance": lambda x, *_: (x - x.mean(1, True)) / torch.sqrt(x.var(1, keepdim=True) + 1e-5),
    "another mean": lambda x, *_: (
        (x - x.mean(1, True)) / torch.sqrt((x - x.mean(2, True)).square().mean(1, True) + 1e-5)
    ),
    "other axes": lambda x, *_: (x - x.mean(1, True)) / torch.sqrt((x - x.mean(1, True)).square().mean(2, True) + 1e-5),
    "no mean": lambda x, *_: x / torch.sqrt(x.square().mean(1, True) + 1e-5),
    "no root": lambda x, *_: (x - x.mean(1, True)) / ((x - x.mean(1, True)).square().mean(1, True) + 1e-5),
    "lengths of others": lambda x, *_: x / x.flip(1).square().sum(1, keepdim=True).sqrt(),
    "a large addition": lambda x, *_: x / (x.norm(dim=1, keepdim=True) + 0.1),
    "lengths times": lambda x, *_: x * x.norm(dim=1, keepdim=True),
    "the first length": lambda x, *_: x / x.norm(p=1, dim=1, keepdim=True),
    "part of an average": lambda x, *_: x.mean(2).mean(1),
    "a sum by another count": lambda x, *_: x.sum((2, 3)) / 79,
    "channels first": lambda x, *_: x.mean(1).mean(1),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_only_looks_like_one_is_left_alone(case):
    network, found = recognised(OTHERS[case])
    assert not any(isinstance(module, Island) for module in found.modules())
    assert not any(node.target is F.normalize for node in found.graph.nodes)
    assert_same(network, found)


UNITS = {
    "squares, summed": lambda x, *_: x / torch.sqrt((x * x).sum(1, keepdim=True)),
    "powers": lambda x, *_: x / x.pow(2).sum(1, keepdim=True).pow(0.5),
    "as TensorFlow does": lambda x, *_: x * torch.rsqrt(x.square().sum(1, keepdim=True).clamp(min=1e-12)),
    "with a number added": lambda x, *_: x / torch.sqrt((x**2).sum(1, keepdim=True) + 1e-10),
    "norms": lambda x, *_: x / x.norm(2, 1, True),
    "clamped and expanded": lambda x, *_: x / torch.norm(x, dim=1, keepdim=True).clamp(min=1e-6).expand_as(x),
    "axes put back": lambda x, *_: x / torch.linalg.vector_norm(x, dim=1).unsqueeze(1),
    "rows": lambda x, *_: x / (x.norm(dim=3, keepdim=True) + 1e-8),
}


@pytest.mark.parametrize("flat", [False, True], ids=["pictures", "vectors"])
@pytest.mark.parametrize("case", UNITS)
def test_unit_lengths_in_any_spelling(case, flat):
    if flat and case == "rows":
        return
    network, found = recognised(lambda x, *given: UNITS[case](x.flatten(1) if flat else x, *given))
    [node] = [node for node in found.graph.nodes if node.target is F.normalize]
    assert node.kwargs["dim"] == (3 if case == "rows" else 1)
    assert not {"sqrt", "sum", "norm", "truediv", "rsqrt"} & names(found)
    assert_same(network, found)


AVERAGES = {
    "rows, then columns": lambda x, *_: x.mean(3).mean(2),
    "columns, then rows, kept": lambda x, *_: x.mean(2, keepdim=True).mean(3, keepdim=True),
    "flattened pixels": lambda x, *_: x.flatten(2).mean(-1),
    "viewed pixels": lambda x, *_: torch.mean(x.reshape(-1, 6, 80), 2),
    "a sum divided": lambda x, *_: x.sum((2, 3), keepdim=True) / 80,
    "a sum multiplied": lambda x, *_: torch.sum(x, dim=[2, 3]) * 0.0125,
}


@pytest.mark.parametrize("case", AVERAGES)
def test_global_averages_in_any_spelling(case):
    network, found = recognised(AVERAGES[case])
    [node] = [node for node in found.graph.nodes if node.target is torch.mean]
    assert node.args[1] == (2, 3)
    assert_same(network, found)


def test_a_network_of_spelled_norms_is_canonical():
    body = Spelled(lambda x, *given: UNITS["powers"](by_channels(x, *given)).mean(3).mean(2))
    network = nn.Sequential(body, nn.Linear(6, 8)).eval()
    assert_same(network, canonicalise(network, SIZE))


def recognised(function):
    """Return a network, and its graph once what is spelled has its name."""
    torch.manual_seed(0)
    network = Spelled(function).eval()
    graph_module = trace(network, (3, *SIZE))
    for rewrite in (*_constants.PASSES, *_spellings.PASSES, *_spelled_norms.PASSES):
        propagate_shapes(graph_module, SIZE)
        rewrite(graph_module)
        graph_module.graph.eliminate_dead_code()
        graph_module.recompile()
    return network, graph_module


def names(graph_module):
    return {node.target if isinstance(node.target, str) else node.target.__name__ for node in graph_module.graph.nodes}


def assert_same(network, found, most=1e-5):
    images = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        expected = network(images)
        off = (found(images) - expected).abs().max() / expected.abs().max()
    assert off < most, f"off by {off:.2e}"
