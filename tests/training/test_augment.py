"""Changed crops: each change does what its name says, alone, and the same seed changes alike."""

import numpy as np
import pytest

from qface_toolkit.training.augment import augmented
from qface_toolkit.training.recipe import Augment

NOTHING = dict.fromkeys(("mirror", "gray", "blur", "erase", "mix", "zoom", "turn", "light", "contrast"), 0.0)
CROP = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)


def changed(crop=CROP, seed=0, other=None, **options):
    return augmented(crop, Augment(**{**NOTHING, "shift": 0, **options}), np.random.default_rng(seed), other)


def test_nothing_asked_for_is_nothing_changed():
    assert np.array_equal(changed(), CROP)


def test_mirrored():
    assert np.array_equal(changed(mirror=1.0), CROP[:, ::-1])


def test_a_shift_moves_whole_pixels_and_repeats_the_edge():
    ramp = np.broadcast_to(np.arange(112, dtype=np.uint8)[None, :, None], (112, 112, 3))
    for seed in range(8):
        steps = changed(ramp, seed, shift=5)[0, :, 0].astype(int) - np.arange(112)
        middle = set(steps[10:-10])
        assert len(middle) == 1 and abs(middle.pop()) <= 5
    assert len({changed(ramp, seed, shift=5)[0, 50, 0] for seed in range(30)}) > 5


def test_zoom_and_turn_keep_the_middle():
    dot = np.zeros((112, 112, 3), np.uint8)
    dot[54:58, 54:58] = 255
    for seed in range(6):
        found = changed(dot, seed, zoom=0.2, turn=20.0)
        rows, columns = np.nonzero(found[:, :, 0] > 100)
        assert rows.mean() == pytest.approx(55.5, abs=1.0) and columns.mean() == pytest.approx(55.5, abs=1.0)


def test_a_turn_turns():
    line = np.zeros((112, 112, 3), np.uint8)
    line[54:58] = 255
    slopes = []
    for seed in range(10):
        rows, columns = np.nonzero(changed(line, seed, turn=20.0)[:, :, 0] > 100)
        slopes.append(np.degrees(np.arctan(np.polyfit(columns, rows, 1)[0])))
    assert max(map(abs, slopes)) < 21 and np.std(slopes) > 5


def test_gray_has_one_colour_and_blur_fewer_differences():
    gray = changed(gray=1.0)
    assert (gray[..., 0] == gray[..., 1]).all() and (gray[..., 1] == gray[..., 2]).all()
    assert (
        np.abs(np.diff(changed(blur=1.0).astype(int), axis=0)).mean()
        < 0.5 * np.abs(np.diff(CROP.astype(int), axis=0)).mean()
    )


def test_light_and_contrast_stay_within_their_bounds():
    flat = np.full((112, 112, 3), 100, np.uint8)
    levels = [changed(flat, seed, light=0.3)[0, 0, 0] for seed in range(40)]
    assert 70 <= min(levels) < 85 and 115 < max(levels) <= 130
    spreads = [changed(seed=seed, contrast=0.5).std() / CROP.std() for seed in range(20)]
    assert 0.45 < min(spreads) < 0.8 and max(spreads) > 1.05


def test_a_blend_keeps_at_least_half_of_the_image():
    other = np.full_like(CROP, 255)
    for seed in range(10):
        found = changed(seed=seed, other=other)
        share = (found.astype(float) - CROP).sum() / (255.0 - CROP).sum()
        assert 0 <= share <= 0.51


def test_what_covers_is_a_rectangle():
    black = np.zeros_like(CROP)
    covered = (changed(black, erase=1.0) > 0).any(2)
    rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
    assert covered[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean() > 0.98
    assert 0.005 < covered.mean() < 0.15


def test_turning_one_change_on_leaves_the_others_as_they_were():
    for seed in range(5):
        moved = changed(seed=seed, shift=4)
        assert np.array_equal(changed(seed=seed, shift=4, mirror=1.0), moved[:, ::-1])
