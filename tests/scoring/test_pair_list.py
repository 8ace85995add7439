"""Two models on a list of pairs, against the plain protocol on pairs that are really there that often."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain import fold_accuracy, unit

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.pair_list import THRESHOLDS, Pairs, measure_pair_list, people_of_pairs
from qface_toolkit.scoring.resampling import draw_people

SEEDS = st.integers(0, 1000)


def listed(seed, folds=3, per_fold=8):
    rng = np.random.default_rng(seed)
    same = np.tile([True, False], folds * per_fold // 2)
    first = rng.integers(0, 40, len(same)) * 2
    second = np.where(same, first + 1, (first + 2 * rng.integers(1, 40, len(same)) + 1) % 80)
    reference = rng.standard_normal((40, 8))[np.arange(80) // 2] + 0.9 * rng.standard_normal((80, 8))
    other = reference + 0.5 * rng.standard_normal(reference.shape)
    return Pairs(first, second, same, folds), reference, other


def test_images_of_genuine_pairs_are_of_one_person():
    same = np.array([True, True, False, True])
    pairs = Pairs(np.array([0, 3, 0, 5]), np.array([3, 4, 2, 6]), same, 2)
    assert people_of_pairs(pairs, 8).tolist() == [0, 1, 2, 0, 0, 3, 3, 4]


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_people_are_connected_components(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 20, (2, 12))
    same = rng.random(12) < 0.7
    near = np.eye(20, dtype=int)
    near[first[same], second[same]] = near[second[same], first[same]] = 1
    joined = np.linalg.matrix_power(near, 20) > 0
    found = people_of_pairs(Pairs(first, second, same, 2), 20)
    assert ((found[:, None] == found) == joined).all()
    assert set(found) == set(range(found.max() + 1))


def slow_decisions(distances, pairs, counts):
    """Return the eight shares, with the thresholds found by trying all."""
    fold = np.arange(len(pairs.same)) // (len(pairs.same) // pairs.folds)
    thresholds = np.empty((2, len(fold)))
    for model, one in enumerate(distances):
        for number in range(pairs.folds):
            right = [(counts * ((one < border) == pairs.same))[fold != number].sum() for border in THRESHOLDS]
            thresholds[model, fold == number] = THRESHOLDS[int(np.argmax(right))]
    before = distances[0] < thresholds[0]
    shares = []
    for after in (distances[1] < thresholds[1], distances[1] < thresholds[0]):
        for kind in (pairs.same, ~pairs.same):
            for change in (before & ~after, after & ~before):
                shares.append((counts * (change & kind)).sum() / (counts * kind).sum())
    return shares


def distances_of(embeddings, pairs):
    units = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return ((units[pairs.first] - units[pairs.second]) ** 2).sum(axis=1)


def shares_of(found, end="value"):
    kinds = ("genuine_lost", "genuine_won", "impostor_lost", "impostor_won")
    return [getattr(getattr(one, kind), end) for one in (found.own, found.kept) for kind in kinds]


@given(SEEDS)
@settings(deadline=None, max_examples=20)
def test_decisions_are_those_of_their_definition(seed):
    pairs, reference, other = listed(seed)
    owners = people_of_pairs(pairs, 80)
    draws = draw_people(owners.max() + 1, 9, seed)
    distances = [distances_of(one, pairs) for one in (reference, other)]
    found = measure_pair_list(reference, other, pairs, owners, draws)
    assert shares_of(found) == pytest.approx(slow_decisions(distances, pairs, np.ones(len(pairs.same))))
    drawn = []
    for counts in draws:
        one, two = owners[pairs.first], owners[pairs.second]
        drawn.append(slow_decisions(distances, pairs, np.where(one == two, counts[one], counts[one] * counts[two])))
    low, high = np.nanpercentile(drawn, (2.5, 97.5), axis=0)
    assert shares_of(found, "low") == pytest.approx(list(low))
    assert shares_of(found, "high") == pytest.approx(list(high))


@given(SEEDS)
@settings(deadline=None, max_examples=20)
def test_accuracy_and_drift_are_the_plain_ones(seed):
    pairs, reference, other = listed(seed)
    owners = people_of_pairs(pairs, 80)
    draws = draw_people(owners.max() + 1, 20, seed)
    found = measure_pair_list(reference, other, pairs, owners, draws)

    def plain_accuracy(one, two):
        distances = ((unit(one)[pairs.first] - unit(two)[pairs.second]) ** 2).sum(axis=1)
        return fold_accuracy(distances, pairs.same, pairs.folds)

    plain = [plain_accuracy(one, one) for one in (reference, other)]
    names = ("float_pair_accuracy", "pair_accuracy", "pair_accuracy_lost")
    assert [found.figures[name].value for name in names] == pytest.approx([*plain, plain[0] - plain[1]])
    mixed = np.mean([plain_accuracy(reference, other), plain_accuracy(other, reference)])
    assert found.figures["mixed_pair_accuracy"].value == pytest.approx(mixed)
    assert found.figures["mixed_pair_accuracy_lost"].value == pytest.approx(plain[0] - mixed)
    cosines = (reference * other).sum(axis=1) / np.linalg.norm(reference, axis=1) / np.linalg.norm(other, axis=1)
    assert found.figures["cosine_min"].value == pytest.approx(cosines.min())
    drift = (distances_of(reference, pairs) - distances_of(other, pairs)) / 2
    for kind, one in ((pairs.same, found.genuine_drift), (~pairs.same, found.impostor_drift)):
        assert (one.mean.value, one.std) == pytest.approx((drift[kind].mean(), drift[kind].std()))
        assert one.mean.low <= one.mean.value <= one.mean.high
        assert one.percentiles["50"] == pytest.approx(np.median(drift[kind]))
    swapped = Pairs(pairs.second, pairs.first, pairs.same, pairs.folds)
    again = measure_pair_list(reference, other, swapped, owners, draws)
    assert (again.figures, again.own, again.kept) == (found.figures, found.own, found.kept)


def test_the_same_model_on_both_sides_loses_nothing():
    pairs, reference, _ = listed(0)
    owners = people_of_pairs(pairs, 80)
    found = measure_pair_list(reference, reference, pairs, owners, draw_people(owners.max() + 1, 20)).figures
    lost = {name: (one.value, one.low, one.high) for name, one in found.items() if name.endswith("_lost")}
    assert lost == {"pair_accuracy_lost": (0, 0, 0), "mixed_pair_accuracy_lost": (0, 0, 0)}


def test_the_most_changed_pairs_are_listed():
    pairs, reference, other = listed(0)
    owners = people_of_pairs(pairs, 80)
    found = measure_pair_list(reference, other, pairs, owners, draw_people(owners.max() + 1, 5), listed=4)
    drift = np.abs(distances_of(reference, pairs) - distances_of(other, pairs)) / 2
    for kind, some in ((pairs.same, found.most_changed[:4]), (~pairs.same, found.most_changed[4:])):
        assert [abs(one.other - one.reference) for one in some] == pytest.approx(sorted(drift[kind])[::-1][:4])
        assert {one.same for one in some} == {bool(kind[0] == pairs.same[0])}


def test_a_list_of_one_kind_is_refused():
    pairs = Pairs(np.array([0, 1]), np.array([1, 2]), np.array([True, True]), 2)
    with pytest.raises(MeasurementError, match="genuine and impostor"):
        measure_pair_list(np.ones((3, 2)), np.ones((3, 2)), pairs, [0, 0, 0], draw_people(1, 5))
