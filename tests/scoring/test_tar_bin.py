"""TAR of the .bin protocol, on distances whose thresholds can be read off."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.tar_bin import THRESHOLDS, fold_threshold, tar_bin


def test_a_threshold_lies_between_two_of_the_grid():
    # One of four lies below 1.001 and none below 1.000: an eighth is half-way between the two.
    assert fold_threshold(np.array([1.0005, 2, 3, 3.5]), 1 / 8) == pytest.approx(1.0005)


def test_the_first_of_equal_shares_counts():
    # A quarter is reached at 1.001 and stays until 2: of all thresholds in between it is the first.
    assert fold_threshold(np.array([1.0005, 2, 3, 3.5]), 1 / 4) == pytest.approx(1.001)
    # Between a quarter and a half, only the step from 2.000 to 2.001 matters.
    assert fold_threshold(np.array([1.0005, 2, 3, 3.5]), 3 / 8) == pytest.approx(2.0005)


def test_a_rate_that_is_never_reached_accepts_nothing():
    assert fold_threshold(np.array([3.9999, 3.9999]), 0.1) == 0


def test_each_fold_is_judged_by_the_others_threshold():
    # Fold one's impostors lie at 1 and 2, fold two's at 0.5 and 3; half of them are accepted just above the nearer.
    distances = np.array([0.6, 0.4, 1.0, 2.0, 0.9, 1.5, 0.5, 3.0])
    same = np.array([True, True, False, False] * 2)
    found = tar_bin(distances, same, folds=2, far=0.5)
    # 0.501 accepts one of two genuine pairs and no impostor; 1.001 one of two, and one of two impostors.
    assert (found.tar, found.tar_std, found.far) == (0.5, 0, 0.25)


def slow_threshold(impostor, far):
    before = 0.0
    for index, threshold in enumerate(THRESHOLDS):
        share = (impostor < threshold).mean()
        if share >= far:
            return THRESHOLDS[index - 1] + (far - before) / (share - before) * (threshold - THRESHOLDS[index - 1])
        before = share
    return 0.0


@given(st.integers(0, 1000), st.sampled_from([1e-3, 0.1, 0.25, 0.9]))
@settings(deadline=None, max_examples=20)
def test_thresholds_are_those_of_a_walk_along_the_grid(seed, far):
    impostor = np.random.default_rng(seed).uniform(0, 4, 20)
    assert fold_threshold(impostor, far) == pytest.approx(slow_threshold(impostor, far))


@given(st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_tar_grows_with_far(seed):
    rng = np.random.default_rng(seed)
    distances, same = rng.uniform(0, 4, 40), np.tile([True, False], 20)
    found = [tar_bin(distances, same, 4, far) for far in (1e-3, 0.1, 0.5)]
    assert [one.tar for one in found] == sorted(one.tar for one in found)


def test_a_fold_without_impostors_is_refused():
    with pytest.raises(MeasurementError, match="no impostor pairs") as raised:
        tar_bin(np.ones(6), np.array([True, False, True, False, True, True]), folds=3)
    assert "fold 3 of 3" in str(raised.value)


def test_too_many_folds_are_refused():
    with pytest.raises(MeasurementError, match="2 pairs cannot be cut into 3 folds"):
        tar_bin(np.ones(2), np.array([True, False]), folds=3)
