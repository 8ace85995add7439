"""What people write between layers: parts of channels, shuffles, reshapes by sizes, a module used twice."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import nn
from torch.ao.nn.quantized import FloatFunctional
from torch.ao.quantization import DeQuantStub, QuantStub, fuse_modules

from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.models import from_module

SIZE = (32, 24)


class Between(nn.Module):
    """Two convolutions with a function between them, and an embedding."""

    def __init__(self, between):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.act = nn.Conv2d(3, 12, 3, 2, 1), nn.PReLU(12)
        self.inner, self.last = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(12, 12, 3, 2, 1)
        self.shuffle, self.fc, self.between = nn.ChannelShuffle(3), nn.Linear(12, 8), between

    def forward(self, x):
        x = self.last(self.between(self, self.act(self.first(x))))
        return self.fc(x.mean((2, 3)))


def chunks(net, x):
    kept, changed = x.chunk(2, dim=1)
    return torch.cat((kept, net.inner(changed)), 1)


def splits(net, x):
    a, b, c = torch.split(x, [6, 4, 2], dim=1)
    return torch.cat((net.inner(a), c, b), dim=1)


def splits_evenly(net, x):
    parts = x.split(6, 1)
    return torch.cat([net.inner(part) for part in parts], 1)


def slices(net, x):
    half = x.shape[1] // 2
    return torch.cat((net.inner(x[:, :half]), x[:, half:]), 1)


def every_other(net, x):
    return torch.cat((net.inner(x[:, ::2]), x[:, 1::2]), 1)


def shuffles_by_hand(_, x):
    n, c, h, w = x.size()
    return x.view(n, 3, c // 3, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)


def shuffles_flat(_, x):
    batch = x.size(0)
    x = x.reshape(batch, 2, 6, x.size(2) * x.size(3)).permute(0, 2, 1, 3)
    return x.contiguous().view(batch, 12, 16, 12)


def shuffles_by_module(net, x):
    return net.shuffle(x)


def reuses(net, x):
    a, b = x.chunk(2, 1)
    return torch.cat((net.inner(net.inner(a)), net.inner(b)), 1)


def unbinds(net, x):
    first, second = x.reshape(x.size(0), 2, 6, *x.shape[2:]).unbind(1)
    return torch.cat((net.inner(second), first), 1)


def extremes(_, x):
    return torch.max(x, -x) + torch.minimum(x, x.abs() * 0.5)


def gates(_, x):
    return x * torch.sigmoid(F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1))[:, :, None, None]


BETWEEN = (
    *(chunks, splits, splits_evenly, slices, every_other, shuffles_by_hand, shuffles_flat, shuffles_by_module),
    *(reuses, unbinds, extremes, gates),
)


def difference(network):
    model = from_module(network, input_size=SIZE)
    canonical = canonicalise(model.network, SIZE)
    images = torch.randn(3, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(images)
        return float((canonical(images) - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("between", BETWEEN, ids=lambda between: between.__name__)
def test_what_stands_between_layers_is_computed(between):
    off = difference(Between(between).eval())
    assert off < 1e-5, off


class Stubbed(nn.Module):
    """A float network that is written for torch's eager quantization."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.block = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.sum, self.join, self.scaled = FloatFunctional(), FloatFunctional(), FloatFunctional()
        self.fc = nn.Linear(16, 8)

    def forward(self, x):
        x = self.block(self.quant(x))
        y = self.join.cat([self.sum.add(x, x), self.scaled.mul_scalar(x, 0.5)], dim=1)
        return self.dequant(self.fc(y.mean((2, 3))))


@pytest.mark.parametrize("fused", [False, True])
def test_stubs_and_fused_modules_compute_as_if_they_were_not_there(fused):
    network = Stubbed().eval()
    off = difference(fuse_modules(network, [["block.0", "block.1", "block.2"]]) if fused else network)
    assert off < 1e-5, off
