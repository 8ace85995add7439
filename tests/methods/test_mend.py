"""A model below the floor is mended by what costs least; one above it is left alone."""

import pytest
import torch
from quantized import calibrated, small_model, smooth_images
from torch import nn

from qface_toolkit.analysis.sensitivity import measure_sensitivity
from qface_toolkit.methods import METHODS, Context
from qface_toolkit.methods._held_out import HeldOut
from qface_toolkit.methods._ranking import multiplied_shares, ranked_layers
from qface_toolkit.quantize.scheme import Range
from qface_toolkit.quantize.target import ONNX

MEND, MIXED = METHODS.get("mend"), METHODS.get("mixed")


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


def test_a_little_more_than_the_floor_is_wanted(damaged, monkeypatch):
    model, images = damaged
    asked = []
    monkeypatch.setattr(HeldOut, "cautious_cosine", lambda self, model: 0.981)
    monkeypatch.setattr(type(MIXED), "run", lambda self, model, options, context: asked.append(options) or model)
    mended(model, images, cosine_mean=0.98)
    assert asked[0].cosine_mean == pytest.approx(0.982)
    mended(model, images, cosine_mean=0.978)
    assert len(asked) == 1


def test_layers_too_large_for_the_share_count_for_nothing(damaged):
    """What is left out is no layer in float for those that are ranked after it."""
    model, images = damaged
    found, shares = measure_sensitivity(model, ONNX, images[:8]), multiplied_shares(model)
    ranked = [*ranked_layers(model, found, 0.2)]
    assert 0 < sum(shares[name] for group in ranked for name in group) <= 0.2
    assert all(group for group in ranked)
    assert {name for group in ranked_layers(model, found) for name in group} == {*shares}


def test_layers_in_float_are_the_last_resort_and_few(damaged):
    model, images = damaged
    shares = multiplied_shares(model)
    assert sum(shares.values()) == pytest.approx(1)
    few = mended(model, images, cosine_mean=0.999999, float_share=0.1)
    assert sum(shares[name] for name in few.plan.kept) <= 0.1
    many = mended(model, images, cosine_mean=0.999999, float_share=1.0)
    assert sum(shares[name] for name in many.plan.kept) > 0.1
