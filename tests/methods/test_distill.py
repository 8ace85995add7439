"""Distillation trains weights against the float network; slopes on a target's grid and the input's range stay."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from quantized import calibrated, cosines, run, small_model, smooth_images, trained
from torch import nn

from qface_toolkit.analysis.removable import find_removable, narrowed
from qface_toolkit.canonical.graph import inputs
from qface_toolkit.datasets import MemoryData
from qface_toolkit.errors import CalibrationError
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.methods import METHODS, Context, Crops, Reference, Shelf
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.scheme import Range
from qface_toolkit.quantize.target import ONNX, TORCH_X86
from qface_toolkit.training.likeness import find_likeness

SIZE = (16, 16)
DISTILL = METHODS.get("distill")
SPEC = ModelSpec("test", SIZE, 12)


def smooth_crops(count, seed):
    """Crops without sharp edges, uint8 [count, 112, 112, 3]."""
    pixels = smooth_images((112, 112), count, seed).transpose(0, 2, 3, 1)
    spread = 255 * (pixels - pixels.min()) / (pixels.max() - pixels.min())
    return np.rint(spread).astype(np.uint8)


def context(target, crops, told=lambda done, total: None, seed=0, model=None, shelf=None, batch=4):
    """What a step is given; `model` is the one as it came, in the place of the step's own."""
    services = [Crops(MemoryData(crops, "crops"))]
    services += [Reference(model.embed, model.network)] if model is not None else []
    services += [Shelf(shelf)] if shelf is not None else []
    return Context(SPEC.preprocess(crops), target, seed, batch, told, tuple(services))


@pytest.fixture(scope="module")
def model():
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.PReLU(6), nn.Conv2d(6, 8, 3, stride=2), nn.PReLU(8)]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 49, 12))
    torch.manual_seed(0)
    for prelu in (layers[1], layers[3]):
        nn.init.uniform_(prelu.weight, -0.9, 0.9)
    model = calibrated(network, SIZE, SPEC.preprocess(smooth_crops(16, 0)))
    # Ranges that clip much leave something to learn.
    clipping = {owner: Range(interval.low / 4, interval.high / 4) for owner, interval in model.ranges.items()}
    return model.with_ranges(clipping)


@pytest.fixture(scope="module")
def crops():
    return smooth_crops(16, 1)


@pytest.fixture(scope="module")
def images(crops):
    return SPEC.preprocess(crops)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.network.state_dict().items()}


def rate(learning_rate):
    return {"name": "adamw", "learning_rate": learning_rate, "weight_decay": 0.0}


def distilled(model, crops, target=ONNX, **options):
    options = {"epochs": 12, "optimizer": rate(1e-3), **options}
    return DISTILL.run(model, DISTILL.options(**options), context(target, crops))


def test_weights_move_and_ranges_stay(model, crops):
    before = weights(model)
    after = distilled(model, crops)
    assert after.ranges == model.ranges
    assert all(torch.equal(tensor, model.network.state_dict()[name]) for name, tensor in before.items())
    assert any(not torch.equal(tensor, before[name]) for name, tensor in weights(after).items())


def test_the_teacher_is_the_model_as_it_came(model, crops, images):
    """Steps before may have moved the weights; what they lost is to be won back."""
    moved = copy.deepcopy(model.network)
    with torch.no_grad():
        moved.get_submodule("5").bias += 1.0
    expected = model.embed(images)
    start = replace(model, network=moved)
    after = DISTILL.run(start, DISTILL.options(epochs=12, optimizer=rate(1e-2)), context(ONNX, crops, model=model))
    before, now = (cosines(embed_as_integers(one, ONNX, images), expected).mean() for one in (start, after))
    assert now > before + 0.5 * (1 - before), f"mean cosine {before:.5f} before, {now:.5f} after"


def test_training_ends_when_nothing_gets_better(model, crops):
    told = []
    options = DISTILL.options(epochs=50, optimizer={**rate(0.9), "schedule": "constant"}, patience=2)
    DISTILL.run(model, options, context(ONNX, crops, lambda *done: told.append(done)))
    assert len(told) < 120 and told[-1][0] == told[-1][1] == 150


def test_slopes_stay_float_when_the_target_rounds_them(model, crops):
    after = weights(distilled(model, crops, TORCH_X86))
    slopes = [name for name, module in model.network.named_modules() if isinstance(module, nn.PReLU)]
    assert slopes
    for name in slopes:
        assert torch.equal(after[f"{name}.weight"], model.network.state_dict()[f"{name}.weight"])


def test_same_seed_gives_the_same_weights(model, crops):
    first, second = (weights(distilled(model, crops)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_progress_ends_at_its_total(model, crops):
    told = []
    DISTILL.run(model, DISTILL.options(epochs=2), context(ONNX, crops, lambda *done: told.append(done)))
    assert told[-1][0] == told[-1][1]


def test_needs_an_image_to_hold_out(model, crops):
    with pytest.raises(CalibrationError, match="too few"):
        DISTILL.run(model, DISTILL.options(), context(ONNX, crops[:1]))


def test_fewer_images_than_a_batch_are_a_batch(model, crops):
    few = context(ONNX, crops[:9], batch=32)
    after = DISTILL.run(model, DISTILL.options(epochs=4, optimizer=rate(1e-3)), few)
    assert any(not torch.equal(tensor, model.network.state_dict()[name]) for name, tensor in weights(after).items())


def test_weights_that_get_no_better_stay(model, crops):
    """A rate that ruins the network leaves it as it was: what is best is kept, the beginning among it."""
    after = distilled(model, crops, epochs=2, optimizer={**rate(0.9), "schedule": "constant"})
    assert all(torch.equal(tensor, model.network.state_dict()[name]) for name, tensor in weights(after).items())


def narrower(model):
    """A model without some channels, before ranges are set, and which ones those were."""
    removable = find_removable(model.network, SIZE)
    gone = [one for space in removable.spaces() for one in space.classes[1::3]]
    return replace(model, network=narrowed(model.network, removable, gone), ranges={}), removable.stays(gone)


@pytest.mark.parametrize("hints", [0.0, 1.0])
def test_a_narrowed_float_network_learns(model, crops, images, hints):
    small, _ = narrower(model)
    options = DISTILL.options(epochs=30, optimizer=rate(3e-3), loss={"hints": hints})
    after = DISTILL.run(small, options, context(ONNX, crops, model=model))
    before, now = (cosines(one.embed(images), model.embed(images)).mean() for one in (small, after))
    assert now > before + 0.3 * (1 - before), f"mean cosine {before:.5f} before, {now:.5f} after"
    assert not after.ranges and not after.network.training
    assert [type(one) for one in after.network.children()] == [type(one) for one in small.network.children()]


def test_a_narrowed_networks_channels_are_found_in_the_whole_ones(model, images):
    small, stays = narrower(model)
    found = find_likeness(small.network, model.network, torch.from_numpy(images))
    assert len(found.paths) == 1  # one layer reads pixels that another one made
    nodes = {str(node.target): node for node in small.network.graph.nodes if node.op == "call_module"}
    for path, channels in zip(found.paths, found.channels, strict=True):
        assert torch.equal(channels, stays[inputs(nodes[path])[0].name].nonzero().squeeze(1))


class Killed(Exception):
    pass


class Notes:
    """Keeps states in memory; the process is killed after some of them."""

    def __init__(self, states):
        self.states, self.last = states, None

    def load(self):
        return None if self.last is None else (self.last, "memory")

    def save(self, step, state):
        self.last = state
        self.states -= 1
        if self.states == 0:
            raise Killed

    def snapshot(self, epoch, network):
        return ""

    def kept(self):
        return ""


@pytest.mark.parametrize("ranged", [True, False])
def test_a_training_goes_on_where_it_was(model, crops, ranged):
    start = model if ranged else narrower(model)[0]
    options, notes = DISTILL.options(epochs=6, optimizer=rate(1e-3), loss={"hints": 1.0}), Notes(3)
    straight = DISTILL.run(start, options, context(ONNX, crops, model=model))
    with pytest.raises(Killed):
        DISTILL.run(start, options, context(ONNX, crops, model=model, shelf=notes))
    resumed = DISTILL.run(start, options, context(ONNX, crops, model=model, shelf=notes))
    assert all(torch.equal(value, weights(straight)[name]) for name, value in weights(resumed).items())


def test_nothing_in_a_network_depends_on_the_batch():
    model = small_model("iresnet")
    kinds = {type(module) for module in model.network.modules()}
    assert not kinds & {nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout}, kinds
    assert np.isfinite([interval.high for interval in model.ranges.values()]).all()


def test_a_network_with_gates_and_a_unit_length_embedding_is_distilled(crops, images):
    network = trained(Gated())
    model = calibrated(network, SIZE, images)
    clipping = {
        owner: interval if owner in model.plan.fixed else Range(interval.low / 4, interval.high / 4)
        for owner, interval in model.ranges.items()
    }
    model = model.with_ranges(clipping)
    after, expected = distilled(model, crops), run(network, images)
    before, now = (cosines(embed_as_integers(one, ONNX, images), expected).mean() for one in (model, after))
    assert now > before, f"mean cosine {before:.5f} before, {now:.5f} after"
    assert all(after.ranges[owner] == Range(0.0, 1.0) for owner in model.plan.fixed)


class Gated(nn.Module):
    """A SiLU, a hard-swish, an excitation and a normalised embedding."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.gate = nn.Conv2d(3, 6, 3, 2), nn.Conv2d(6, 8, 3), nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(200, 12)

    def forward(self, x):
        x = nn.functional.hardswish(self.second(nn.functional.silu(self.first(x))))
        x = x * self.gate(nn.functional.adaptive_avg_pool2d(x, 1)).sigmoid()
        return nn.functional.normalize(self.fc(x.flatten(1)))
