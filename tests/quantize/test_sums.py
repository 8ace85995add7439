"""Sums and products of codes come out the same in every kernel, for every pair of codes."""

import pytest
import torch
from quantized import SMALL_NETWORKS, small_model
from tiers import in_tiers

from qface_toolkit.canonical.graph import inputs, operation
from qface_toolkit.integer.arithmetic import ARITHMETIC, Steps
from qface_toolkit.quantize.scheme import Range
from qface_toolkit.quantize.sums import DENOMINATOR, settle_sums
from qface_toolkit.quantize.target import ONNX

KERNELS = ("onnxruntime", "onnxruntime-signed", "onnxruntime-arm", "onnxruntime-arm-signed")
every_network = pytest.mark.parametrize("name", in_tiers(SMALL_NETWORKS, fast=["irse"]))
CODES = torch.arange(256.0)
PAIRS = CODES.repeat_interleave(256), CODES.repeat(256)


def results(model):
    """Return for each addition and product what each kernel makes of every pair of codes."""
    found = {}
    for node in model.network.graph.nodes:
        if (kind := operation(node)) in ("add", "mul"):
            written = node.name if node.name in model.plan.tensors else next(iter(node.users)).name
            grids = [Steps.of(model.grid_of(one.name, ONNX)) for one in inputs(node)]
            parts, output = list(zip(PAIRS, grids, strict=True)), Steps.of(model.grid_of(written, ONNX))
            compute = "added" if kind == "add" else "multiplied"
            found[node.name] = [getattr(ARITHMETIC[name], compute)(parts, output) for name in KERNELS]
    return found


def parted(model):
    """Return how many pairs of codes the kernels part on, by node."""
    made = results(model)
    return {name: sum(int((one != first).sum()) for one in others) for name, (first, *others) in made.items()}


@every_network
def test_all_kernels_agree_on_every_pair_of_codes(name):
    found = parted(small_model(name))
    assert found
    assert sum(found.values()) == 0, found


def test_ranges_that_let_sums_lie_in_the_middle_are_widened():
    model = small_model("mobilefacenet")
    add = next(node for node in model.network.graph.nodes if operation(node) == "add")
    output = model.range_of(add.name, ONNX)
    owners = {owner for part in inputs(add) for owner in model.plan.spanned(part.name, ONNX)}
    half = Range(output.low / 2, output.high / 2)
    halves = model.with_ranges({**model.ranges, **dict.fromkeys(owners, half)})
    assert parted(halves)[add.name] > 0
    settled = settle_sums(halves)
    assert parted(settled)[add.name] == 0
    assert all(1 < settled.ranges[owner].high / half.high < 1.002 for owner in owners)


@every_network
def test_settling_again_changes_nothing(name):
    model = small_model(name)
    assert settle_sums(model).ranges == model.ranges


@every_network
def test_ratios_are_what_was_asked_for(name):
    model = small_model(name)
    for node in model.network.graph.nodes:
        if operation(node) == "add":
            written = node.name if node.name in model.plan.tensors else next(iter(node.users)).name
            for part in inputs(node):
                multiple = (
                    float(model.grid_of(part.name, ONNX).scale / model.grid_of(written, ONNX).scale) * DENOMINATOR
                )
                assert abs(multiple - round(multiple)) < 1e-2
