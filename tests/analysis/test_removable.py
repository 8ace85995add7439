"""Channels that go together: the smaller network computes what the whole one computes with those channels silent."""

import copy

import pytest
import torch
from gated_networks import GATED_NETWORKS
from grouped_networks import SIZE, Grouped
from odd_networks import conv, head
from quantized import SMALL_NETWORKS, small_model, trained
from tiers import in_tiers
from torch import fx, nn

from qface_toolkit.analysis.removable import find_removable, narrowed
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.canonical.edit import ensure_shapes, shape_of
from qface_toolkit.canonical.graph import check_operations, from_plain, inputs, module, operation, to_plain
from qface_toolkit.quantize.plan import LAYERS


class Silent(fx.Interpreter):
    """Runs a network with zeros in the place of some classes of channels, in every tensor."""

    def __init__(self, network, stays):
        super().__init__(network)
        self.stays = stays

    def run_node(self, n):
        made = super().run_node(n)
        stays = self.stays.get(n.name)
        return made if stays is None else made * stays.reshape(1, -1, *[1] * (made.dim() - 2))


def every_other(removable):
    return [one for space in removable.spaces() for one in space.classes[::2][: len(space.classes) - 1]]


def check_narrowing(network, size):
    removable = find_removable(network, size)
    gone = every_other(removable)
    small = narrowed(network, removable, gone)
    images = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = Silent(network, removable.stays(gone)).run(images)
        torch.testing.assert_close(small(images), expected, rtol=1e-4, atol=1e-5)
    noted = {node.name: shape_of(node) for node in small.graph.nodes if operation(node) != "output"}
    read_back = from_plain(to_plain(small))
    check_operations(read_back)
    ensure_shapes(read_back, size)
    assert noted == {node.name: shape_of(node) for node in read_back.graph.nodes if operation(node) != "output"}
    return removable, gone


@pytest.mark.parametrize("name", in_tiers(SMALL_NETWORKS, fast=["mobilefacenet", "irse"]))
def test_layouts(name):
    model = small_model(name)
    removable, gone = check_narrowing(model.network, model.spec.input_size)
    assert len(gone) > 20


def test_a_residual_stream_goes_as_a_whole():
    model = small_model("mobilefacenet")
    removable = find_removable(model.network, model.spec.input_size)
    (added,) = (node for node in model.network.graph.nodes if operation(node) == "add")
    (stream,) = (space for space in removable.spaces() if added.name in space.tensors)
    assert {term.name for term in inputs(added)} < {*stream.tensors}


@pytest.mark.parametrize("name", in_tiers(GATED_NETWORKS, fast=["silu"]))
def test_gates_go_with_what_they_gate(name):
    network = canonicalise(copy.deepcopy(GATED_NETWORKS[name]).eval(), SIZE)
    check_narrowing(network, SIZE)


@pytest.mark.parametrize("around", ["dense", "depthwise", "sum", "chain"])
def test_whole_groups_go(around):
    network = canonicalise(trained(Grouped(8, 16, 4, around=around)).eval(), SIZE)
    removable, gone = check_narrowing(network, SIZE)
    assert gone
    small = narrowed(network, removable, gone)
    grouped = next(node for node in small.graph.nodes if operation(node) == "conv" and module(node).groups == 2)
    assert module(grouped).out_channels == 8


class Strung(nn.Module):
    """Two branches that are strung together, and a linear layer behind a map that is flattened."""

    def __init__(self):
        super().__init__()
        self.first, self.one, self.other = conv(3, 8), conv(8, 6), conv(8, 4)
        self.fc = nn.Linear(10 * SIZE[0] * SIZE[1], 12)

    def forward(self, x):
        x = torch.relu(self.first(x))
        return self.fc(torch.flatten(torch.cat([torch.relu(self.one(x)), torch.tanh(self.other(x))], 1), 1))


def test_parts_of_a_concatenation_go_by_themselves():
    network = canonicalise(Strung().eval(), SIZE)
    removable, _ = check_narrowing(network, SIZE)
    assert [len(space.classes) for space in removable.spaces()] == [8, 6, 4]


class Shuffled(nn.Module):
    """A shuffle of channels, as small networks have it."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = conv(3, 8), conv(8, 8), conv(8, 8)
        self.fc = nn.Linear(8, 12)

    def forward(self, x):
        x = torch.relu(self.third(torch.relu(self.first(x))))
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.fc(head(self.second(x)))


def test_what_mixes_channels_keeps_them_and_others_go():
    network = canonicalise(Shuffled().eval(), SIZE)
    removable, _ = check_narrowing(network, SIZE)
    assert {space.name for space in removable.spaces()} == {"first", "second"}


def test_layers_are_held_by_name():
    model = small_model("mobilefacenet")
    names = [node.name for node in model.network.graph.nodes if operation(node) in LAYERS]
    kept = find_removable(model.network, model.spec.input_size, keep=[names[0]])
    assert names[0] not in {space.name for space in kept.spaces()}
    assert not find_removable(model.network, model.spec.input_size, keep=["*"]).spaces()
