"""Averages are where engines break ties differently: every code of a pool must be the one that the runtime computes."""

import numpy as np
import pytest
import torch
from quantized import calibrated, opened, smooth_images
from tiers import in_tiers
from torch import nn

from qface_toolkit.backends import BACKENDS
from qface_toolkit.result.lowered import Lowered

POOLS = {"windows": nn.AvgPool2d(2), "padded windows": nn.AvgPool2d(3, 2, 1), "global": nn.AdaptiveAvgPool2d(1)}


SIMULATED = ("onnx-x86", "onnx-arm", "torch-x86", "torch-onednn", "torch-qnnpack")


@pytest.mark.parametrize("backend", in_tiers(SIMULATED, fast=("onnx-x86", "torch-x86")))
@pytest.mark.parametrize("pool", POOLS)
def test_averages_are_as_simulated(pool, backend, tmp_path):
    """Images of few grey levels make many averages ties."""
    torch.manual_seed(0)
    last = nn.Linear(256 if pool == "global" else 256 * 49, 4)
    network = nn.Sequential(nn.Conv2d(3, 256, 1), POOLS[pool], nn.Flatten(), last).eval()
    images = np.sign(smooth_images((14, 14), count=8))
    model = calibrated(network, (14, 14), images)
    opened(backend, model, tmp_path)
    entry = BACKENDS.get(backend)
    found = Lowered(model, {}).differing_codes(entry, tmp_path / entry.artifact, images)
    assert not [one for one in found if one.differing], found
