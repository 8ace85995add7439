"""Losses of templates, against the protocol on lists in which every pair is really there that often."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring import tar_ijb as module
from qface_toolkit.scoring.resampling import draw_people
from qface_toolkit.scoring.tar_ijb import ListedScores, _Best, _weigh_impostors, measure_template_losses, tar_ijb

FARS = (1e-2, 0.1, 0.3)
SEEDS = st.integers(0, 1000)


def listed(seed, pairs=120, people=9):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, people, (2, pairs))
    first[:2], second[:2] = (0, 1), (0, 2)
    same = first == second
    # Whole hundredths, so that some scores are equal.
    scores = [np.round(rng.normal(0.5 * same, 0.3), 2).astype(np.float32) for _ in range(3)]
    return ListedScores(*scores), same, (first, second)


def slow_tar(scores, same, far):
    """Return TAR at the nearest rate, of every threshold there is."""
    points = [(0, 0)]
    for score in sorted(set(scores), reverse=True):
        points.append((int((same & (scores >= score)).sum()), int((~same & (scores >= score)).sum())))
    genuine, impostors = points[-1]
    return min(points, key=lambda point: (abs(point[1] - far * impostors), -point[1], -point[0]))[0] / genuine


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_a_person_counts_as_often_as_drawn(seed):
    scores, same, owners = listed(seed)
    draws = draw_people(9, 3, seed)
    totals = _weigh_impostors(owners[0][~same], owners[1][~same], draws)
    best = _Best(scores.other, same, owners, 1000)
    for counts, total in zip(draws, totals, strict=True):
        one, two = owners
        times = np.where(one == two, counts[one], counts[one] * counts[two]).astype(int)
        places = np.repeat(np.arange(len(same)), times)
        assert total == (~same[places]).sum()
        if same[places].any() and not same[places].all():
            expected = [slow_tar(scores.other[places], same[places], far) for far in FARS]
            assert best.tar(FARS, counts, total) == pytest.approx(expected)


def test_figures_are_those_of_the_protocol():
    scores, same, owners = listed(0)
    found = measure_template_losses(scores, same, owners, draw_people(9, 50), FARS)
    plain = {
        name: tar_ijb(one, same, FARS).tar
        for name, one in (("float_tar", scores.reference), ("tar", scores.other), ("mixed_tar", scores.mixed))
    }
    for name, rates in plain.items():
        assert {key: found[f"{name}@{key}"].value for key in rates} == rates
    for key, value in plain["tar"].items():
        assert found[f"tar_lost@{key}"].value == pytest.approx(plain["float_tar"][key] - value)
        assert found[f"mixed_tar_lost@{key}"].low <= found[f"mixed_tar_lost@{key}"].high
    assert len(found) == 5 * len(FARS)


def test_a_model_loses_nothing_to_itself():
    scores, same, owners = listed(1)
    twice = ListedScores(scores.other, scores.other, scores.other)
    found = measure_template_losses(twice, same, owners, draw_people(9, 20), FARS)
    lost = [one for name, one in found.items() if "lost" in name]
    assert [(one.value, one.low, one.high) for one in lost] == [(0, 0, 0)] * 6


def test_dropped_impostors_and_blocks_change_nothing(monkeypatch):
    scores, same, owners = listed(2, pairs=30_000, people=50)
    draws = draw_people(50, 5)
    whole = _Best(scores.other, same, owners, 10**6)
    few = _Best(scores.other, same, owners, 2000)
    totals = _weigh_impostors(owners[0][~same], owners[1][~same], draws)
    monkeypatch.setattr(module, "_PEOPLE_AT_ONCE", 7)
    assert _weigh_impostors(owners[0][~same], owners[1][~same], draws) == pytest.approx(totals)
    for counts, total in zip(draws, totals, strict=True):
        assert few.tar((1e-2,), counts, total) == whole.tar((1e-2,), counts, total)
    assert np.isnan(few.tar((0.5,), draws[0], totals[0])).all()


def test_an_impostor_pair_within_one_person_counts_once():
    draws = np.array([[3.0, 2.0]])
    assert _weigh_impostors(np.array([0, 0]), np.array([0, 1]), draws).tolist() == [3 + 6]


def test_rates_that_would_fill_the_memory_have_no_interval(monkeypatch):
    scores, same, owners = listed(0)
    monkeypatch.setattr(module, "MOST_KEPT", 100)
    found = measure_template_losses(scores, same, owners, draw_people(9, 20), (1e-2, 0.3))
    assert np.isfinite(found["tar@1e-2"].low)
    assert np.isfinite(found["tar@3e-1"].value)
    assert np.isnan([found["tar@3e-1"].low, found["tar_lost@3e-1"].high]).all()


def test_owners_that_do_not_fit_are_refused():
    scores, same, owners = listed(0)
    for wrong in ((owners[0][1:], owners[1]), (owners[0] + 9, owners[1])):
        with pytest.raises(MeasurementError, match="two owners"):
            measure_template_losses(scores, same, wrong, draw_people(9, 5), FARS)
