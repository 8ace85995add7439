"""No pixel may lie in the middle between two codes: engines break such ties differently."""

import numpy as np
import pytest
import torch
from quantized import calibrated
from torch import nn

from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.image_input import input_range
from qface_toolkit.quantize.scheme import activation_qparams

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


@pytest.mark.parametrize(
    ("mean", "std"),
    [((127.5,) * 3, (127.5,) * 3), ((127.5,) * 3, (128.0,) * 3), ((0.0,) * 3, (255.0,) * 3), ((0.0,) * 3, (1.0,) * 3)]
    + [IMAGENET],
)
def test_no_ties_and_little_loss(mean, std):
    spec = ModelSpec("test", (112, 112), 8, mean=mean, std=std)
    chosen = input_range(spec)
    pixels = (np.arange(256)[:, None] - np.asarray(mean)) / np.asarray(std)
    scale, zero_point = (float(value) for value in activation_qparams(chosen))
    steps = pixels / scale
    assert np.abs(steps - np.floor(steps) - 0.5).min() > 0.0005
    restored = (np.clip(np.rint(steps) + zero_point, 0, 255) - zero_point) * scale
    assert np.abs(restored - pixels).max() <= scale * 0.5
    assert scale <= 1.1 * (pixels.max() - min(pixels.min(), 0)) / 255


class AddedToItself(nn.Module):
    """The image feeds an addition, whose ranges are widened until it is exact."""

    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 3, 1), nn.Linear(3 * 64, 4)

    def forward(self, x):
        return self.out(torch.flatten(x + self.conv(x), 1))


def test_an_addition_leaves_the_range_of_the_image_as_it_is():
    torch.manual_seed(0)
    model = calibrated(AddedToItself().eval(), (8, 8))
    assert model.ranges[model.plan.owners()[0]] == input_range(model.spec)
