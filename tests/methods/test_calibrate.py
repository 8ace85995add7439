"""Ranges from images: where they come from, what clamps them, and what cannot be calibrated on."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quantized import calibrate, calibrated, cosines, run, small_network, smooth_images
from tiers import in_tiers
from torch import nn

from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.errors import CalibrationError
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.methods import METHODS, Context
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.image_input import input_range
from qface_toolkit.quantize.model import new_model
from qface_toolkit.quantize.target import ONNX

SPEC = ModelSpec("test", (8, 8), 8)


def tiny():
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 8)).eval()


def test_min_max_ranges_are_what_the_float_network_does_where_pixels_are_many():
    network, images = tiny(), smooth_images((64, 64))
    model = calibrated(network, (64, 64), images, observer="minmax")
    maps = run(network[0], images)
    chosen = model.range_of(model.plan.owners()[1], ONNX)
    assert (chosen.low, chosen.high) == pytest.approx((min(maps.min(), 0), max(maps.max(), 0)))


def test_the_input_needs_no_images():
    model = calibrated(tiny(), (8, 8), np.zeros((1, 3, 8, 8), np.float32))
    assert model.range_of(model.plan.owners()[0], ONNX) == input_range(model.spec)


def test_ranges_do_not_depend_on_the_order_or_on_earlier_ranges():
    network, images = tiny(), smooth_images((8, 8), count=5)
    first = calibrated(network, (8, 8), images, observer="minmax")
    again = calibrate(first, images, observer="minmax")
    one_by_one = calibrated(network, (8, 8), images[::-1].copy(), observer="minmax")
    assert first.ranges == again.ranges
    assert first is not again
    for owner, interval in first.ranges.items():
        other = one_by_one.ranges[owner]
        assert (interval.low, interval.high) == pytest.approx((other.low, other.high), rel=1e-5)


def test_ranges_behind_relu6_end_at_six():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 8))
    network[0].weight.data.mul_(100)
    model = calibrated(network.eval(), (8, 8), observer="minmax")
    chosen = model.range_of(model.plan.owners()[1], ONNX)
    assert (chosen.low, chosen.high) == (0.0, 6.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_that_are_not_finite_are_refused(value):
    images = smooth_images((8, 8))
    images[2, 1, 3, 4] = value
    with pytest.raises(CalibrationError, match="infinite or not a number"):
        calibrate(calibrated(tiny(), (8, 8)), images)


def test_an_overflow_inside_the_network_is_refused():
    network = tiny()
    network[0].weight.data.fill_(3e38)
    with pytest.raises(CalibrationError, match="infinite or not a number"):
        calibrated(network, (8, 8), np.ones((1, 3, 8, 8), np.float32))


@pytest.mark.parametrize("observer", in_tiers(("minmax", "mse"), fast=["minmax"]))
def test_both_observers_give_a_usable_model(observer):
    network, size = small_network("mobilefacenet")
    images = smooth_images(size, count=8)
    agreement = cosines(
        embed_as_integers(calibrated(network, size, images, observer=observer), ONNX, images), run(network, images)
    )
    assert agreement.mean() > 0.99, f"mean cosine {agreement.mean():.5f} with {observer}"


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_conforms(name):
    method = METHODS.get(name)
    options = method.options()
    assert method.options(**options.model_dump()) == options
    with pytest.raises(ValueError, match="no_such_option"):
        method.options(no_such_option=1)
    assert method.run.__doc__, "a method says what it returns and raises"


@given(st.integers(1, 6), st.integers(1, 6))
@settings(max_examples=10, deadline=None)
def test_progress_ends_at_the_whole(count, batch_size):
    calls, method, model = [], METHODS.get("calibrate"), new_model(canonicalise(tiny(), (8, 8)), SPEC)
    context = Context(
        smooth_images((8, 8), count), ONNX, 0, batch_size, lambda done, total: calls.append((done, total))
    )
    method.run(model, method.options(observer="mse"), context)
    assert calls[-1] == (2 * count, 2 * count)
    assert all(done <= total for done, total in calls)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_the_float_network_stays_as_it_was():
    network, size = small_network("iresnet")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    model = calibrated(network, size)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    weights = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    calibrate(model, smooth_images(size))
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.network.state_dict().items())
