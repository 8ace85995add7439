"""Networks lie in memory as convolutions want them, whatever constants their islands have."""

import torch
from quantized import run, smooth_images, trained
from torch import nn

from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.quantize.memory import channels_last


def test_constants_of_five_axes_stay_as_they_are():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Flatten(), nn.Linear(8 * 14 * 14, 8))
    canonical, images = canonicalise(trained(network), (16, 16)), smooth_images((16, 16), 2)
    expected = run(canonical, images)
    assert any(buffer.dim() == 5 for buffer in canonical.buffers())
    channels_last(canonical)
    weight = next(parameter for parameter in canonical.parameters() if parameter.dim() == 4)
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert abs(run(canonical, images) - expected).max() < 1e-5
