"""Blocks together are the network: nothing is lost between them, and none is cut where two tensors are alive."""

import functools

import pytest
import torch
from quantized import SMALL_NETWORKS, small_model, smooth_images
from tiers import in_tiers

from qface_toolkit.analysis.blocks import cut_blocks
from qface_toolkit.canonical.graph import operation
from qface_toolkit.quantize.plan import LAYERS
from qface_toolkit.quantize.simulation import prepare
from qface_toolkit.quantize.target import ONNX


@functools.cache
def simulated(name):
    model = small_model(name)
    return model, prepare(model, ONNX).prepared, torch.from_numpy(smooth_images(model.spec.input_size, 2))


def cut(name, fewest_layers):
    model, prepared, images = simulated(name)
    return model, prepared, cut_blocks(model, prepared, fewest_layers), images


@pytest.mark.parametrize("fewest_layers", [1, 3])
@pytest.mark.parametrize("name", in_tiers(SMALL_NETWORKS, fast=("mobilefacenet", "iresnet")))
def test_blocks_one_after_the_other_compute_what_the_network_does(name, fewest_layers):
    model, prepared, blocks, images = cut(name, fewest_layers)
    exact = rounded = images
    with torch.no_grad():
        for block in blocks:
            exact, rounded = block.exact(exact), block.simulated(rounded)
        assert torch.equal(exact, model.network(images))
        assert torch.equal(rounded, prepared(images))


@pytest.mark.parametrize("name", in_tiers(SMALL_NETWORKS, fast=("mobilefacenet", "iresnet")))
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
