"""Losses and their intervals, against the plain protocol on data where every person is really there that often."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring import blocks
from qface_toolkit.scoring.accuracy import FaceSet, first_of_each, measure_accuracy
from qface_toolkit.scoring.every_pair import _Best, score_every_pair
from qface_toolkit.scoring.resampling import (
    count_pairs,
    draw_people,
    drawn_cosines,
    drawn_fold_accuracy,
    estimate,
)
from qface_toolkit.scoring.verification import THRESHOLDS, every_score, make_pairs, tar_at_far, unit_rows

FARS = (1e-3, 1e-2, 0.1)
SEEDS = st.integers(0, 1000)


def people(seed, count=9, spread=0.9):
    rng = np.random.default_rng(seed)
    owners = rng.permutation(np.repeat(np.arange(count), rng.integers(2, 6, count)))
    gallery = rng.standard_normal((count, 8))[owners] + spread * rng.standard_normal((len(owners), 8))
    return owners, gallery, gallery + 0.3 * rng.standard_normal(gallery.shape)


def repeated(scores, owners, counts):
    """Return scores as often as their two people are drawn together; `owners` is one array for each side."""
    first, second = owners
    times = np.where(first == second, counts[first], counts[first] * counts[second]).astype(int)
    return np.repeat(scores, times)


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_tar_is_that_of_the_plain_protocol(seed):
    owners, gallery, _ = people(seed)
    plain = tar_at_far(*every_score(unit_rows(gallery), owners), FARS)
    assert score_every_pair(gallery, owners, FARS).tar(FARS) == pytest.approx(list(plain.values()))


def test_rows_in_parts_and_dropped_impostors_change_nothing(monkeypatch):
    owners, gallery, probe = people(0, count=120)
    plain = tar_at_far(*every_score(unit_rows(gallery), owners), (1e-3, 1e-2))
    mixed = score_every_pair(gallery, owners, (1e-3, 1e-2), probe).tar((1e-3, 1e-2))
    monkeypatch.setattr(blocks, "ROWS", 50)
    monkeypatch.setattr(blocks, "COLUMNS", 70)
    scores = score_every_pair(gallery, owners, (1e-3, 1e-2))
    assert len(scores.impostor) < scores.orders * len(owners) ** 2 / 4
    assert scores.tar((1e-3, 1e-2)) == pytest.approx(list(plain.values()))
    assert score_every_pair(gallery, owners, (1e-3, 1e-2), probe).tar((1e-3, 1e-2)) == pytest.approx(mixed)


@given(SEEDS, st.booleans())
@settings(deadline=None, max_examples=30)
def test_a_person_counts_as_often_as_drawn(seed, mixed):
    owners, gallery, probe = people(seed)
    counts = draw_people(9, 1, seed)[0]
    first, second = np.nonzero(~np.eye(len(owners), dtype=bool) if mixed else np.triu(np.ones((len(owners),) * 2), 1))
    cosines = (unit_rows(gallery) @ unit_rows(probe if mixed else gallery).T)[first, second]
    sides = owners[first], owners[second]
    same = sides[0] == sides[1]
    genuine = repeated(cosines[same], (sides[0][same], sides[1][same]), counts)
    impostor = repeated(cosines[~same], (sides[0][~same], sides[1][~same]), counts)
    found = score_every_pair(gallery, owners, FARS, probe if mixed else None).tar(FARS, counts)
    assert found == pytest.approx(list(tar_at_far(genuine, impostor, FARS).values()))


def test_no_more_than_twice_the_wanted_scores_are_held():
    best = _Best(10)
    scores = np.random.default_rng(0).permutation(100.0 * np.arange(100))
    for part in scores.reshape(20, 5):
        best.add((part, np.zeros(5, np.intp), np.ones(5, np.intp)))
        assert best.held <= 20
    assert best.floor > 0
    assert best.finish()[0].tolist() == sorted(scores)[::-1][:10]


def test_a_draw_of_one_person_alone_has_no_tar():
    owners, gallery, _ = people(0)
    counts = np.zeros(9)
    counts[3] = 9
    assert np.isnan(score_every_pair(gallery, owners, FARS).tar(FARS, counts)).all()


@pytest.mark.parametrize("owners", [[0, 0, 0], [0, 1, 2], []], ids=["one person", "one image each", "nobody"])
def test_sets_without_both_kinds_of_pairs_are_refused(owners):
    with pytest.raises(MeasurementError, match="genuine and impostor"):
        score_every_pair(np.ones((len(owners), 4)), owners, FARS)


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


def test_only_the_first_images_of_a_person_are_compared():
    assert first_of_each(np.array([1, 0, 1, 1, 0, 1]), most=2).tolist() == [0, 1, 2, 4]


def faces(owners):
    return FaceSet(owners, first_of_each(owners, 3), make_pairs(owners, per_fold=10, folds=3))


def test_a_model_loses_nothing_to_itself():
    owners, gallery, _ = people(0)
    figures = measure_accuracy(gallery, gallery * 2, faces(owners), draw_people(9, 50), FARS)
    lost = [figure for name, figure in figures.items() if "lost" in name and "mixed" not in name]
    assert [(one.value, one.low, one.high) for one in lost] == [(0, 0, 0)] * 4
    assert figures["cosine_min"].low == pytest.approx(1)


@pytest.mark.parametrize("name", ["tar{}@1e-1", "pair_accuracy{}"])
def test_losses_are_float_less_the_other(name):
    owners, gallery, probe = people(1)
    figures = measure_accuracy(gallery, probe, faces(owners), draw_people(9, 50), FARS)
    lost = figures[name.format("_lost")]
    assert lost.value == pytest.approx(figures[f"float_{name.format('')}"].value - figures[name.format("")].value)
    assert lost.value > 0
    assert lost.low < lost.value < lost.high


def test_tar_is_taken_over_the_compared_rows_alone():
    owners, gallery, probe = people(2)
    chosen = first_of_each(owners, 3)
    figures = measure_accuracy(gallery, probe, FaceSet(owners, chosen), draw_people(9, 5), FARS)
    plain = tar_at_far(*every_score(unit_rows(probe[chosen]), owners[chosen]), FARS)
    assert {far: figures[f"tar@{far}"].value for far in plain} == pytest.approx(plain)
    assert "pair_accuracy" not in figures
