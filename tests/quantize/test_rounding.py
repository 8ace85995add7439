"""The rounding that training goes through: torch's own."""

import pytest
import torch

from qface_toolkit.quantize.quantizers import Rounding

SCALE, ZERO_POINT, LARGEST = 0.02, 100, 255


def values():
    return torch.randn(4000, generator=torch.Generator().manual_seed(0)) * 2


@pytest.mark.parametrize("largest", [255, 127])
def test_it_is_what_torch_computes(largest):
    expected = torch.fake_quantize_per_tensor_affine(values(), SCALE, ZERO_POINT, 0, largest)
    found = Rounding.apply(values(), SCALE, ZERO_POINT, largest)
    assert float((found - expected).abs().max()) < 1e-6


def test_clipped_values_pass_no_gradient():
    x = torch.tensor([-5.0, 0.3, 5.0], requires_grad=True)
    Rounding.apply(x, SCALE, ZERO_POINT, LARGEST).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 0.0]
