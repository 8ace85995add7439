"""Distillation trains weights against the float network; slopes on a target's grid and the input's range stay."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from quantized import calibrated, cosines, run, small_model, smooth_images, trained
from torch import nn

from qface_toolkit.errors import CalibrationError
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.methods import METHODS, Context, Reference
from qface_toolkit.quantize.scheme import Range
from qface_toolkit.quantize.target import ONNX, TORCH_X86

SIZE = (16, 16)
DISTILL = METHODS.get("distill")


def context(target, images, told=lambda done, total: None, seed=0):
    return Context(images, target, seed, 4, told)


@pytest.fixture(scope="module")
def model():
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.PReLU(6), nn.Conv2d(6, 8, 3, stride=2), nn.PReLU(8)]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 49, 12))
    torch.manual_seed(0)
    for prelu in (layers[1], layers[3]):
        nn.init.uniform_(prelu.weight, -0.9, 0.9)
    model = calibrated(network, SIZE, smooth_images(SIZE, 16))
    # Ranges that clip much leave something to learn.
    clipping = {owner: Range(interval.low / 4, interval.high / 4) for owner, interval in model.ranges.items()}
    return model.with_ranges(clipping)


@pytest.fixture(scope="module")
def images():
    return smooth_images(SIZE, 16, seed=1)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.network.state_dict().items()}


def distilled(model, images, target=ONNX, **options):
    options = {"epochs": 12, "learning_rate": 1e-3, **options}
    return DISTILL.run(model, DISTILL.options(**options), context(target, images))


def test_weights_move_and_ranges_stay(model, images):
    before = weights(model)
    after = distilled(model, images)
    assert after.ranges == model.ranges
    assert all(torch.equal(tensor, model.network.state_dict()[name]) for name, tensor in before.items())
    assert any(not torch.equal(tensor, before[name]) for name, tensor in weights(after).items())


def test_the_teacher_is_the_model_as_it_came(model, images):
    """Steps before may have moved the weights; what they lost is to be won back."""
    moved = copy.deepcopy(model.network)
    with torch.no_grad():
        moved.get_submodule("5").bias += 1.0
    expected = model.embed(images)
    given = Context(images, ONNX, 0, 4, lambda done, total: None, (Reference(model.embed),))
    start = replace(model, network=moved)
    after = DISTILL.run(start, DISTILL.options(epochs=12, learning_rate=1e-2), given)
    before, now = (cosines(embed_as_integers(one, ONNX, images), expected).mean() for one in (start, after))
    assert now > before + 0.5 * (1 - before), f"mean cosine {before:.5f} before, {now:.5f} after"


def test_training_ends_when_nothing_gets_better(model, images):
    told = []
    options = DISTILL.options(epochs=50, learning_rate=1e-9, patience=2)
    DISTILL.run(model, options, context(ONNX, images, lambda *done: told.append(done)))
    assert len(told) < 50


def test_slopes_stay_float_when_the_target_rounds_them(model, images):
    after = weights(distilled(model, images, TORCH_X86))
    slopes = [name for name, module in model.network.named_modules() if isinstance(module, nn.PReLU)]
    assert slopes
    for name in slopes:
        assert torch.equal(after[f"{name}.weight"], model.network.state_dict()[f"{name}.weight"])


def test_same_seed_gives_the_same_weights(model, images):
    first, second = (weights(distilled(model, images)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_progress_ends_at_its_total(model, images):
    told = []
    DISTILL.run(model, DISTILL.options(epochs=2), context(ONNX, images, lambda *done: told.append(done)))
    assert told[-1][0] == told[-1][1]


def test_needs_an_image_to_hold_out(model, images):
    with pytest.raises(CalibrationError, match="too few"):
        DISTILL.run(model, DISTILL.options(), context(ONNX, images[:1]))


def test_nothing_in_a_network_depends_on_the_batch():
    model = small_model("iresnet")
    kinds = {type(module) for module in model.network.modules()}
    assert not kinds & {nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout}, kinds
    assert np.isfinite([interval.high for interval in model.ranges.values()]).all()


def test_a_network_with_gates_and_a_unit_length_embedding_is_distilled(images):
    network = trained(Gated())
    model = calibrated(network, SIZE, images)
    clipping = {
        owner: interval if owner in model.plan.fixed else Range(interval.low / 4, interval.high / 4)
        for owner, interval in model.ranges.items()
    }
    model = model.with_ranges(clipping)
    after, expected = distilled(model, images), run(network, images)
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
