"""Losses of groups are those of their images alone, and gaps are differences of shared draws."""

import numpy as np
import pytest

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.compare import compare_models
from qface_toolkit.scoring.groups import measure_groups
from qface_toolkit.scoring.resampling import draw_people, estimates

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
        "tar_lost@1e-2",
        "tar_lost@1e-1",
        "mixed_tar_lost@1e-2",
        "mixed_tar_lost@1e-1",
    }
    assert found["odd"].figures == {name: alone[name] for name in found["odd"].figures}


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
