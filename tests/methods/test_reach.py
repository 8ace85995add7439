"""Ranges go beyond what was seen where little was seen, and nowhere else; never inside it."""

import numpy as np
import pytest
import torch
from quantized import calibrated, cosines, run, small_model, smooth_images
from torch import nn

from qface_toolkit.analysis.statistics import LEVELS, Statistics
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.methods import calibrate as method
from qface_toolkit.methods._reach import WIDER, _Cost, reaching
from qface_toolkit.quantize.scheme import Range
from qface_toolkit.quantize.target import ONNX

OPEN = (-np.inf, np.inf)


def cheapest(pixels, sensitivity=1.0, values=None, steps=255, held=None):
    values = torch.linspace(-1, 2, len(LEVELS)).expand(4, -1) if values is None else values
    held = Range(float(values.min()), float(values.max())) if held is None else held
    cost = _Cost(steps, held, OPEN)
    cost.add(values, torch.full((len(values),), sensitivity), pixels)
    return cost.best()


def test_a_single_pixel_goes_far_and_many_pixels_stay():
    far, near = cheapest(1), cheapest(56 * 56)
    assert near == Range(-1.0, 2.0)
    assert far.low < -1.2 and far.high > 2.4
    assert far.high <= 2.0 * max(WIDER)


def test_the_fewer_pixels_the_further():
    ends = [cheapest(pixels).high for pixels in (1, 4, 49, 784)]
    assert ends == sorted(ends, reverse=True) and len(set(ends)) > 2


def test_coarse_grids_go_less_far():
    assert cheapest(1, steps=15).high < cheapest(1, steps=255).high


def test_what_an_observer_clips_of_many_pixels_stays_clipped():
    cut = Range(-0.7, 1.4)
    assert cheapest(112 * 112, held=cut) == cut
    assert cheapest(1, held=cut).high > 1.4


def test_a_dead_tensor_keeps_its_range():
    assert cheapest(1, values=torch.zeros(4, len(LEVELS))) == Range(0.0, 0.0)


def test_clamps_and_known_ranges_stay():
    model = small_model("mobilefacenet-relu6")
    for owner, limits in model.plan.clamps.items():
        assert model.ranges[owner].high <= limits[1]
    assert model.ranges[model.plan.owners()[0]].low >= -1.01


@pytest.mark.slow
def test_images_that_reach_further_lose_less(monkeypatch):
    """Some images come with twice the contrast of those that were seen."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, stride=2), nn.PReLU(16), nn.Conv2d(16, 64, 7, groups=16), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(64, 32)).eval()
    seen, far = smooth_images((16, 16), 64), 1.5 * smooth_images((16, 16), 64, seed=9)
    expected = run(network, far)

    def lost():
        return float((1 - cosines(embed_as_integers(calibrated(network, (16, 16), seen), ONNX, far), expected)).mean())

    wide = lost()
    monkeypatch.setattr(method, "reaching", lambda model, seen, target: model.ranges)
    assert wide < 0.7 * lost()


def test_tensors_without_statistics_keep_their_ranges():
    model = small_model("mobilefacenet")
    assert reaching(model, Statistics({}, {}, {}), ONNX) == dict(model.ranges)
