"""Global averages are often ties, and engines come to them in their own ways: simulated ones against the kernels."""

import functools
import math

import numpy as np
import pytest
import torch
from tiers import in_tiers

from qface_toolkit.integer.arithmetic import ARITHMETIC, Steps, Windows
from qface_toolkit.quantize.scheme import Grid
from qface_toolkit.quantize.simulation import torch_engine

pytestmark = pytest.mark.filterwarnings("ignore:.*quantized tensor creation:UserWarning")
SIZES = [(1, 1), (2, 3), (4, 4), (7, 7), (7, 6), (12, 20), (13, 20), (28, 28)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("zero_point", [0, 1, 93, 128])
@pytest.mark.parametrize("engine", ["x86", "onednn", "fbgemm", "qnnpack"])
@pytest.mark.parametrize("channels", in_tiers((5, 24, 32), fast=[5]))
def test_every_average_is_that_of_the_engine(channels, engine, zero_point, size):
    draw = torch.Generator().manual_seed(zero_point)
    for scale in (0.0235294, 0.1, 0.0071):
        codes = torch.randint(0, 256, (8, channels, *size), generator=draw)
        grid = Steps.of(Grid(np.float32(scale), zero_point))
        values = grid.restored(codes.float()).contiguous(memory_format=torch.channels_last)
        with torch_engine(engine):
            held = torch.quantize_per_tensor(values, float(np.float32(scale)), zero_point, torch.quint8)
            expected = torch.nn.functional.adaptive_avg_pool2d(held, 1).int_repr().float()
        sums = (held.int_repr().float() - zero_point).sum(dim=(2, 3), keepdim=True)
        found = ARITHMETIC[engine].averaged(sums, size[0] * size[1], grid)
        assert (found != expected).sum() == 0


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        ((2, 2), 2, 0),
        ((3, 3), 2, 1),
        ((2, 3), 1, 0),
        ((3, 2), 1, 1),
        ((6, 6), 2, 0),
        ((7, 6), 3, 0),
        ((12, 20), 1, 0),
    ],
)
@pytest.mark.parametrize("zero_point", [0, 1, 93, 128])
@pytest.mark.parametrize("engine", ["x86", "onednn", "fbgemm", "qnnpack"])
@pytest.mark.parametrize("channels", in_tiers((5, 24, 32), fast=[5]))
def test_every_average_of_a_window_is_that_of_the_engine(channels, engine, zero_point, kernel, stride, padding):
    draw = torch.Generator().manual_seed(zero_point)
    pool = functools.partial(torch.nn.functional.avg_pool2d, kernel_size=kernel, stride=stride, padding=padding)
    for scale in (0.0235294, 0.1, 0.0071):
        grid = Steps.of(Grid(np.float32(scale), zero_point))
        values = grid.restored(torch.randint(0, 256, (2, channels, 24, 24), generator=draw).float())
        with torch_engine(engine):
            held = torch.quantize_per_tensor(
                values.contiguous(memory_format=torch.channels_last), float(np.float32(scale)), zero_point, torch.quint8
            )
            expected = pool(held).int_repr().float()
        windows = Windows(pool, functools.partial(pool, divisor_override=1), math.prod(kernel))
        found = ARITHMETIC[engine].pooled(windows, held.int_repr().float() - zero_point, grid)
        assert (found != expected).sum() == 0
