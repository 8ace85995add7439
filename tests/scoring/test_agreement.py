"""Cosines between embeddings, on angles known beforehand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.agreement import Agreement, measure_agreement, row_cosines


def at_angles(*degrees):
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def test_mean_percentile_and_minimum():
    agreement = measure_agreement(at_angles(0, 0, 0), at_angles(0, 60, 90))
    assert agreement.cosine_mean == pytest.approx(0.5)
    assert agreement.cosine_p1 == pytest.approx(0.01)
    assert agreement.cosine_min == pytest.approx(0, abs=1e-15)
    assert agreement.count == 3


def test_length_does_not_matter():
    agreement = measure_agreement(at_angles(10, 20) * 1e-20, at_angles(10, 20) * 1e20)
    assert agreement == Agreement(*[pytest.approx(1)] * 3, count=2)


def test_float32_is_computed_in_float64():
    reference = np.random.default_rng(0).standard_normal((50, 512)).astype(np.float32)
    assert np.abs(1 - row_cosines(reference, reference)).max() < 1e-14
    assert row_cosines(reference, reference).dtype == np.float64


@given(st.floats(-1e30, 1e30).filter(lambda x: abs(x) > 1e-30), st.floats(-1e30, 1e30))
def test_cosines_lie_within_bounds(first, second):
    row = np.array([[first, second]])
    assert row_cosines(row, row)[0] <= 1
    assert row_cosines(row, -row)[0] >= -1


@pytest.mark.parametrize(
    ("reference", "other"),
    [((2, 3), (2, 4)), ((2, 3), (3, 3)), ((0, 3), (0, 3)), ((3,), (3,)), ((2, 0), (2, 0)), ((2, 3), (3,))],
)
def test_shapes_that_cannot_be_compared(reference, other):
    with pytest.raises(MeasurementError, match="cannot be compared"):
        measure_agreement(np.ones(reference), np.ones(other))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0], ids=["nan", "infinite", "zero"])
@pytest.mark.parametrize("side", [0, 1], ids=["reference", "other"])
def test_damaged_embeddings_are_refused(bad, side):
    pair = [np.ones((3, 4)), np.ones((3, 4))]
    pair[side][1] = bad
    with pytest.raises(MeasurementError, match="1 of 3 embeddings"):
        measure_agreement(*pair)
