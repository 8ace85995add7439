"""Intervals, against the same figures on data where every person is really there that often."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qface_toolkit.scoring.pair_list import THRESHOLDS, count_pairs, drawn_fold_accuracy
from qface_toolkit.scoring.resampling import draw_people, drawn_cosines, estimate

SEEDS = st.integers(0, 1000)


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_cosines_count_as_often_as_their_person(seed):
    rng = np.random.default_rng(seed)
    owners, cosines = rng.integers(0, 9, 50), rng.uniform(-1, 1, 50)
    draws = draw_people(9, 5, seed)
    for found, counts in zip(drawn_cosines(cosines, owners, draws).T, draws, strict=True):
        real = np.repeat(cosines, counts[owners].astype(int))
        assert found == pytest.approx([real.mean(), np.percentile(real, 1), real.min()])


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_pairs_count_as_often_as_drawn(seed):
    rng = np.random.default_rng(seed)
    distances, same = rng.uniform(0, 4, 24), rng.random(24) < 0.5
    counts = rng.integers(1, 4, (2, 24)).astype(float)
    for found, times in zip(drawn_fold_accuracy(distances, same, 3, counts), counts.astype(int), strict=True):
        right = [np.repeat((distances < border) == same, times) for border in THRESHOLDS]
        fold = np.repeat(np.arange(24) // 8, times)
        rates = []
        for one in range(3):
            best = int(np.argmax([hits[fold != one].sum() for hits in right]))
            rates.append(right[best][fold == one].mean())
        assert found == pytest.approx(np.mean(rates))


def test_a_pair_of_two_people_counts_as_their_product():
    draws = np.array([[2.0, 3.0, 0.0]])
    assert count_pairs(draws, np.array([0, 0, 2, 1]), np.array([0, 1, 1, 1])).tolist() == [[2, 6, 0, 3]]


def test_draws_repeat_with_the_seed_and_always_have_as_many_people():
    assert np.array_equal(draw_people(7, 20, 1), draw_people(7, 20, 1))
    assert not np.array_equal(draw_people(7, 20, 1), draw_people(7, 20, 2))
    assert set(draw_people(7, 20, 1).sum(axis=1)) == {7}


def test_the_interval_holds_95_of_100_draws():
    found = estimate(50.0, np.append(np.arange(101.0), np.nan))
    assert (found.value, found.low, found.high) == (50, 2.5, 97.5)


def test_intervals_cover_what_they_should():
    # The interval of a mean of one value a person is known: 1.96 / sqrt(people).
    rng = np.random.default_rng(0)
    found = drawn_cosines(rng.standard_normal(400), np.arange(400), draw_people(400, 2000))
    assert np.percentile(found[0], 97.5) - np.percentile(found[0], 2.5) == pytest.approx(2 * 1.96 / 20, rel=0.1)
