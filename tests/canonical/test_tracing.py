"""Networks whose forward computes with sizes are traced too; what cannot be is told by the line of its code."""

import pytest
import torch
from torch import fx, nn

from qface_toolkit.canonical._tracing import trace
from qface_toolkit.errors import UnsupportedModel

SHAPE = (3, 12, 10)


def images(batch=5):
    return torch.randn(batch, *SHAPE, generator=torch.Generator().manual_seed(batch))


class OfSizes(nn.Module):
    """A network that a function of it and the image makes."""

    def __init__(self, body):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.body = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), body

    def forward(self, x):
        return self.body(self.norm(self.conv(x)))


def loops(x):
    parts = [x[:, at : at + 2] for at in range(0, x.shape[1], 2)]
    return torch.cat(parts[::-1], 1)


def branches(x):
    if x.shape[2] != 12 or x.dim() != 4 or len(x.shape) != 4:
        return x
    return x * 2 if x.size(-1) % 2 == 0 else x


def asserts(x):
    batch, channels, height, width = x.size()
    assert channels % 2 == 0
    assert height > width
    return x.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous().view(batch, -1, height, width)


def pads(x):
    missing = max(-(-x.shape[2] // 5) * 5 - x.shape[2], 0)
    return nn.functional.pad(x, [0, 0, missing // 2, missing - missing // 2])


def makes(x):
    weights = torch.linspace(0, 1, x.shape[3], device=x.device, dtype=x.dtype)
    return x * weights


def unpacks(x):
    first, *rest = x.chunk(4, dim=1)
    return torch.cat((*rest, first), 1)


def resizes(x):
    return nn.functional.interpolate(x[:, :, ::2, ::2], size=x.shape[2:], mode="nearest")


def flattens(x):
    return x.reshape(len(x.shape) and x.size(0), int(x.shape[1] * x.shape[2] * x.shape[3]))


FORWARDS = (loops, branches, asserts, pads, makes, unpacks, resizes, flattens)


@pytest.mark.parametrize("body", FORWARDS, ids=lambda body: body.__name__)
def test_sizes_are_numbers_where_they_are_constant(body):
    network = OfSizes(body).eval()
    traced = trace(network, SHAPE)
    for batch in (1, 2, 5):
        assert torch.equal(traced(images(batch)), network(images(batch)))


def test_most_of_these_are_beyond_plain_tracing():
    failed = 0
    for body in FORWARDS:
        try:
            fx.symbolic_trace(OfSizes(body))
        except (fx.proxy.TraceError, TypeError, RuntimeError):
            failed += 1
    assert failed >= 6, failed


class Nested(nn.Module):
    """A leaf of torch's own that calls modules, used twice, between lines that need sizes."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.PReLU(3)) for _ in range(2))
        self.shift = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, x):
        for block in self.blocks:
            for _ in range(x.shape[1] - 1):
                x = block(x) + self.shift
        return x.mean((2, 3))


def test_modules_and_parameters_keep_their_names():
    network = Nested().eval()
    traced = trace(network, SHAPE)
    targets = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    assert targets == ["blocks.0.0", "blocks.0.1"] * 2 + ["blocks.1.0", "blocks.1.1"] * 2
    assert "shift" in {node.target for node in traced.graph.nodes if node.op == "get_attr"}
    assert torch.equal(traced(images()), network(images()))


class Optional(nn.Module):
    """A network that takes more than the image, if somebody gives it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x, mask=None, *, pooled=True):
        if mask is not None:
            x = x * mask
        return self.conv(x).mean((2, 3)) if pooled else self.conv(x)


def test_other_arguments_have_their_defaults():
    network = Optional().eval()
    traced = trace(network, SHAPE)
    assert torch.equal(traced(images()), network(images()))
    assert sum(node.op == "placeholder" for node in traced.graph.nodes) == 1


def by_value(x):
    if x.sum() > 0:
        return x
    return -x


def fails(x):
    return x.reshape(x.shape[0], 7, range(x.shape[1])[-1])


def asks(x):
    return x * float(x.mean())


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (by_value, "in by_value: if x.sum() > 0:"),
        (fails, "in fails: return x.reshape(x.shape[0], 7, range(x.shape[1])[-1])"),
        (asks, "in asks: return x * float(x.mean())"),
    ],
    ids=["by_value", "fails", "asks"],
)
def test_the_line_that_cannot_be_traced_is_named(body, line):
    with pytest.raises(UnsupportedModel, match="cannot be traced") as caught:
        trace(OfSizes(body), SHAPE)
    assert "test_tracing.py, line" in caught.value.where
    assert caught.value.where.endswith(line)
    assert len(caught.value.what) < 200
