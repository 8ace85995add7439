"""What changes from model to model, against the plain definitions, with every person really there as often as drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain import crosswise, every_pair, people, repeated, tar_at_far

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring import bins, blocks, both_models, drawn
from qface_toolkit.scoring.both_models import Best, ScoredPairs
from qface_toolkit.scoring.compare import compare_models
from qface_toolkit.scoring.drawn import FIELDS
from qface_toolkit.scoring.paired import measure_paired
from qface_toolkit.scoring.rates import far_key
from qface_toolkit.scoring.resampling import draw_people
from qface_toolkit.scoring.separation import measure_separation

FARS = (1e-3, 1e-2, 0.1)
SEEDS = st.integers(0, 1000)
NO_DRAWS = np.empty((0, 9))


@pytest.fixture(scope="module", autouse=True)
def coarse_bins():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bins, "BINS", 10_000)
        yield


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
    comparison = compare_models(reference, other, owners, counts[None], FARS)
    found = comparison.judged[1][0] if drawn else comparison.judged[0]
    assert comparison.fars[-2:] == (1e-2, 0.1)
    for far, row in zip(comparison.fars, found, strict=True):
        assert row == pytest.approx(slow_fields(same, scores[0][places], scores[1][places], far))
    assert len(FIELDS) == found.shape[1]


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_tar_of_both_models_and_crosswise_is_that_of_sorted_scores(seed):
    owners, reference, other = people(seed)
    counts = draw_people(9, 1, seed)[0]
    fars = (1e-2, 0.1)
    found = compare_models(reference, other, owners, counts[None], fars).samples
    first, second, (before, after) = every_pair(owners, reference, other)
    sets = {"float_tar": (first, second, before), "tar": (first, second, after)}
    sets["mixed_tar"] = crosswise(owners, reference, other)
    for name, (first, second, scores) in sets.items():
        for places, of_draw in ((np.arange(len(first)), False), (repeated(owners, first, second, counts), True)):
            same = (owners[first] == owners[second])[places]
            plain = tar_at_far(scores[places][same], scores[places][~same], fars)
            given = [found[f"{name}@{far_key(far)}"] for far in fars]
            assert [drawn[0] if of_draw else whole for whole, drawn in given] == pytest.approx(plain)


def test_no_more_than_twice_the_wanted_scores_are_held():
    best = Best(10)
    scores = np.random.default_rng(0).permutation(100.0 * np.arange(100))
    for part in scores.reshape(20, 5):
        best.add(ScoredPairs(np.zeros((2, 5), np.intp), part[None]))
        assert best.held <= 20
    assert best.floor > 0
    assert sorted(best.kept().scores[0]) == sorted(scores)[-10:]


@pytest.mark.parametrize("owners", [[0, 0, 0], [0, 1, 2], []], ids=["one person", "one image each", "nobody"])
def test_sets_without_both_kinds_of_pairs_are_refused(owners):
    rows = np.ones((len(owners), 4))
    with pytest.raises(MeasurementError, match="genuine and impostor"):
        compare_models(rows, rows, np.array(owners, dtype=int), NO_DRAWS, FARS)


@pytest.mark.parametrize("name", ["tar", "mixed_tar"])
def test_losses_are_float_less_the_other(name):
    owners, reference, other = people(1)
    figures = measure_paired(compare_models(reference, other, owners, draw_people(9, 50), FARS)).figures
    lost = figures[f"{name}_lost@1e-1"]
    assert lost.value == pytest.approx(figures["float_tar@1e-1"].value - figures[f"{name}@1e-1"].value)
    assert lost.value > 0
    assert lost.low < lost.value < lost.high


@given(SEEDS)
@settings(deadline=None, max_examples=20)
def test_drift_is_that_of_its_definition(seed):
    owners, reference, other = people(seed)
    draws = draw_people(9, 40, seed)
    first, second, scores = every_pair(owners, reference, other)
    drift, same = scores[1] - scores[0], owners[first] == owners[second]
    found = measure_paired(compare_models(reference, other, owners, draws, FARS))
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
    draws = draw_people(9, 5, seed)
    found = measure_paired(compare_models(reference, other, owners, draws, FARS))
    moved = measure_paired(compare_models(reference[order], other[order], owners[order], draws, FARS))
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
    both = [compare_models(*pair, owners, NO_DRAWS, FARS) for pair in ((reference, other), (other, reference))]
    there, back = (one.judged[0] for one in both)
    at = {name: place for place, name in enumerate(FIELDS)}
    assert there[:, at["shift"]] == pytest.approx(-back[:, at["shift"]])
    for kind in ("genuine", "impostor"):
        assert there[:, at[f"own_{kind}_lost"]] == pytest.approx(back[:, at[f"own_{kind}_won"]])
    crosswise_scores = [np.sort(one.mixed[1].scores[0]) for one in both]
    assert crosswise_scores[0] == pytest.approx(crosswise_scores[1])


def test_a_model_beside_itself_changes_nothing():
    owners, reference, _ = people(0)
    found = measure_paired(compare_models(reference, 2 * reference, owners, draw_people(9, 50), FARS))
    lost = [figure for name, figure in found.figures.items() if "lost" in name and "mixed" not in name]
    assert [(one.value, one.low, one.high) for one in lost] == [(0, 0, 0)] * 2
    assert found.figures["cosine_min"].low == pytest.approx(1)
    assert found.genuine_drift.mean.high == pytest.approx(0, abs=1e-15)
    for one in found.at.values():
        assert (one.shift.value, one.shift.low, one.shift.high) == pytest.approx((0, 0, 0), abs=1e-15)
        assert not one.flipped


def test_each_model_is_measured_as_it_is_alone():
    owners, reference, other = people(1, count=20)
    found = compare_models(reference, other, owners, draw_people(20, 30), (1e-6, *FARS))
    assert (found.unsupported, found.fars) == (("1e-6",), FARS)
    operating = measure_paired(found).at
    for model, alone, prefix in ((reference, found.alone[0], "float_"), (other, found.alone[1], "")):
        plain = measure_separation(model, owners, (1e-6, *FARS))
        assert (alone.rates, alone.balanced, alone.rank1) == (plain.rates, plain.balanced, plain.rank1)
        assert alone.rates.tar == {key: found.samples[f"{prefix}tar@{key}"][0] for key in operating}
        assert alone.rates.thresholds == {
            key: getattr(one, f"{prefix}threshold").value for key, one in operating.items()
        }


def test_listed_pairs_are_those_that_changed_most():
    owners, reference, other = people(2, count=20)
    found = measure_paired(compare_models(reference, other, owners, draw_people(20, 5), FARS, listed=7), listed=7)
    first, second, scores = every_pair(owners, reference, other)
    drift, same = np.abs(scores[1] - scores[0]), owners[first] == owners[second]
    for kind, listed in ((same, found.most_changed[:7]), (~same, found.most_changed[7:])):
        places = np.flatnonzero(kind)[np.argsort(-drift[kind])[:7]]
        assert [{one.first, one.second} for one in listed] == [{first[at], second[at]} for at in places]
        assert [one.other for one in listed] == pytest.approx(scores[1][places])
        assert all((owners[one.first] == owners[one.second]) == one.same for one in listed)


def test_flipped_pairs_are_on_different_sides():
    owners, reference, other = people(3, count=20)
    found = measure_paired(compare_models(reference, other, owners, draw_people(20, 5), FARS))
    one = found.at["1e-1"]
    assert len(one.flipped) == 20
    for pair in one.flipped:
        assert (pair.reference >= one.float_threshold.value) != (pair.other >= one.threshold.value)
    sizes = [abs(pair.other - pair.reference) for pair in one.flipped]
    assert sizes == sorted(sizes, reverse=True)


def test_dropped_impostors_and_blocks_change_nothing(monkeypatch):
    owners, reference, other = people(0, count=120)
    draws = draw_people(120, 3, 1)
    whole = compare_models(reference, other, owners, draws, (1.0, 1e-3))
    assert whole.impostor.rows.shape[1] == whole.counts.impostors
    assert whole.mixed[1].scores.size == 2 * whole.counts.impostors
    monkeypatch.setattr(blocks, "ROWS", 50)
    monkeypatch.setattr(blocks, "COLUMNS", 70)
    parts = compare_models(reference, other, owners, draws, (1e-3,))
    assert parts.impostor.rows.shape[1] < whole.counts.impostors / 4
    assert parts.mixed[1].scores.size < whole.counts.impostors / 2
    for found, plain in zip(parts.judged, whole.judged, strict=True):
        assert found[..., 0, :] == pytest.approx(plain[..., 1, :])
    for name, (value, drawn_values) in parts.samples.items():
        assert value == pytest.approx(whole.samples[name][0])
        assert drawn_values == pytest.approx(whole.samples[name][1])
    assert parts.drift_std == pytest.approx(whole.drift_std)
    assert sorted(zip(*parts.changed.rows, strict=True)) == sorted(zip(*whole.changed.rows, strict=True))


def test_draws_and_pairs_in_portions_change_nothing(monkeypatch):
    owners, reference, other = people(3, count=20)
    draws = draw_people(20, 25)
    whole = compare_models(reference, other, owners, draws, FARS)
    monkeypatch.setattr(drawn, "_DRAWS_AT_ONCE", 4)
    monkeypatch.setattr(drawn, "_PAIRS_AT_ONCE", 7)
    parts = compare_models(reference, other, owners, draws, FARS)
    assert np.array_equal(whole.judged[1], parts.judged[1])
    assert all(np.array_equal(drawn, parts.samples[name][1]) for name, (_, drawn) in whole.samples.items())


def test_people_drawn_hundreds_of_times_are_counted_in_full():
    owners, reference, other = people(3)
    counts = np.arange(9.0) * 100
    few, many = (compare_models(reference, other, owners, one[None], (0.1,)) for one in (counts / 100, counts))
    at = FIELDS.index("own_genuine_lost")
    assert many.judged[1][0, :, at:] == pytest.approx(few.judged[1][0, :, at:], abs=0.01)
    assert many.judged[1][0, :, 0] == pytest.approx(few.judged[1][0, :, 0], abs=0.01)


def test_what_cannot_be_kept_has_no_figure(monkeypatch):
    # All scores of the second model are so high that at the first one's threshold nearly all pairs would pass.
    owners, reference, _ = people(0, count=120)

    def fields():
        found = compare_models(reference, reference + 9, owners, np.empty((0, 120)), (1e-3,)).judged[0][0]
        return dict(zip(FIELDS, found, strict=True))

    monkeypatch.setattr(both_models, "MOST_KEPT", 5000)
    named = fields()
    assert np.isnan(named["kept_far"])
    assert np.isnan(named["kept_impostor_won"])
    assert 0 <= named["own_impostor_won"] <= 1e-3
    assert named["kept_tar"] > 0.99
    monkeypatch.undo()
    first, second, scores = every_pair(owners, reference, reference + 9)
    expected = (scores[1][owners[first] != owners[second]] >= named["float_threshold"]).mean()
    assert fields()["kept_far"] == pytest.approx(expected)


def test_a_draw_that_needs_more_impostors_than_were_kept_has_no_figure(monkeypatch):
    # The pairs that are kept are those of two people, who are not drawn.
    owners = np.repeat(np.arange(40), 5)
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((40, 64))[owners] + 0.3 * rng.standard_normal((200, 64))
    reference[owners < 2] = 1 + 0.01 * rng.standard_normal((10, 64))
    draws = np.ones((2, 40))
    draws[1, :2] = 0
    found = compare_models(reference, 2 * reference, owners, draws, (1e-3,))
    monkeypatch.setattr(both_models, "SPARE", 0)
    monkeypatch.setattr(both_models, "LEAST_KEPT", 45)
    few = compare_models(reference, 2 * reference, owners, draws, (1e-3,))
    whole, drawn_values = few.samples["mixed_tar@1e-3"]
    assert (whole, drawn_values[0]) == (found.samples["mixed_tar@1e-3"][0],) * 2
    assert np.isnan(drawn_values[1])
    assert not np.isnan(found.samples["mixed_tar@1e-3"][1]).any()


def test_a_set_too_small_for_any_rate_has_all_other_figures():
    owners, reference, other = people(0)
    comparison = compare_models(reference, other, owners, draw_people(9, 5), (1e-6,))
    found = measure_paired(comparison)
    assert (comparison.unsupported, found.at) == (("1e-6",), {})
    assert set(found.figures) == {"cosine_mean", "cosine_p1", "cosine_min", "cosine_worst_person"}
    assert found.genuine_drift.mean.low < found.genuine_drift.mean.high


def test_rates_that_would_fill_the_memory_are_named(monkeypatch):
    owners, reference, other = people(0, count=40)
    draws = draw_people(40, 5)
    monkeypatch.setattr(both_models, "MOST_KEPT", 2000)
    found = compare_models(reference, other, owners, draws, (0.1, 1e-2))
    assert (found.too_large, list(measure_paired(found).at)) == (("1e-1",), ["1e-2"])
    assert list(found.alone[0].rates.tar) == ["1e-1", "1e-2"]
    monkeypatch.setattr(both_models, "MOST_KEPT", 20)
    with pytest.raises(MeasurementError, match="genuine pairs are too many"):
        compare_models(reference, other, owners, draws, (1e-2,))


def test_draws_without_figures_leave_no_interval():
    owners, reference, other = people(0)
    nobody = np.zeros((3, 9))
    nobody[:, 2] = 9
    found = measure_paired(compare_models(reference, other, owners, nobody, FARS))
    mixed = found.figures["mixed_tar@1e-1"]
    for one in (found.at["1e-1"].threshold, found.impostor_drift.mean, found.figures["tar@1e-1"], mixed):
        assert np.isfinite(one.value)
        assert np.isnan([one.low, one.high]).all()


def test_models_of_different_images_are_refused():
    owners, reference, other = people(0)
    with pytest.raises(MeasurementError, match="cannot be compared"):
        compare_models(reference, other[1:], owners, NO_DRAWS, FARS)
