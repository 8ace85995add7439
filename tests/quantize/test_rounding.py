"""The rounding that training goes through: torch's own, and the gradient of its range by differences."""

import math

import pytest
import torch

from qface_toolkit.quantize.quantizers import Rounding

SCALE, ZERO_POINT, LARGEST = 0.02, 100, 255


def values():
    return torch.randn(4000, generator=torch.Generator().manual_seed(0)) * 2


@pytest.mark.parametrize("largest", [255, 127])
def test_it_is_what_torch_computes(largest):
    expected = torch.fake_quantize_per_tensor_affine(values(), SCALE, ZERO_POINT, 0, largest)
    found = Rounding.apply(values(), torch.zeros(1), SCALE, ZERO_POINT, largest)
    assert float((found - expected).abs().max()) < 1e-6


def test_a_grown_range_is_a_wider_one():
    growth = torch.tensor([0.3])
    expected = torch.fake_quantize_per_tensor_affine(values(), SCALE * math.exp(0.3), ZERO_POINT, 0, 255)
    assert float((Rounding.apply(values(), growth, SCALE, ZERO_POINT, LARGEST) - expected).abs().max()) < 1e-5


def test_the_gradient_of_the_growth_is_that_of_the_loss():
    """The slope of the squared error over a step wide enough for many values to change their code."""
    x = values()

    def loss(growth):
        return (Rounding.apply(x, growth, SCALE, ZERO_POINT, LARGEST) - x).pow(2).mean()

    growth = torch.zeros(1, requires_grad=True)
    loss(growth).backward()
    step = 0.05
    slope = float(loss(torch.tensor([step])) - loss(torch.tensor([-step]))) / (2 * step)
    assert slope < 0, "values are clipped, so the range wants to grow"
    assert float(growth.grad) == pytest.approx(slope, rel=0.1)


def test_clipped_values_pass_no_gradient():
    x = torch.tensor([-5.0, 0.3, 5.0], requires_grad=True)
    Rounding.apply(x, torch.zeros(1), SCALE, ZERO_POINT, LARGEST).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 0.0]
