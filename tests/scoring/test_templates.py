"""IJB's templates and its TAR, against plain loops over the definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.tar_ijb import roc_points, tar_ijb
from qface_toolkit.scoring.templates import Templates, TemplateSums, score_templates

SEEDS = st.integers(0, 1000)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def make(features, templates, media, parts=1, **options):
    sums = TemplateSums(templates, media, **options)
    for part in np.array_split(np.asarray(features, dtype=float), parts):
        sums.add(part)
    return sums.finish()


def test_media_count_once_each():
    # Two frames of one video, (2, 0) and (0, 2), and a photo, (0, 1): (1, 1) + (0, 1).
    found = make([[2, 0], [0, 2], [0, 1]], [7, 7, 7], [1, 1, 2])
    assert found.ids.tolist() == [7]
    assert found.units == pytest.approx(unit(np.array([[1.0, 2]])))


def test_one_medium_may_be_in_two_templates():
    # A line is one image in one template: each has its own mean.
    found = make([[2, 0], [0, 2], [0, 3]], [9, 9, 4], [1, 1, 1])
    assert found.ids.tolist() == [4, 9]
    assert found.units == pytest.approx(unit(np.array([[0.0, 1], [1, 1]])))


def test_features_may_be_brought_to_one_length():
    assert make([[9, 0], [0, 1]], [0, 0], [0, 1], norm="unit").units == pytest.approx(unit(np.array([[1.0, 1]])))
    assert make([[9, 0], [0, 1]], [0, 0], [0, 1]).units == pytest.approx(unit(np.array([[9.0, 1]])))


def test_detector_scores_weigh_features():
    found = make([[1, 0], [0, 1]], [0, 0], [0, 1], norm="unit", detector_scores=[0.5, 0.25])
    assert found.units == pytest.approx(unit(np.array([[2.0, 1]])))


@given(SEEDS, st.sampled_from(["keep", "unit"]), st.booleans(), st.integers(1, 9))
@settings(deadline=None, max_examples=30)
def test_templates_are_those_of_plain_loops(seed, norm, weighted, parts):
    rng = np.random.default_rng(seed)
    features, templates, media = rng.standard_normal((40, 5)), rng.integers(0, 6, 40) * 10, rng.integers(0, 8, 40)
    scores = rng.uniform(0.1, 1, 40) if weighted else None
    rows = unit(features) if norm == "unit" else features
    rows = rows if scores is None else rows * scores[:, None]
    expected = []
    for template in sorted(set(templates)):
        here = templates == template
        expected.append(unit(sum(rows[here & (media == one)].mean(axis=0) for one in set(media[here]))))
    found = make(features, templates, media, parts, norm=norm, detector_scores=scores)
    assert found.units == pytest.approx(np.array(expected))
    order = rng.permutation(40)
    shuffled = make(
        features[order],
        templates[order],
        media[order],
        parts,
        norm=norm,
        detector_scores=None if scores is None else scores[order],
    )
    assert shuffled.units == pytest.approx(found.units)


def test_pairs_are_scored_by_their_numbers(monkeypatch):
    monkeypatch.setattr("qface_toolkit.scoring.templates._PAIRS_AT_ONCE", 2)
    templates = Templates(np.array([3, 8, 9]), unit(np.array([[1.0, 0], [1, 1], [0, 1]])))
    told = []
    found = score_templates(templates, [9, 3, 8], [3, 3, 9], lambda *step: told.append(step))
    assert found == pytest.approx([0, 1, np.sqrt(0.5)])
    assert score_templates(templates, [3, 3, 9], [9, 3, 8]).tolist() == found.tolist()
    assert told == [(2, 3), (3, 3)]


def slow_curve(scores, same):
    points = [(0, 0)]
    for score in sorted(set(scores), reverse=True):
        points.append((int((same & (scores >= score)).sum()), int((~same & (scores >= score)).sum())))
    kept = points[:2]
    for before, point, after in zip(points[1:], points[2:], points[3:], strict=False):
        if (point[0] - before[0], point[1] - before[1]) != (after[0] - point[0], after[1] - point[1]):
            kept.append(point)
    return kept if len(points) == 2 else [*kept, points[-1]]


def slow_tar(points, far):
    genuine, impostors = points[-1]
    best = min(points, key=lambda point: (abs(point[1] / impostors - far), -point[1], -point[0]))
    return best[0] / genuine, best[1] / impostors


@given(arrays.arrays(np.int64, st.integers(2, 60), elements=st.integers(0, 20)), SEEDS)
@settings(deadline=None, max_examples=60)
def test_the_curve_is_that_of_every_threshold(values, seed):
    same = np.random.default_rng(seed).random(len(values)) < 0.4
    same[:2] = [True, False]
    scores = (values / 20).astype(np.float32)
    points = slow_curve(scores, same)
    assert list(zip(*map(list, roc_points(scores, same)), strict=True)) == points
    fars = (1e-3, 0.1, 0.3, 0.5)
    found = tar_ijb(scores, same, fars)
    for far, key in zip(fars, ("1e-3", "1e-1", "3e-1", "5e-1"), strict=True):
        assert (found.tar[key], found.fpr[key]) == pytest.approx(slow_tar(points, far))
    assert sorted(found.tar.values()) == list(found.tar.values())
    order = np.random.default_rng(seed).permutation(len(values))
    assert tar_ijb(scores[order], same[order], fars) == found


def test_the_nearest_rate_is_taken_and_the_highest_point_there():
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], dtype=np.float32)
    same = np.array([True, False, True, True, False, False])
    # Points: (0, 0), then TPR 1/3 at 0, 1/3 at 1/3, 1 at 1/3 and 1 at 1.
    found = tar_ijb(scores, same, (1e-6, 0.2, 0.6))
    assert found.tar == pytest.approx({"1e-6": 1 / 3, "2e-1": 1, "6e-1": 1})
    assert found.fpr == pytest.approx({"1e-6": 0, "2e-1": 1 / 3, "6e-1": 1 / 3})
    assert (found.genuine, found.impostors, found.unsupported) == (3, 3, ("1e-6", "2e-1"))


@pytest.mark.parametrize(
    ("features", "text", "where"),
    [
        ([[1.0, 0], [np.nan, 0]], "not finite", "line 2"),
        ([[1.0, 0], [0, 0]], "zero", "line 2"),
        ([1.0, 0], "rows of one size", "line 1"),
        (np.ones((2, 2, 2)), "rows of one size", "line 1"),
        (np.ones((4, 2)), "4 features came for 3 lines", None),
    ],
)
def test_features_that_do_not_fit_are_refused(features, text, where):
    sums = TemplateSums([0, 0, 1], [0, 1, 2], norm="unit")
    with pytest.raises(MeasurementError, match=text) as raised:
        sums.add(np.asarray(features))
    assert where is None or where in str(raised.value)


def test_a_change_of_size_is_refused():
    sums = TemplateSums([0, 0], [0, 1])
    sums.add(np.ones((1, 3)))
    with pytest.raises(MeasurementError, match="one size"):
        sums.add(np.ones((1, 4)))


def test_missing_features_and_empty_templates_are_refused():
    with pytest.raises(MeasurementError, match="1 of 2 lines have no feature"):
        make([[1, 0]], [0, 0], [0, 1])
    with pytest.raises(MeasurementError, match="1 of 2 templates") as raised:
        make([[1, 0], [-1, 0], [1, 0]], [5, 5, 6], [0, 1, 2])
    assert "template 5" in str(raised.value)


@pytest.mark.parametrize(
    ("templates", "media", "options"),
    [
        ([], [], {}),
        ([0, 1], [0], {}),
        ([0.5], [0], {}),
        ([0], [0], {"detector_scores": [1, 2]}),
        ([0], [0], {"detector_scores": [np.nan]}),
    ],
)
def test_metadata_that_does_not_fit_is_refused(templates, media, options):
    with pytest.raises(MeasurementError):
        TemplateSums(templates, media, **options)


def test_a_pair_of_an_unknown_template_is_refused():
    with pytest.raises(MeasurementError, match="1 pairs name a template") as raised:
        score_templates(Templates(np.array([3, 8]), np.eye(2)), [3, 3], [8, 9])
    assert "pair 2: template 9" in str(raised.value)


@pytest.mark.parametrize("same", [[True, True], [False, False], [True]])
def test_pairs_of_one_kind_are_refused(same):
    with pytest.raises(MeasurementError, match="genuine and impostor"):
        tar_ijb(np.array([0.1, 0.2], dtype=np.float32), np.array(same))
