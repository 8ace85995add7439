"""Alignment: known transforms come back, and every pixel is the picture's own value at the place it came from."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from qface_toolkit.evaluation.align import TEMPLATE, align, similarity
from qface_toolkit.framing import STANDARD, Frame

ANGLES = st.floats(-np.pi, np.pi)
SCALES = st.floats(0.2, 5.0)
SHIFTS = st.floats(-300.0, 300.0)


def moved(points, angle, scale, x, y):
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ turn.T + [x, y]


@given(ANGLES, SCALES, SHIFTS, SHIFTS)
@settings(deadline=None)
def test_a_similarity_is_found_exactly(angle, scale, x, y):
    landmarks = moved(TEMPLATE, angle, scale, x, y)
    matrix = similarity(landmarks)
    assert np.allclose(landmarks @ matrix[:, :2].T + matrix[:, 2], TEMPLATE, atol=1e-6)


@given(st.integers(0, 1000), ANGLES, SCALES)
@settings(deadline=None)
def test_no_other_similarity_is_nearer(seed, angle, scale):
    rng = np.random.default_rng(seed)
    landmarks = moved(TEMPLATE, angle, scale, 5, 7) + rng.normal(0, 4 * scale, (5, 2))
    matrix = similarity(landmarks)
    best = ((landmarks @ matrix[:, :2].T + matrix[:, 2] - TEMPLATE) ** 2).sum()
    for _ in range(20):
        nudge = moved(np.eye(2), rng.normal(0, 0.1), 1 + rng.normal(0, 0.1), 0, 0)
        other = nudge @ matrix + rng.normal(0, 0.01, (2, 3))
        turn = np.array([[other[0, 0], other[0, 1]], [-other[0, 1], other[0, 0]]])
        assert ((landmarks @ turn.T + other[:, 2] - TEMPLATE) ** 2).sum() >= best - 1e-9


def test_a_mirrored_face_is_turned_and_not_mirrored():
    matrix = similarity(TEMPLATE * [-1, 1])
    assert np.linalg.det(matrix[:, :2]) > 0


@pytest.mark.parametrize(
    "landmarks",
    [np.zeros((5, 2)), np.full((5, 2), 7.0), np.full((5, 2), np.nan), TEMPLATE * np.inf],
    ids=["zero", "one place", "nan", "infinite"],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_landmarks_in_one_place_are_refused(landmarks):
    with pytest.raises(ValueError, match="five different points"):
        similarity(landmarks)


def wave(x, y):
    """Return a smooth pattern at pixel coordinates, whose middle of the first pixel is at (0, 0); three colours."""
    return np.stack([128 + 100 * np.sin(x / 9 + k) * np.cos(y / (11 + k)) for k in range(3)], axis=-1)


@given(ANGLES, st.floats(0.8, 4.0), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
@settings(deadline=None, max_examples=30)
def test_a_known_pattern_comes_back_to_one_grey_level(angle, scale, x, y):
    side = int(200 * scale) + 120
    picture = np.rint(wave(*np.meshgrid(np.arange(side), np.arange(side)))).astype(np.uint8)
    around = moved(TEMPLATE - 56, angle, scale, side / 2 + x, side / 2 + y)
    crop = align(picture, around)
    at = np.stack(np.meshgrid(np.arange(112), np.arange(112)), axis=-1) - 56.0
    places = moved(at.reshape(-1, 2), angle, scale, side / 2 + x, side / 2 + y)
    difference = crop.reshape(-1, 3) - wave(places[:, 0], places[:, 1])
    # A mean of four pixels falls short of the pattern's own curve by up to a fifth of a grey level; half is rounding.
    assert np.abs(difference).max() < 1.3
    assert np.abs(difference).mean() < 0.45
    assert abs(difference.mean()) < 0.1


@given(st.integers(-3, 3), st.integers(-3, 3))
@settings(deadline=None, max_examples=20)
def test_whole_shifts_copy_pixels_and_leave_black_outside(x, y):
    picture = np.random.default_rng(0).integers(1, 256, (112, 112, 3), np.uint8)
    expected = np.zeros_like(picture)
    rows, columns = (slice(max(-shift, 0), 112 - max(shift, 0)) for shift in (y, x))
    taken = (slice(max(shift, 0), 112 + min(shift, 0)) for shift in (y, x))
    expected[rows, columns] = picture[tuple(taken)]
    assert np.array_equal(align(picture, TEMPLATE + [x, y]), expected)


def test_the_border_fades_over_one_pixel_as_a_mean_with_black_does():
    white = np.full((112, 112, 3), 200, np.uint8)
    crop = align(white, TEMPLATE + [0.25, -0.5])
    assert crop[50, 110].tolist() == [200] * 3
    assert crop[50, 111].tolist() == [150] * 3
    assert crop[0, 50].tolist() == [100] * 3
    assert crop[0, 111].tolist() == [75] * 3


@pytest.mark.parametrize("shift", [(500, 0), (-500, 0), (0, 500), (0, -500), (113, 113), (-113, -113), (1e9, 1e9)])
def test_a_face_outside_of_the_picture_is_black(shift):
    assert not align(np.full((112, 112, 3), 200, np.uint8), TEMPLATE + np.array(shift)).any()


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (3, 2)])
def test_tiny_pictures_are_taken(size):
    assert align(np.full((*size, 3), 200, np.uint8), TEMPLATE).max() <= 200


@given(ANGLES, st.floats(0.3, 3.0), st.floats(-200.0, 200.0), st.floats(-200.0, 200.0))
@settings(deadline=None, max_examples=40)
def test_pillow_agrees_where_it_is_told_of_its_own_corners(angle, scale, x, y):
    picture = np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)
    landmarks = moved(TEMPLATE - 56, angle, scale, 60 + x, 40 + y)
    matrix = similarity(landmarks)
    turn = np.linalg.inv(matrix[:, :2])
    shift = -turn @ matrix[:, 2]
    # Black of one pixel around the picture, and coordinates of corners instead of middles.
    padded = Image.fromarray(np.pad(picture, ((1, 1), (1, 1), (0, 0))))
    corner = shift + 1.5 - turn.sum(axis=1) / 2
    data = (*turn[0], corner[0], *turn[1], corner[1])
    other = padded.transform((112, 112), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    difference = np.abs(align(picture, landmarks).astype(int) - np.asarray(other))
    # Pillow cuts where this rounds, and ends the picture half a pixel earlier.
    assert (difference > 1).mean() < 0.02


FRAMES = [
    Frame("arcface", (160, 128)),
    Frame("facenet", (160, 160)),
    Frame("dlib", (150, 150)),
    Frame("none", (64, 48)),
]


@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_a_face_is_sampled_once_into_a_frame(frame):
    """It shows what the aligned crop shows when it is taken into the frame, where that shows anything."""
    picture = np.rint(wave(*np.meshgrid(np.arange(400), np.arange(400)))).astype(np.uint8)
    landmarks = moved(TEMPLATE, 0.3, 1.7, 120, 60)
    framed, aligned = align(picture, landmarks, frame), align(picture, landmarks, STANDARD)
    assert framed.shape == (*frame.size, 3)
    x, y = frame.places()
    shown = ((x > 1) & (x < 110) & (y > 1) & (y < 110)).reshape(
        frame.size[0], frame.oversampling, frame.size[1], frame.oversampling
    )
    difference = np.abs(framed.astype(int) - frame.take(aligned))[shown.all(axis=(1, 3))]
    assert difference.mean() < 3, difference.mean()


def test_what_an_aligned_crop_cuts_off_is_seen_in_a_frame():
    white = np.full((400, 400, 3), 255, np.uint8)
    assert align(white, moved(TEMPLATE, 0.0, 1.0, 100, 100), Frame("dlib", (150, 150))).min() == 255
