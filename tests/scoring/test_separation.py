"""Every pair of a set, streamed, against the same figures worked out by hand or by sorting all scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain import tar_at_far

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring import bins, blocks
from qface_toolkit.scoring.rates import far_key
from qface_toolkit.scoring.separation import measure_separation

FARS = (0.5, 0.1, 1e-2, 1e-3)
SEEDS = st.integers(0, 1000)


@pytest.fixture(scope="module", autouse=True)
def coarse_bins():
    """Take fewer bins: what is exact must be so whatever falls into one, and a million take long to fill."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bins, "BINS", 1000)
        yield


def at_angles(*degrees):
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def people(seed, count=9, spread=0.9, most=6):
    rng = np.random.default_rng(seed)
    owners = rng.permutation(np.repeat(np.arange(count), rng.integers(1, most, count)))
    owners[:2] = owners[2]
    return owners, rng.standard_normal((count, 8))[owners] + spread * rng.standard_normal((len(owners), 8))


def all_pairs(owners, gallery):
    """Return score, same and both owners of every pair, of plain loops."""
    units = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    found = [
        (float(units[i] @ units[j]), owners[i], owners[j])
        for i in range(len(owners))
        for j in range(len(owners))
        if i < j
    ]
    scores, first, second = (np.array(column) for column in zip(*found, strict=True))
    return scores, first == second, first, second


def balanced_weights(owners, same, first, second):
    images = np.bincount(owners)
    genuine = images * (images - 1) / 2
    return np.where(same, 1 / np.maximum(genuine[first], 1), 1 / (images[first] * images[second]))


def slow_tar(scores, same, weights, total, far):
    """Return threshold and TAR of weighted pairs, by trying every impostor score from the best down."""
    rank = np.floor(far * total + 1e-9)
    for score in sorted(set(scores[~same]), reverse=True):
        if weights[~same & (scores >= score)].sum() >= rank - 1e-9:
            return score, weights[same & (scores >= score)].sum() / weights[same].sum()
    raise AssertionError


def slow_eer(scores, same, weights):
    """Return where the broken line through the points of all thresholds has equal rates."""
    before = (0.0, 1.0)
    for score in sorted(set(scores), reverse=True):
        accepted = weights[~same & (scores >= score)].sum() / weights[~same].sum()
        rejected = weights[same & (scores < score)].sum() / weights[same].sum()
        if accepted >= rejected:
            low, high = before[0] - before[1], accepted - rejected
            return before[0] + -low / (high - low) * (accepted - before[0])
        before = (accepted, rejected)
    raise AssertionError


def check(found, scores, same, weights, total):
    supported = [far for far in FARS if np.floor(far * total + 1e-9) >= 1]
    assert found.unsupported == tuple(far_key(far) for far in FARS if far not in supported)
    for far in supported:
        threshold, tar = slow_tar(scores, same, weights, total, far)
        assert found.thresholds[far_key(far)] == pytest.approx(threshold)
        assert found.tar[far_key(far)] == pytest.approx(tar)
    assert found.eer == pytest.approx(slow_eer(scores, same, weights), abs=1e-12)


@given(SEEDS)
@settings(deadline=None, max_examples=25)
def test_every_figure_is_that_of_all_scores_at_once(seed):
    owners, gallery = people(seed)
    scores, same, first, second = all_pairs(owners, gallery)
    found = measure_separation(gallery, owners, FARS)
    assert (found.genuine, found.impostors) == (same.sum(), (~same).sum())
    check(found.rates, scores, same, np.ones(len(scores)), (~same).sum())
    plain = dict(zip(map(far_key, FARS), tar_at_far(scores[same], scores[~same], FARS), strict=True))
    assert found.rates.tar == pytest.approx({key: plain[key] for key in found.rates.tar})
    count = len(set(owners))
    weights = balanced_weights(owners, same, first, second)
    check(found.balanced, scores, same, weights, count * (count - 1) / 2)


@given(SEEDS)
@settings(deadline=None, max_examples=25)
def test_rank_one_is_that_of_the_nearest_image(seed):
    owners, gallery = people(seed)
    units = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    scores = units @ units.T
    np.fill_diagonal(scores, -2)
    mates = np.bincount(owners)[owners] > 1
    found = measure_separation(gallery, owners, FARS)
    assert found.probes == mates.sum()
    assert found.rank1 == pytest.approx((owners[scores.argmax(axis=1)] == owners)[mates].mean())


@given(SEEDS)
@settings(deadline=None, max_examples=15)
def test_order_and_names_of_people_change_nothing(seed):
    owners, gallery = people(seed)
    rng = np.random.default_rng(seed)
    order, names = rng.permutation(len(owners)), rng.permutation(owners.max() + 1)
    other = measure_separation(gallery[order], names[owners][order], FARS)
    assert_alike(measure_separation(gallery, owners, FARS), other)


def assert_alike(found, other):
    for one, two in ((found.rates, other.rates), (found.balanced, other.balanced)):
        assert one.tar == pytest.approx(two.tar)
        assert one.thresholds == pytest.approx(two.thresholds)
        assert (one.eer, one.unsupported) == (pytest.approx(two.eer), two.unsupported)
    assert (found.rank1, found.probes) == (other.rank1, other.probes)
    assert found.histogram.genuine.sum() == other.histogram.genuine.sum()


@given(SEEDS)
@settings(deadline=None, max_examples=15)
def test_the_size_of_blocks_changes_nothing(seed):
    owners, gallery = people(seed, count=12)
    whole = measure_separation(gallery, owners, FARS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "ROWS", 5)
        patch.setattr(blocks, "COLUMNS", 7)
        assert_alike(whole, measure_separation(gallery, owners, FARS))


@given(SEEDS)
@settings(deadline=None, max_examples=15)
def test_tar_grows_with_far(seed):
    owners, gallery = people(seed, count=20)
    for rates in (measure_separation(gallery, owners, FARS).rates, measure_separation(gallery, owners, FARS).balanced):
        assert sorted(rates.tar.values(), reverse=True) == list(rates.tar.values())
        assert sorted(rates.thresholds.values()) == list(rates.thresholds.values())


def test_figures_worked_out_by_hand():
    # Two images of one person 60 degrees apart, two of another 10 apart; strangers are 90, 100, 30 and 40 apart.
    found = measure_separation(at_angles(0, 60, 90, 100), [0, 0, 1, 1], (0.5, 0.25, 0.1))
    assert (found.images, found.people, found.genuine, found.impostors) == (4, 2, 2, 4)
    assert found.rates.thresholds == pytest.approx({"5e-1": np.cos(np.radians(40)), "2.5e-1": np.cos(np.radians(30))})
    assert found.rates.tar == {"5e-1": 0.5, "2.5e-1": 0.5}
    assert found.rates.unsupported == ("1e-1",)
    # At 40 degrees half of the strangers are accepted, and half of the genuine pairs rejected.
    assert (found.rates.eer, found.rates.eer_threshold) == (0.5, pytest.approx(np.cos(np.radians(40))))
    # The image at 0 is nearest to that at 60, which is nearest to the stranger at 90.
    assert (found.rank1, found.probes) == (0.75, 4)
    assert found.balanced.unsupported == ("5e-1", "2.5e-1", "1e-1")


def test_one_score_for_both_kinds_is_joined_by_a_straight_line():
    # One genuine pair of 0 degrees and one of 90, two strangers at 0 and two at 90 degrees: (0, 1), then (0.5, 0.5).
    found = measure_separation(at_angles(0, 90, 0, 90), [0, 0, 1, 1], (0.5,))
    # Genuine pairs are both 90 degrees apart; two of four strangers stand in the same place.
    assert found.rates.eer == pytest.approx(2 / 3)


def test_perfect_separation_has_no_errors():
    found = measure_separation(at_angles(0, 1, 90, 91), [0, 0, 1, 1], (0.5,))
    assert (found.rates.eer, found.rates.tar["5e-1"], found.rank1) == (0, 1, 1)


def test_a_stranger_as_near_as_the_mate_is_a_miss():
    found = measure_separation(np.array([[1.0, 0], [0, 1], [0, 1], [1, 0]]), [0, 0, 1, 1], (0.5,))
    assert found.rank1 == 0
    twins = measure_separation(np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]]), [0, 0, 1, 2], (0.5,))
    assert (twins.rank1, twins.probes) == (0, 2)


def test_balance_gives_every_person_one_voice():
    # The person with many images is recognised, the other two are not: two of three people's pairs are lost.
    rng = np.random.default_rng(0)
    many = at_angles(*rng.uniform(0, 1, 30))
    embeddings = np.concatenate([many, at_angles(90, 180, 140, 240)])
    owners = np.repeat([0, 1, 2], [30, 2, 2])
    found = measure_separation(embeddings, owners, (0.4,))
    assert found.balanced.tar["4e-1"] == pytest.approx(1 / 3)
    assert found.rates.tar["4e-1"] > 0.99


def test_a_model_that_gives_one_embedding_for_all_is_measured_all_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(10), 5)
    gallery = 1 + 1e-2 * rng.standard_normal((50, 8))
    whole = measure_separation(gallery, owners, FARS)
    monkeypatch.setattr(bins, "MOST_KEPT", 20)
    few = measure_separation(gallery, owners, FARS)
    scores, same, *_ = all_pairs(owners, gallery)
    check(whole.rates, scores, same, np.ones(len(scores)), (~same).sum())
    # With a thousand bins, what is merged lies within 2e-8; all scores are within 1e-3.
    assert few.rates.thresholds == pytest.approx(whole.rates.thresholds, abs=2e-8)
    assert few.rates.eer == pytest.approx(whole.rates.eer, abs=0.02)


def test_equal_scores_let_in_more_impostors_than_a_rate_means():
    owners = np.repeat(np.arange(5), 4)
    found = measure_separation(np.ones((20, 3)), owners, (1e-2, 0.5))
    assert found.rates.tar == found.rates.reached == {"1e-2": 1, "5e-1": 1}
    uneven = np.repeat(np.arange(20), 2 + np.arange(20) % 7)
    balanced = measure_separation(np.ones((len(uneven), 3)), uneven, (1e-2,)).balanced
    rates = [balanced.tar["1e-2"], balanced.reached["1e-2"]]
    assert rates == pytest.approx([1, 1])
    assert max(rates) <= 1
    rows = np.random.default_rng(0).standard_normal((20, 8))
    assert measure_separation(rows, owners, (0.1, 0.5)).rates.reached == {"1e-1": 0.1, "5e-1": 0.5}


def test_a_score_that_the_second_look_finds_elsewhere_costs_no_more_than_itself():
    # Of two impostors and two genuine pairs, the first look put one of each into bins 900 and 100.
    counts = np.zeros(1001)
    counts[[900, 100]] = 1
    kind, kept = bins.Kind(*[bins.from_above(counts)] * 2), bins.Kept(*np.zeros((3, 0)))
    assert bins.threshold_at(kind, kept, 1) == pytest.approx((0.8, 0, 0))
    # Half of each would be wrong; a half is what one of two impostors makes.
    assert bins.equal_error(kind, kept) == pytest.approx((0, 0.8))


def test_det_points_are_exact():
    owners, gallery = people(3, count=30)
    scores, same, *_ = all_pairs(owners, gallery)
    det = measure_separation(gallery, owners, FARS).det
    for far, frr, threshold in zip(det.far, det.frr, det.threshold, strict=True):
        assert far == pytest.approx((scores[~same] >= threshold).mean())
        assert frr == pytest.approx((scores[same] < threshold).mean())
    assert (det.far[0], det.frr[0]) == (1, 0)
    assert 0 < det.far[-1] <= 2 / (~same).sum()
    assert (np.diff(det.far) < 0).all() or (np.diff(det.far) <= 0).all()
    assert 50 < len(det.far) <= 200


def test_histograms_count_every_pair_once():
    owners, gallery = people(3, count=30)
    scores, same, *_ = all_pairs(owners, gallery)
    found = measure_separation(gallery, owners, FARS).histogram
    assert found.genuine.tolist() == np.histogram(scores[same], found.edges)[0].tolist()
    assert found.impostor.tolist() == np.histogram(scores[~same], found.edges)[0].tolist()


def test_a_cosine_of_one_is_in_the_last_bin():
    found = measure_separation(np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]]), [0, 0, 1, 1], (0.5,)).histogram
    assert (found.genuine[-1], found.impostor[-1]) == (1, 2)
    assert (found.genuine.sum(), found.impostor.sum()) == (2, 4)


def test_a_genuine_pair_as_good_as_the_threshold_is_accepted():
    # Both genuine pairs have a cosine of 0, as two of the four strangers have; the other two have one of 1.
    found = measure_separation(np.array([[1.0, 0], [0, 1], [1, 0], [0, 1]]), [0, 0, 1, 1], (0.5, 0.75))
    assert found.rates.tar == {"5e-1": 0, "7.5e-1": 1}


def test_scores_too_close_to_keep_apart_are_kept_as_one(monkeypatch):
    monkeypatch.setattr(bins, "MOST_KEPT", 20)
    keeper = bins.Keeper([900])
    scores = 0.8 + 1e-10 * np.arange(1, 31)
    keeper.add(scores, np.tile([1.0, 0.0], (30, 1)))
    kept = keeper.kept(0, 1)
    assert (len(kept.scores), kept.genuine.sum(), kept.impostor.sum()) == (1, 30, 0)
    assert kept.scores[0] == pytest.approx(0.8, abs=1e-8)


def test_progress_ends_where_it_said():
    owners, gallery = people(3)
    told = []
    measure_separation(gallery, owners, FARS, progress=lambda *step: told.append(step))
    assert told[-1][0] == told[-1][1] == max(told)[0]


@pytest.mark.parametrize(
    ("owners", "text"),
    [([0, 0, 0], "one person"), ([0, 1, 2], "nobody has two images"), ([], "one person")],
    ids=["one person", "one image each", "nobody"],
)
def test_sets_without_both_kinds_of_pairs_are_refused(owners, text):
    with pytest.raises(MeasurementError, match=text):
        measure_separation(np.ones((len(owners), 4)), np.array(owners, dtype=int))


@pytest.mark.parametrize("shape", [(4,), (4, 2, 2), (4, 0)])
def test_embeddings_of_the_wrong_rank_are_refused(shape):
    with pytest.raises(MeasurementError, match="one row for each image") as raised:
        measure_separation(np.ones(shape), [0, 0, 1, 1])
    assert str(list(shape)) in str(raised.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_embeddings_without_a_direction_are_refused(value):
    owners, gallery = people(0)
    gallery[7] = value
    with pytest.raises(MeasurementError, match="zero or not finite") as raised:
        measure_separation(gallery, owners)
    assert "row 7" in str(raised.value)


@pytest.mark.parametrize("owners", [[0, 0, 1], [[0, 0, 1, 1]], [0.0, 0, 1, 1], [-1, 0, 0, 1]])
def test_owners_that_do_not_fit_are_refused(owners):
    with pytest.raises(MeasurementError, match="4 embeddings came with owners"):
        measure_separation(np.ones((4, 2)), np.array(owners))
