"""How far down the input of a PReLU is held: as far as its output feels what lies there."""

import numpy as np
import pytest
import torch
from quantized import calibrated, smooth_images
from torch import nn

from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.methods import _felt
from qface_toolkit.methods._felt import CAUTION, felt_inputs
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.model import new_model
from qface_toolkit.quantize.scheme import Range, rounding_noise

SIZE = (12, 12)


class Net(nn.Module):
    """A PReLU behind a convolution whose output another layer may read as well."""

    def __init__(self, slope, both=False):
        super().__init__()
        self.conv, self.prelu, self.both = nn.Conv2d(3, 8, 3), nn.PReLU(8, init=slope), both
        self.last, self.beside = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(800, 6)

    def forward(self, x):
        z = self.conv(x)
        y = self.last(self.prelu(z))
        return self.fc(torch.flatten(y + self.beside(z) if self.both else y, 1))


def ranged(slope, both=False):
    """Return a model whose ranges are all that was seen, and the images."""
    torch.manual_seed(0)
    network, images = Net(slope, both).eval(), smooth_images(SIZE, count=6)
    model = new_model(canonicalise(network, SIZE), ModelSpec("test", SIZE, 6))
    model = model.with_ranges({owner: Range(-4.0, 4.0) for owner in model.plan.owners()})
    with torch.no_grad():
        z = network.conv(torch.from_numpy(images))
        y = network.prelu(z)
    ends = {"conv": z, "prelu": y}
    own = {name: Range(min(0.0, float(one.min())), float(one.max())) for name, one in ends.items()}
    return model.with_ranges({**model.ranges, **own}), images, z.numpy(), y.numpy()


def noise(z, slope, low, high):
    """Return the mean squared error of a PReLU's output whose input is clipped, and rounded beside it on one grid."""
    return CAUTION * clipped(z, slope, low) + rounding_noise(Range(low, high))


def clipped(z, slope, low):
    return np.where(z < low, (slope * (low - z)) ** 2, 0.0).mean()


@pytest.mark.parametrize("slope", [0.05, 0.25, -0.2])
def test_the_end_is_where_rounding_and_clipping_err_least(slope):
    model, images, z, y = ranged(slope)
    found = felt_inputs(model, images)["prelu"]
    high = max(z.max(), y.max())
    ends = np.linspace(z.min(), min(0, y.min()), 400)
    best = min(noise(z, slope, low, high) for low in ends)
    assert z.min() < found.range.low <= min(0, y.min()) + 1e-9, "less than everything is held"
    assert found.range.high == model.ranges["conv"].high
    assert noise(z, slope, found.range.low, high) < 1.02 * best
    assert found.clipped == pytest.approx(clipped(z, slope, found.range.low), rel=0.1, abs=1e-9)


def test_what_is_felt_in_full_is_held_in_full():
    model, images, *_ = ranged(1.0)
    assert felt_inputs(model, images) == {}, "the output reaches as far down"


def test_a_tensor_that_others_read_keeps_its_range():
    model, images, *_ = ranged(0.25, both=True)
    assert felt_inputs(model, images) == {}


def test_batches_change_nothing(monkeypatch):
    model, images, *_ = ranged(0.25)
    together = felt_inputs(model, images)["prelu"].range.low
    monkeypatch.setattr(_felt, "AT_ONCE", 1)
    assert felt_inputs(model, images)["prelu"].range.low == together


def test_calibration_holds_the_input_so():
    torch.manual_seed(0)
    network, images = Net(0.1).eval(), smooth_images(SIZE, count=6)
    model = calibrated(network, SIZE, images, observer="minmax")
    with torch.no_grad():
        z = network.conv(torch.from_numpy(images))
    low = model.ranges[model.plan.tensors["conv"].owner].low
    assert float(z.min()) < 0.8 * low < 0
