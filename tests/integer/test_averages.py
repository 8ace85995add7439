"""Global averages are often ties, and engines come to them in their own ways: simulated ones against the kernels."""

import numpy as np
import pytest
import torch

from qface_toolkit.integer.arithmetic import ARITHMETIC, Steps
from qface_toolkit.quantize.scheme import Grid
from qface_toolkit.quantize.simulation import torch_engine

SIZES = [(1, 1), (2, 3), (4, 4), (7, 7), (7, 6), (12, 20), (13, 20), (28, 28)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("zero_point", [0, 1, 93, 128])
@pytest.mark.parametrize("engine", ["x86", "onednn", "fbgemm", "qnnpack"])
def test_every_average_is_that_of_the_engine(engine, zero_point, size):
    draw = torch.Generator().manual_seed(zero_point)
    for scale in (0.0235294, 0.1, 0.0071):
        codes = torch.randint(0, 256, (8, 32, *size), generator=draw)
        grid = Steps.of(Grid(np.float32(scale), zero_point))
        values = grid.restored(codes.float()).contiguous(memory_format=torch.channels_last)
        with torch_engine(engine):
            held = torch.quantize_per_tensor(values, float(np.float32(scale)), zero_point, torch.quint8)
            expected = torch.nn.functional.adaptive_avg_pool2d(held, 1).int_repr().float()
        sums = (held.int_repr().float() - zero_point).sum(dim=(2, 3), keepdim=True)
        found = ARITHMETIC[engine].averaged(sums, size[0] * size[1], grid)
        assert (found != expected).sum() == 0
