"""Losses of groups are those of their images alone, and gaps are differences of shared draws."""

import numpy as np
import pytest

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.compare import compare_models
from qface_toolkit.scoring.groups import losses_by_group, measure_groups
from qface_toolkit.scoring.resampling import Estimate, draw_people, estimates, worst_person

FARS = (1e-2, 0.1)


def people(count=40, images=4, noise=(0.05, 0.6)):
    """Return people of whom every other one suffers more from compression."""
    rng = np.random.default_rng(0)
    owners = rng.permutation(np.repeat(np.arange(count), images))
    reference = rng.standard_normal((count, 8))[owners] + 0.6 * rng.standard_normal((len(owners), 8))
    amount = np.array(noise)[owners % 2][:, None]
    return owners, reference, reference + amount * rng.standard_normal(reference.shape)


def groups_of(owners):
    return ["odd" if owner % 2 else "even" for owner in owners]


def test_a_group_is_measured_on_its_images_alone():
    owners, reference, other = people()
    draws = draw_people(40, 50)
    found = measure_groups(compare_models(reference, other, owners, draws, FARS), groups_of(owners), FARS)
    assert list(found) == ["even", "odd"]
    rows = np.flatnonzero(owners % 2 == 1)
    alone = estimates(compare_models(reference[rows], other[rows], owners[rows], draws, FARS).samples)
    assert (found["odd"].images, found["odd"].people) == (80, 20)
    assert set(found["odd"].figures) == {
        "cosine_mean",
        "cosine_p1",
        "cosine_min",
        "cosine_worst_person",
        "loss_ratio",
        "tar_lost@1e-2",
        "tar_lost@1e-1",
        "mixed_tar_lost@1e-2",
        "mixed_tar_lost@1e-1",
    }
    assert {name: one for name, one in found["odd"].figures.items() if name != "loss_ratio"} == {
        name: alone[name] for name in found["odd"].figures if name != "loss_ratio"
    }


def test_the_ratio_of_losses_tells_who_loses_more():
    owners, reference, other = people()
    comparison = compare_models(reference, other, owners, draw_people(40, 50), FARS)
    found = measure_groups(comparison, groups_of(owners), FARS, names=("odd", "nobody", "even"))
    assert list(found) == ["odd", "even"]
    odd, even = (found[name].figures["loss_ratio"] for name in ("odd", "even"))
    lost = {name: 1 - one.figures["cosine_mean"].value for name, one in found.items()}
    assert odd.value == pytest.approx(2 * lost["odd"] / (lost["odd"] + lost["even"]))
    assert odd.low > 1.25 > 1 > even.high


def test_the_worst_person_is_the_lowest_mean_of_one():
    owners = np.repeat(np.arange(4), 2)
    cosines = np.array([1, 1, 0.9, 0.8, 0.99, 0.5, 1, 1])
    value, drawn = worst_person(cosines, owners, draw_people(4, 200))
    assert value == pytest.approx(0.745)
    assert {round(float(one), 3) for one in drawn} == {0.745, 0.85, 1.0}


def test_losses_by_group_leave_out_whoever_is_few_or_in_none():
    owners = np.repeat(np.arange(30), 4)
    cosines = np.where(owners < 10, 0.98, 0.99)
    groups = ["dark" if owner < 10 else "light" if owner < 25 else "few" if owner < 28 else "" for owner in owners]
    found = {one.name: one for one in losses_by_group(cosines, owners, groups, draw_people(30), least_people=8)}
    assert found.keys() == {"dark", "light"} and found["dark"].people == 10
    assert found["dark"].cosine_mean == pytest.approx(0.98)
    assert found["dark"].loss_ratio.value == pytest.approx(0.02 / (0.04 / 3))
    assert found["dark"].loss_ratio.low < 1.5 < found["dark"].loss_ratio.high
    same = losses_by_group(np.ones(120), owners, groups, draw_people(30), least_people=8)
    assert {one.loss_ratio.value for one in same} == {1.0}


def test_only_the_images_of_a_group_count_for_it():
    """One person may have images in several groups."""
    owners = np.repeat(np.arange(20), 10)
    dark = np.arange(200) % 10 == 0
    cosines = np.where(dark, 0.9, 0.99)
    [found] = losses_by_group(cosines, owners, np.where(dark, "dark", "").tolist(), draw_people(20), least_people=8)
    lost = found.loss_ratio
    assert lost.low == pytest.approx(lost.value) == pytest.approx(lost.high) == pytest.approx(0.1 / 0.019)


def test_two_models_that_are_the_same_harm_nobody():
    owners = np.repeat(np.arange(20), 4)
    groups = ["dark" if owner < 10 else "light" for owner in owners]
    cosines = 1 - np.where(owners < 10, 4e-12, 1e-12)
    for one in losses_by_group(cosines, owners, groups, draw_people(20), least_people=8):
        assert one.loss_ratio == Estimate(1.0, 1.0, 1.0)


def test_gaps_tell_who_loses_more():
    owners, reference, other = people()
    comparison = compare_models(reference, other, owners, draw_people(40, 50), FARS)
    found, whole = measure_groups(comparison, groups_of(owners), FARS), estimates(comparison.samples)
    for one in found.values():
        for name, gap in one.gaps.items():
            assert gap.value == pytest.approx(one.figures[name].value - whole[name].value)
            assert gap.low <= gap.high
    assert found["odd"].gaps["cosine_mean"].high < 0 < found["even"].gaps["cosine_mean"].low


def test_the_gap_of_everybody_is_nothing():
    owners, reference, other = people()
    comparison = compare_models(reference, other, owners, draw_people(40, 50), FARS)
    found = measure_groups(comparison, ["all"] * len(owners), FARS)
    assert all((gap.value, gap.low, gap.high) == (0, 0, 0) for gap in found["all"].gaps.values())


def test_groups_that_are_too_small_say_why():
    owners, reference, other = people()
    labels = np.array(groups_of(owners), dtype=object)
    labels[owners < 5] = "few"
    lonely = [np.flatnonzero(owners == owner)[0] for owner in range(10, 30)]
    labels[lonely] = "one each"
    labels[owners == 39] = None
    comparison = compare_models(reference, other, owners, draw_people(40, 10), (1e-4, 0.1))
    found = measure_groups(comparison, labels.tolist(), (1e-4, 0.1))
    assert sorted(found) == ["even", "few", "odd", "one each"]
    assert "5 people are too few" in found["few"].skipped
    assert "nobody has two images" in found["one each"].skipped
    assert not found["few"].figures
    assert not found["one each"].gaps
    assert found["odd"].skipped is None
    assert found["odd"].unsupported == ("1e-4",)


def test_a_group_for_each_image_is_needed():
    owners, reference, other = people()
    with pytest.raises(MeasurementError, match="2 groups came for 160 images"):
        measure_groups(compare_models(reference, other, owners, draw_people(40, 5), FARS), ["a", "b"], FARS)
