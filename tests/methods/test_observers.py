"""The observers' arithmetic on numbers worked out by hand."""

import numpy as np
import pytest
import torch

from qface_toolkit.errors import CalibrationError
from qface_toolkit.methods._observers import OBSERVERS, LeastSquares, MinMax, Percentile
from qface_toolkit.quantize.scheme import Range


def watch(kind, *tensors, bins=2048, percentile=99.9, levels=255):
    observer = kind(bins, percentile, levels)
    for number in range(kind.passes):
        for tensor in tensors:
            observer.passes_over(number)(tensor)
    return observer.range()


def test_min_max_holds_everything_and_zero():
    assert watch(MinMax, torch.tensor([1.0, 3.0]), torch.tensor([2.0, -0.5])) == Range(-0.5, 3.0)
    assert watch(MinMax, torch.tensor([1.0, 3.0])) == Range(0.0, 3.0)


def test_least_squares_keeps_an_evenly_filled_range():
    chosen = watch(LeastSquares, torch.linspace(-1, 1, 10001))
    assert (chosen.low, chosen.high) == pytest.approx((-1, 1), abs=0.021)


def test_least_squares_gives_up_a_lonely_outlier():
    values = torch.cat([torch.linspace(-1, 1, 1_000_000), torch.tensor([3.0])])
    chosen = watch(LeastSquares, values)
    assert chosen.high < 2.0, f"one value in a million stretches the range to {chosen.high}"
    assert chosen.low == pytest.approx(-1, abs=0.03)


def test_least_squares_errs_less_than_min_max():
    values = torch.distributions.Laplace(0.0, 1.0).sample((100_000,))

    def error(interval):
        step = (interval.high - interval.low) / 255
        codes = torch.clamp(torch.round((values - interval.low) / step), 0, 255)
        return float(((codes * step + interval.low - values) ** 2).mean())

    errors = {name: error(watch(kind, values)) for name, kind in OBSERVERS.items()}
    assert errors["mse"] < 0.9 * errors["minmax"], errors


def test_a_percentile_cuts_the_same_share_at_both_ends():
    values = torch.linspace(-1, 1, 100_001)
    chosen = watch(Percentile, values, percentile=90.0)
    assert (chosen.low, chosen.high) == pytest.approx((-0.8, 0.8), abs=2e-3)
    assert watch(Percentile, values, percentile=100.0) == Range(-1.0, 1.0)


def test_a_percentile_never_cuts_zero_off():
    chosen = watch(Percentile, torch.linspace(2, 3, 1001), percentile=90.0)
    assert chosen.low == 0.0 and chosen.high == pytest.approx(2.9, abs=4e-3)


@pytest.mark.parametrize("kind", [LeastSquares, Percentile])
def test_a_tensor_of_zeros_has_an_empty_range(kind):
    assert watch(kind, torch.zeros(10)) == Range(0.0, 0.0)


@pytest.mark.parametrize("kind", OBSERVERS.values(), ids=OBSERVERS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(kind, value):
    with pytest.raises(CalibrationError, match="infinite or not a number"):
        watch(kind, torch.tensor([1.0, value]))
