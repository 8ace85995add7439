"""The effect of each quantizer, walked through once, is that of a pass over the whole network for each of them."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from gated_networks import GATED_NETWORKS
from quantized import calibrated, small_model, smooth_images, trained
from tiers import in_tiers

from qface_toolkit.analysis import sensitivity
from qface_toolkit.analysis.sensitivity import affordable_images, effort, measure_sensitivity
from qface_toolkit.canonical.graph import operation
from qface_toolkit.errors import MeasurementError
from qface_toolkit.quantize.quantizers import ActivationQuantizer
from qface_toolkit.quantize.scheme import Range
from qface_toolkit.quantize.simulation import prepare
from qface_toolkit.quantize.target import ONNX, OPENVINO, TORCH_FBGEMM, TORCH_X86, Deployment


class WholePasses:
    """A simulation that is run from end to end, whatever is switched."""

    def __init__(self, model, target, images):
        self.model, self.target = model, target
        self.graph = prepare(model, target).prepared.to(memory_format=torch.channels_last)
        self.images = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
        quantizers = [module for module in self.graph.modules() if isinstance(module, ActivationQuantizer)]
        self.activations = dict(zip(model.plan.tensors, quantizers, strict=True))
        nodes = [node for node in model.network.graph.nodes if operation(node) in ("conv", "linear", "prelu")]
        self.layers = {node.name: (operation(node), self.graph.get_submodule(node.target)) for node in nodes}
        self.slopes = {
            node.name: (self.graph.get_submodule(node.target).weight, model.network.get_submodule(node.target).weight)
            for node in nodes
        }
        self.reference = self.embedded(lambda kind, name: False)

    def embedded(self, on):
        """Return the embeddings with only those on that `on(kind, name)` says."""
        for name, quantizer in self.activations.items():
            quantizer.quantizes = self.model.plan.quantized(name, self.target) and on("activation", name)
        for name, (kind, layer) in self.layers.items():
            if kind == "prelu":
                layer.weight = self.slopes[name][not on("weights", name)]
            else:
                layer.weight_fake_quant.rounds = on("weights", name)
        with torch.no_grad():
            return self.graph(self.images).double()

    def cosine(self, on):
        return float(torch.cosine_similarity(self.embedded(on), self.reference).mean())


def check_against_whole_passes(model, target, images):
    found, naive = measure_sensitivity(model, target, images), WholePasses(model, target, images)
    everything = naive.cosine(lambda kind, name: True)
    assert found.loss == pytest.approx(1 - everything, abs=1e-12)
    for kind, loss in (("activation", found.activations_loss), ("weights", found.weights_loss)):
        assert loss == pytest.approx(1 - naive.cosine(lambda k, name, kind=kind: k == kind), abs=1e-12)
    for effect in found.quantizers:
        this = (effect.kind, effect.name)
        alone = naive.cosine(lambda *other, this=this: other == this)
        left_out = naive.cosine(lambda *other, this=this: other != this)
        assert effect.loss_alone == pytest.approx(1 - alone, abs=1e-12), this
        assert effect.gain_left_out == pytest.approx(left_out - everything, abs=1e-12), this
    assert len({effect.loss_alone for effect in found.quantizers}) > len(found.quantizers) / 2, "all off?"


@pytest.mark.parametrize(
    "target", in_tiers((ONNX, TORCH_FBGEMM, OPENVINO), fast=[ONNX]), ids=lambda target: target.name
)
def test_every_effect_is_that_of_a_whole_pass(target):
    model = small_model("mobilefacenet")
    check_against_whole_passes(model, target, smooth_images(model.spec.input_size, seed=1))


@pytest.mark.parametrize(
    "name", in_tiers(("residual of gates", "concat of gates", "excitation by views"), fast=["residual of gates"])
)
def test_every_effect_is_that_of_a_whole_pass_in_networks_with_branches(name):
    model = calibrated(trained(GATED_NETWORKS[name]), (16, 16))
    check_against_whole_passes(model, ONNX, smooth_images((16, 16), seed=1))


@pytest.mark.parametrize("target", [ONNX, TORCH_X86], ids=lambda target: target.name)
@pytest.mark.parametrize(
    "name", in_tiers(("mobilefacenet", "mobilefacenet-relu6", "iresnet", "quantface"), fast=["mobilefacenet"])
)
def test_every_quantizer_is_there_once(name, target):
    model = small_model(name)
    found = measure_sensitivity(model, target, smooth_images(model.spec.input_size, count=1)).quantizers
    tensors = [effect.name for effect in found if effect.kind == "activation"]
    assert tensors == [tensor for tensor in model.plan.tensors if model.plan.quantized(tensor, target)]
    rounded = ("conv", "linear", "prelu") if target.rounds_slopes else ("conv", "linear")
    layers = [node.name for node in model.network.graph.nodes if operation(node) in rounded]
    assert [effect.name for effect in found if effect.kind == "weights"] == layers


def worst_of(found):
    return max(found.quantizers, key=lambda effect: effect.loss_alone)


def test_a_broken_range_is_found():
    model = small_model("mobilefacenet")
    size = model.spec.input_size
    broken = "conv2_prelu"
    assert worst_of(measure_sensitivity(model, ONNX, smooth_images(size, seed=1))).name != broken
    low, high = model.ranges[broken].low, model.ranges[broken].high
    model = model.with_ranges({**model.ranges, broken: Range(low * 30, high * 30)})
    found = measure_sensitivity(model, ONNX, smooth_images(size, seed=1))
    worst = worst_of(found)
    assert (worst.kind, worst.name) == ("activation", broken)
    assert max(found.quantizers, key=lambda effect: effect.gain_left_out) == worst
    assert worst.gain_left_out > found.loss / 2, f"leaving it out gains {worst.gain_left_out} of {found.loss}"


@pytest.mark.slow
def test_batches_do_not_matter_and_the_same_comes_out_twice(monkeypatch):
    model = small_model("iresnet")
    images = smooth_images(model.spec.input_size, count=5)
    whole = measure_sensitivity(model, ONNX, images)
    assert measure_sensitivity(model, ONNX, images) == whole
    told = []
    monkeypatch.setattr(sensitivity, "BATCH", 2)
    parts = measure_sensitivity(model, ONNX, images, lambda *done: told.append(done))
    assert (parts.images, told) == (5, [(1, 3), (2, 3), (3, 3)])
    assert [effect.name for effect in parts.quantizers] == [effect.name for effect in whole.quantizers]
    losses = [[effect.loss_alone for effect in found.quantizers] for found in (parts, whole)]
    assert np.corrcoef(*losses)[0, 1] > 0.99


def test_a_form_that_takes_pixels_is_measured_as_it_runs():
    model = replace(small_model("mobilefacenet"), deployment=Deployment(image="uint8"))
    found = measure_sensitivity(model, ONNX, smooth_images(model.spec.input_size, seed=1))
    assert found.quantizers[0].name == "x"
    assert found.quantizers[0].loss_alone < 1e-9, "a pixel is its own code"


def test_the_model_is_left_alone():
    model = small_model("mobilefacenet")
    before = {key: tensor.clone() for key, tensor in model.network.state_dict().items()}
    measure_sensitivity(model, TORCH_X86, smooth_images(model.spec.input_size, count=1))
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.network.state_dict().items())
    assert not any(hasattr(module, "weight_fake_quant") for module in model.network.modules())


def test_embeddings_that_are_no_numbers_are_told():
    model = copy.deepcopy(small_model("mobilefacenet"))
    next(model.network.parameters()).data[0] = float("nan")
    with pytest.raises(MeasurementError, match="not finite"):
        measure_sensitivity(model, ONNX, smooth_images(model.spec.input_size, count=1))


def test_fewer_images_where_there_is_more_to_compute():
    small, large = (small_model(name) for name in ("mobilefacenet", "iresnet"))
    work = effort(small, ONNX)
    assert affordable_images(small, ONNX, 16, 5.5 * work) == 5
    assert affordable_images(small, ONNX, 4, 5.5 * work) == 4
    assert affordable_images(small, ONNX, 16, 0.5 * work) == 0
    assert effort(large, ONNX) != work
