"""A model below the floor is mended by what costs least; one above it is left alone."""

import pytest
import torch
from quantized import calibrated, small_model, smooth_images
from torch import nn

from qface_toolkit.methods import METHODS, Context
from qface_toolkit.methods._held_out import HeldOut
from qface_toolkit.methods._ranking import multiplied_shares
from qface_toolkit.quantize.scheme import Range
from qface_toolkit.quantize.target import ONNX

MEND = METHODS.get("mend")


def context(images):
    return Context(images, ONNX, 0, 16, lambda done, total: None)


def mended(model, images, **options):
    return MEND.run(model, MEND.options(**options), context(images))


@pytest.fixture
def damaged():
    """Give a model whose ranges are much too wide, and what it was calibrated on."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, stride=2), nn.PReLU(16), nn.Conv2d(16, 32, 3, stride=2), nn.PReLU(32)]
    network = nn.Sequential(*layers, nn.Conv2d(32, 64, 7, groups=32), nn.Flatten(), nn.Linear(64, 16)).eval()
    images = smooth_images((32, 32), 64)
    model = calibrated(network, (32, 32), images)
    wide = {owner: Range(interval.low * 60, interval.high * 60) for owner, interval in model.ranges.items()}
    return model.with_ranges({**wide, model.plan.owners()[0]: model.ranges[model.plan.owners()[0]]}), images


def test_a_model_above_the_floor_is_left_alone():
    model, images = small_model("mobilefacenet"), smooth_images((32, 32), 32)
    assert mended(model, images, cosine_mean=0.5) is model


def test_what_costs_no_time_comes_first(damaged):
    model, images = damaged
    held_out = HeldOut(model, context(images))
    assert held_out.cautious_cosine(model) < 0.97
    after = mended(model, images, cosine_mean=0.98)
    assert held_out.cautious_cosine(after) >= 0.98
    assert not after.plan.kept


def test_layers_in_float_are_the_last_resort_and_few(damaged):
    model, images = damaged
    shares = multiplied_shares(model)
    assert sum(shares.values()) == pytest.approx(1)
    few = mended(model, images, cosine_mean=0.999999, float_share=0.1)
    assert sum(shares[name] for name in few.plan.kept) <= 0.1
    many = mended(model, images, cosine_mean=0.999999, float_share=1.0)
    assert sum(shares[name] for name in many.plan.kept) > 0.1
