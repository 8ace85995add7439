"""Blocks together are the network: nothing is lost between them, and none is cut where two tensors are alive."""

import functools

import pytest
import torch
from quantized import SMALL_NETWORKS, calibrated, small_network, smooth_images
from torch import nn

from qface_toolkit.analysis.blocks import cut_blocks
from qface_toolkit.canonical.graph import operation
from qface_toolkit.quantize.plan import LAYERS
from qface_toolkit.quantize.simulation import prepare
from qface_toolkit.quantize.target import ONNX


@functools.cache
def simulated(name):
    network, size = small_network(name)
    model = calibrated(network, size)
    return model, prepare(model, ONNX).prepared, torch.from_numpy(smooth_images(size, 2))


def cut(name, fewest_layers):
    model, prepared, images = simulated(name)
    return model, prepared, cut_blocks(model, prepared, fewest_layers), images


@pytest.mark.parametrize("fewest_layers", [1, 3])
@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_blocks_one_after_the_other_compute_what_the_network_does(name, fewest_layers):
    model, prepared, blocks, images = cut(name, fewest_layers)
    exact = rounded = images
    with torch.no_grad():
        for block in blocks:
            exact, rounded = block.exact(exact), block.simulated(rounded)
        assert torch.equal(exact, model.network(images))
        assert torch.equal(rounded, prepared(images))


@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_every_layer_and_every_tensor_is_in_one_block(name):
    model, _, blocks, _ = cut(name, 3)
    layers = [str(node.target) for node in model.network.graph.nodes if operation(node) in LAYERS]
    assert [layer for block in blocks for layer in block.layers] == layers
    assert [tensor for block in blocks for tensor in block.quantizers] == list(model.plan.tensors)


def test_residual_units_stay_whole():
    model, _, blocks, _ = cut("iresnet", 1)
    outputs = [block.output for block in blocks if block.output]
    assert len(outputs) > 3
    ends = {node.name for node in model.network.graph.nodes if operation(node) == "add"}
    assert ends <= set(outputs), "each sum ends a block"
    assert all(len(block.exact.graph.find_nodes(op="placeholder")) == 1 for block in blocks)


def test_small_blocks_are_merged():
    counts = [[len(block.layers) for block in cut("mobilefacenet", fewest)[2]] for fewest in (1, 3, 1000)]
    assert min(counts[0]) == 1
    assert min(counts[1][:-1]) >= 3
    assert len(counts[2]) == 1


def test_a_layer_that_two_blocks_call_is_nobody_s():
    torch.manual_seed(0)
    network = Twice()
    model = calibrated(network, (8, 8))
    again = next(node for node in model.network.graph.nodes if node.name == "shared_1")
    again.target = "shared"  # canonical form gives each call a layer of its own
    model.network.recompile()
    blocks = cut_blocks(model, prepare(model, ONNX).prepared, 1)
    assert len(blocks) > 2
    assert [block.layers for block in blocks] == [("first",), (), (), ("fc",)]


class Twice(nn.Module):
    """A convolution that runs twice."""

    def __init__(self):
        super().__init__()
        self.first, self.shared, self.fc = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 1), nn.Linear(36, 5)

    def forward(self, x):
        x = self.shared(torch.relu(self.first(x)))
        return self.fc(torch.relu(self.shared(torch.relu(x))).flatten(1))
