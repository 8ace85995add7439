"""The formulas by hand: scales, zero points, codes and the guard against biases that no int32 holds."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qface_toolkit.quantize.scheme import (
    SMALLEST_SCALE,
    Range,
    activation_qparams,
    bias_codes,
    scales_that_hold_bias,
    weight_codes,
    weight_scales,
)


def test_scale_and_zero_point_by_hand():
    scale, zero_point = activation_qparams(Range(-1.0, 1.55))
    assert scale == pytest.approx(0.01)
    assert zero_point == 100
    assert activation_qparams(Range(0.0, 127.0), levels=127) == (1.0, 0)


def test_a_range_of_nothing_has_a_scale():
    assert activation_qparams(Range(0.0, 0.0)) == (SMALLEST_SCALE, 0)


@pytest.mark.parametrize("bounds", [(0.5, 1.0), (-1.0, -0.5), (float("nan"), 1.0), (0.0, float("inf"))])
def test_a_range_is_finite_and_holds_zero(bounds):
    with pytest.raises(ValueError, match="finite and hold zero"):
        Range(*bounds)


@given(st.floats(0, 1e6), st.floats(1e-6, 1e6))
def test_zero_has_a_code_and_the_ends_are_near(below, above):
    scale, zero_point = activation_qparams(Range(-below, above))
    assert 0 <= zero_point <= 255
    assert abs((0 - zero_point) * scale + below) <= scale * 0.501
    assert abs((255 - zero_point) * scale - above) <= scale * 0.501


def test_weight_codes_by_hand():
    weight = np.array([[1.27, -0.64], [0.0, 0.0]], np.float32)
    scales = weight_scales(weight)
    assert scales == pytest.approx([0.01, SMALLEST_SCALE])
    assert weight_codes(weight, scales).tolist() == [[127, -64], [0, 0]]


def test_weight_codes_are_those_of_torch():
    weight = torch.randn(16, 300)
    scales = weight_scales(weight.numpy())
    quantized = torch.quantize_per_channel(weight, torch.from_numpy(scales), torch.zeros(16), 0, torch.qint8)
    assert np.array_equal(weight_codes(weight.numpy(), scales), quantized.int_repr().numpy())


def test_a_large_bias_raises_a_tiny_scale_and_no_other():
    scales = scales_that_hold_bias(np.float32([1e-12, 1e-2]), np.float32([-3.0, 3.0]), np.float32(0.1))
    assert scales[1] == np.float32(1e-2)
    codes = bias_codes(np.float32([-3.0, 3.0]), scales * np.float32(0.1))
    assert codes.tolist() == [pytest.approx(-(2**30), rel=1e-5), 3000]
