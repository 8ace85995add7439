"""What changes from model to model, against the plain definitions, with every person really there as often as drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring import blocks, histogram, joint
from qface_toolkit.scoring.accuracy import FaceSet, first_of_each, measure_accuracy
from qface_toolkit.scoring.every_pair import score_every_pair, supported, tar_intervals
from qface_toolkit.scoring.joint import score_jointly
from qface_toolkit.scoring.operating import FIELDS, JointFigures
from qface_toolkit.scoring.paired import measure_paired
from qface_toolkit.scoring.resampling import draw_people
from qface_toolkit.scoring.separation import measure_separation

FARS = (1e-3, 1e-2, 0.1)
SEEDS = st.integers(0, 1000)


@pytest.fixture(scope="module", autouse=True)
def coarse_bins():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(histogram, "BINS", 10_000)
        yield


def people(seed, count=9, spread=0.9):
    rng = np.random.default_rng(seed)
    owners = rng.permutation(np.repeat(np.arange(count), rng.integers(2, 6, count)))
    gallery = rng.standard_normal((count, 8))[owners] + spread * rng.standard_normal((len(owners), 8))
    return owners, gallery, gallery + 0.3 * rng.standard_normal(gallery.shape)


def every_pair(owners, *models):
    """Return both rows of every pair, and the scores of each model."""
    first, second = np.triu_indices(len(owners), 1)
    units = [model / np.linalg.norm(model, axis=1, keepdims=True) for model in models]
    return first, second, [(one @ one.T)[first, second] for one in units]


def repeated(owners, first, second, counts):
    """Return the places of all pairs, as often as their people are drawn."""
    one, two = owners[first], owners[second]
    times = np.where(one == two, counts[one], counts[one] * counts[two]).astype(int)
    return np.repeat(np.arange(len(first)), times)


def slow_fields(same, reference, other, far):
    rank = max(1, int(np.floor(far * (~same).sum() + 1e-9)))
    one, two = (np.sort(scores[~same])[-rank] for scores in (reference, other))

    def shares(kind, threshold):
        before, after = reference[kind] >= one, other[kind] >= threshold
        return (before & ~after).mean(), (after & ~before).mean()

    return [
        (reference[same] >= one).mean(),
        (other[same] >= two).mean(),
        one,
        two,
        two - one,
        (other[~same] >= one).mean(),
        (other[same] >= one).mean(),
        *shares(same, two),
        *shares(~same, two),
        *shares(same, one),
        *shares(~same, one),
    ]


@given(SEEDS, st.booleans())
@settings(deadline=None, max_examples=30)
def test_every_field_is_that_of_its_definition(seed, drawn):
    owners, reference, other = people(seed)
    counts = draw_people(9, 1, seed)[0] if drawn else np.ones(9)
    first, second, scores = every_pair(owners, reference, other)
    places = repeated(owners, first, second, counts)
    same = (owners[first] == owners[second])[places]
    found = JointFigures(score_jointly(reference, other, owners, FARS), FARS).figures(counts if drawn else None)
    for far, row in zip(FARS, found, strict=True):
        assert row == pytest.approx(slow_fields(same, scores[0][places], scores[1][places], far))
    assert len(FIELDS) == found.shape[1]


@given(SEEDS)
@settings(deadline=None, max_examples=20)
def test_drift_is_that_of_its_definition(seed):
    owners, reference, other = people(seed)
    draws = draw_people(9, 40, seed)
    first, second, scores = every_pair(owners, reference, other)
    drift, same = scores[1] - scores[0], owners[first] == owners[second]
    found = measure_paired(reference, other, FaceSet(owners, np.arange(len(owners))), draws, FARS)
    for kind, one in ((same, found.genuine_drift), (~same, found.impostor_drift)):
        assert (one.mean.value, one.std) == pytest.approx((drift[kind].mean(), drift[kind].std()))
        for name, value in one.percentiles.items():
            # A bin of these tests is 4e-4 wide; a percentile between two pairs is anywhere between them.
            low, high = (np.percentile(drift[kind], int(name), method=rule) for rule in ("lower", "higher"))
            assert low - 4e-4 <= value <= high + 4e-4
        means = []
        for counts in draws:
            places = repeated(owners, first, second, counts)
            places = places[kind[places]]
            means.append(drift[places].mean() if len(places) else np.nan)
        ends = np.nanpercentile(means, (2.5, 97.5))
        assert (one.mean.low, one.mean.high) == pytest.approx(tuple(ends))


@given(SEEDS)
@settings(deadline=None, max_examples=15)
def test_order_of_images_changes_nothing(seed):
    owners, reference, other = people(seed)
    order = np.random.default_rng(seed).permutation(len(owners))
    draws, rows = draw_people(9, 5, seed), np.arange(len(owners))
    found = measure_paired(reference, other, FaceSet(owners, rows), draws, FARS)
    moved = measure_paired(reference[order], other[order], FaceSet(owners[order], rows), draws, FARS)
    for key, one in found.at.items():
        for name in ("threshold", "shift", "kept_far", "kept_tar"):
            assert getattr(one, name).value == pytest.approx(getattr(moved.at[key], name).value)
            assert getattr(one, name).low == pytest.approx(getattr(moved.at[key], name).low)
    assert {(p.same, round(p.other, 9)) for p in found.most_changed} == {
        (p.same, round(p.other, 9)) for p in moved.most_changed
    }


@given(SEEDS)
@settings(deadline=None, max_examples=15)
def test_the_models_swapped_lose_what_was_won(seed):
    owners, reference, other = people(seed)
    there, back = (
        JointFigures(score_jointly(*pair, owners, FARS), FARS).figures()
        for pair in ((reference, other), (other, reference))
    )
    at = {name: place for place, name in enumerate(FIELDS)}
    assert there[:, at["shift"]] == pytest.approx(-back[:, at["shift"]])
    for kind in ("genuine", "impostor"):
        assert there[:, at[f"own_{kind}_lost"]] == pytest.approx(back[:, at[f"own_{kind}_won"]])


def test_a_model_beside_itself_changes_nothing():
    owners, reference, _ = people(0)
    faces = FaceSet(owners, first_of_each(owners, 3))
    found = measure_paired(reference, 2 * reference, faces, draw_people(9, 50), FARS)
    assert found.genuine_drift.mean.high == pytest.approx(0, abs=1e-15)
    for one in found.at.values():
        assert (one.shift.value, one.shift.low, one.shift.high) == pytest.approx((0, 0, 0), abs=1e-15)
        assert not one.flipped


def test_figures_are_those_of_measure_accuracy_and_of_separation():
    owners, reference, other = people(1, count=20)
    faces, draws = FaceSet(owners, first_of_each(owners, 3)), draw_people(20, 30)
    found = measure_paired(reference, other, faces, draws, (1e-6, *FARS))
    assert found.unsupported == ("1e-6",)
    assert found.figures == measure_accuracy(reference, other, faces, draws, FARS)
    rows = faces.compared
    alone = measure_separation(other[rows], owners[rows], FARS)
    assert alone.rates.tar == pytest.approx({key: found.figures[f"tar@{key}"].value for key in found.at})
    assert alone.rates.thresholds == pytest.approx({key: one.threshold.value for key, one in found.at.items()})
    mixed = measure_separation(reference[rows], owners[rows], FARS, probe=other[rows])
    assert mixed.rates.tar == pytest.approx({key: found.figures[f"mixed_tar@{key}"].value for key in found.at})
    intervals = tar_intervals(other[rows], owners[rows], FARS, draws)
    assert intervals == {key: found.figures[f"tar@{key}"] for key in found.at}


def test_listed_pairs_are_those_that_changed_most():
    owners, reference, other = people(2, count=20)
    compared = first_of_each(owners, 3)
    found = measure_paired(reference, other, FaceSet(owners, compared), draw_people(20, 5), FARS, listed=7)
    first, second, scores = every_pair(owners[compared], reference[compared], other[compared])
    drift, same = np.abs(scores[1] - scores[0]), (owners[compared][first] == owners[compared][second])
    for kind, listed in ((same, found.most_changed[:7]), (~same, found.most_changed[7:])):
        places = np.flatnonzero(kind)[np.argsort(-drift[kind])[:7]]
        assert [{one.first, one.second} for one in listed] == [
            {compared[first[at]], compared[second[at]]} for at in places
        ]
        assert [one.other for one in listed] == pytest.approx(scores[1][places])
        assert all((owners[one.first] == owners[one.second]) == one.same for one in listed)


def test_flipped_pairs_are_on_different_sides():
    owners, reference, other = people(3, count=20)
    found = measure_paired(reference, other, FaceSet(owners, np.arange(len(owners))), draw_people(20, 5), FARS)
    one = found.at["1e-1"]
    assert len(one.flipped) == 20
    for pair in one.flipped:
        assert (pair.reference >= one.float_threshold.value) != (pair.other >= one.threshold.value)
    sizes = [abs(pair.other - pair.reference) for pair in one.flipped]
    assert sizes == sorted(sizes, reverse=True)


def test_dropped_impostors_and_blocks_change_nothing(monkeypatch):
    owners, reference, other = people(0, count=120)
    counts = draw_people(120, 1, 1)[0]
    whole = score_jointly(reference, other, owners, (1.0,))
    assert len(whole.impostor.first) == whole.counts.impostors
    monkeypatch.setattr(blocks, "ROWS", 50)
    monkeypatch.setattr(blocks, "COLUMNS", 70)
    parts = score_jointly(reference, other, owners, (1e-3,))
    assert len(parts.impostor.first) < whole.counts.impostors / 4
    assert JointFigures(parts, (1e-3,)).figures(counts) == pytest.approx(JointFigures(whole, (1e-3,)).figures(counts))
    assert parts.drift_std == pytest.approx(whole.drift_std)
    assert sorted(zip(parts.changed.first, parts.changed.second, strict=True)) == sorted(
        zip(whole.changed.first, whole.changed.second, strict=True)
    )


def test_what_cannot_be_kept_has_no_figure(monkeypatch):
    # All scores of the second model are so high that at the first one's threshold nearly all pairs would pass.
    owners, reference, _ = people(0, count=120)
    monkeypatch.setattr(joint, "MOST_KEPT", 5000)
    found = JointFigures(score_jointly(reference, reference + 9, owners, (1e-3,)), (1e-3,)).figures()[0]
    named = dict(zip(FIELDS, found, strict=True))
    assert np.isnan(named["kept_far"])
    assert np.isnan(named["kept_impostor_won"])
    assert 0 <= named["own_impostor_won"] <= 1e-3
    assert named["kept_tar"] > 0.99
    monkeypatch.undo()
    kept = JointFigures(score_jointly(reference, reference + 9, owners, (1e-3,)), (1e-3,)).figures()[0]
    _, _, scores = every_pair(owners, reference, reference + 9)
    strangers = owners[np.triu_indices(len(owners), 1)[0]] != owners[np.triu_indices(len(owners), 1)[1]]
    expected = (scores[1][strangers] >= named["float_threshold"]).mean()
    assert dict(zip(FIELDS, kept, strict=True))["kept_far"] == pytest.approx(expected)


def test_rates_that_would_fill_the_memory_are_named(monkeypatch):
    owners, reference, other = people(0, count=40)
    faces, draws = FaceSet(owners, np.arange(len(owners))), draw_people(40, 5)
    monkeypatch.setattr(joint, "MOST_KEPT", 2000)
    found = measure_paired(reference, other, faces, draws, (0.1, 1e-2))
    assert (found.too_large, list(found.at)) == (("1e-1",), ["1e-2"])
    assert list(tar_intervals(other, owners, (0.1, 1e-2), draws)) == ["1e-2"]
    for refused in (
        lambda: measure_accuracy(reference, other, faces, draws, (0.1,)),
        lambda: score_every_pair(reference, owners, (0.1,)),
    ):
        with pytest.raises(MeasurementError, match="impostor pairs are too many"):
            refused()
    monkeypatch.setattr(joint, "MOST_KEPT", 20)
    assert tar_intervals(other, owners, (1e-2,), draws) == {}
    with pytest.raises(MeasurementError, match="genuine pairs are too many"):
        measure_paired(reference, other, faces, draws, (1e-2,))


def test_draws_without_figures_leave_no_interval():
    owners, reference, other = people(0)
    nobody = np.zeros((3, 9))
    nobody[:, 2] = 9
    found = measure_paired(reference, other, FaceSet(owners, np.arange(len(owners))), nobody, FARS)
    for one in (found.at["1e-1"].threshold, found.impostor_drift.mean, found.figures["tar@1e-1"]):
        assert np.isfinite(one.value)
        assert np.isnan([one.low, one.high]).all()


def test_rates_are_supported_from_one_impostor_on():
    assert supported((1e-2, 1e-3, 1e-4), 1000) == (1e-2, 1e-3)
    assert supported((1e-3,), 999) == ()


def test_models_of_different_images_are_refused():
    owners, reference, other = people(0)
    with pytest.raises(MeasurementError, match="cannot be compared"):
        score_jointly(reference, other[1:], owners, FARS)
