"""The verification protocol on cases small enough to work out by hand, and what must hold on any data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain import every_pair, tar_at_far

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.embeddings import unit_rows
from qface_toolkit.scoring.identities import make_pairs, verify_identities
from qface_toolkit.scoring.pair_list import fold_accuracy


def people(count=12, images=4, spread=0.1, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((count, 16))
    labels = np.repeat(np.arange(count), images)
    return centres[labels] + spread * rng.standard_normal((count * images, 16)), labels


def test_each_fold_is_judged_by_the_others_threshold():
    # The first fold's best border is above 1.5, the second's above 0.5: each is judged by the other's.
    distances = np.array([1.5, 2.0, 0.5, 1.0])
    same = np.array([True, False, True, False])
    assert fold_accuracy(distances, same, folds=2) == (0.5, 0.0)


def test_the_first_of_equal_thresholds_is_taken():
    # The other fold allows 0.11 to 1.00; a distance of 0.5 is accepted only if a later one than the first were taken.
    distances = np.array([0.1, 1.0, 0.5, 0.5])
    same = np.array([True, False, True, True])
    assert fold_accuracy(distances, same, folds=2) == (0.5, 0.5)


def test_folds_are_contiguous_and_the_deviation_is_the_populations():
    distances = np.array([0.1, 3.0] * 3 + [3.0, 0.1])
    same = np.array([True, False] * 4)
    mean, spread = fold_accuracy(distances, same, folds=4)
    assert mean == pytest.approx(3 / 4)
    assert spread == pytest.approx(np.std([1, 1, 1, 0]))


def test_too_few_pairs_for_the_folds_are_refused():
    with pytest.raises(MeasurementError, match="3 pairs cannot be cut into 10 folds"):
        fold_accuracy(np.zeros(3), np.ones(3, bool), folds=10)


@given(st.integers(2, 9), st.integers(2, 5), st.integers(1, 12), st.integers(2, 4), st.integers(0, 5))
@settings(deadline=None)
def test_pairs_are_what_they_say(count, images, per_fold, folds, seed):
    labels = np.repeat(np.arange(count), images)
    pairs = make_pairs(labels, per_fold, folds, seed)
    assert np.array_equal(labels[pairs.first] == labels[pairs.second], pairs.same)
    assert (pairs.first != pairs.second).all()
    assert pairs.same.reshape(folds, -1).sum(axis=1).tolist() == [per_fold] * folds


def test_pairs_use_every_identity_equally_often():
    labels = np.repeat(np.arange(20), 3)
    pairs = make_pairs(labels, per_fold=50, folds=4)
    owners = np.bincount(labels[pairs.first[pairs.same]])
    assert set(owners) == {10}


def test_pairs_repeat_with_the_seed_and_change_with_it():
    labels = np.repeat(np.arange(20), 3)
    assert np.array_equal(make_pairs(labels, 9, 2, 1).second, make_pairs(labels, 9, 2, 1).second)
    assert not np.array_equal(make_pairs(labels, 9, 2, 1).second, make_pairs(labels, 9, 2, 2).second)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 0, 1]], ids=["one identity", "a single image"])
def test_too_few_identities_or_images_are_refused(labels):
    with pytest.raises(MeasurementError, match="two identities with two images"):
        make_pairs(labels)


def test_well_separated_people_are_told_apart():
    figures = verify_identities(*people(spread=0.01), per_fold=20, folds=5)
    assert figures.pair_accuracy > 0.99
    assert figures.tar == {"1e-3": 1.0}
    assert figures.pairs == 200


def test_noise_is_not_told_apart():
    rng = np.random.default_rng(0)
    figures = verify_identities(rng.standard_normal((200, 16)), np.repeat(np.arange(50), 4))
    assert 0.4 < figures.pair_accuracy < 0.6
    assert figures.tar["1e-3"] < 0.05


@pytest.mark.slow
@given(st.floats(0.01, 100), st.integers(0, 5))
@settings(deadline=None, max_examples=20)
def test_length_of_embeddings_does_not_matter(factor, seed):
    embeddings, labels = people(spread=0.8, seed=seed)
    scaled = verify_identities(embeddings * factor, labels, per_fold=20, folds=5)
    assert scaled == verify_identities(embeddings, labels, per_fold=20, folds=5)


@pytest.mark.slow
@given(st.integers(0, 50))
@settings(deadline=None, max_examples=20)
def test_tar_is_that_of_sorted_scores(seed):
    embeddings, labels = people(spread=0.8, seed=seed)
    first, second, (scores,) = every_pair(labels, embeddings)
    same = labels[first] == labels[second]
    found = verify_identities(embeddings, labels + 7, per_fold=20, folds=5, fars=(0.1, 1e-3, 1e-6))
    assert list(found.tar) == ["1e-1", "1e-3", "1e-6"]
    assert list(found.tar.values()) == tar_at_far(scores[same], scores[~same], (0.1, 1e-3, 1e-6))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_embeddings_without_a_direction_are_refused(value):
    embeddings, labels = people()
    embeddings[7] = value
    with pytest.raises(MeasurementError, match="1 of 48 embeddings") as raised:
        verify_identities(embeddings, labels)
    assert "row 7" in str(raised.value)


def test_unit_rows_have_length_one():
    assert np.linalg.norm(unit_rows(people()[0]), axis=1) == pytest.approx(1)
