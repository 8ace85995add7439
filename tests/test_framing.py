"""How an aligned crop becomes the picture that a network eats: templates, sizes, colours."""

import numpy as np
import pytest
from PIL import Image

from qface_toolkit.errors import CheckpointError, RecipeError
from qface_toolkit.framing import STANDARD, TEMPLATES, Frame, luma
from qface_toolkit.models import ModelSpec
from qface_toolkit.sources import draw


@pytest.fixture(scope="module")
def crop():
    """One drawing, uint8 [112, 112, 3]."""
    return draw("drawings", 1)[0]


def moved(frame, points):
    """Where a frame puts points (x, y) of an aligned crop."""
    a, b, c, d, e, f = frame.from_aligned
    return np.array([(a * x + b * y + c, d * x + e * y + f) for x, y in points])


ALIGNED = TEMPLATES["arcface"][1]


def test_the_aligned_crop_stays_as_it_is(crop):
    assert Frame() == STANDARD
    assert STANDARD.take(crop) is crop


@pytest.mark.parametrize("name", ["facenet", "dlib"])
def test_landmarks_come_to_lie_where_the_template_has_them(name):
    side, points = TEMPLATES[name]
    found = moved(Frame(name, (side, side)), ALIGNED)
    # Five points of another face cannot all be met by one similarity; no shift, turn or scale makes their sum smaller.
    distance = np.linalg.norm(found - points, axis=1)
    assert distance.max() < 0.04 * side, distance
    assert np.allclose(found.mean(0), np.mean(points, 0))


@pytest.mark.parametrize("name", ["arcface", "facenet", "dlib", "none"])
def test_twice_the_side_is_twice_the_picture(name):
    side = TEMPLATES.get(name, (64,))[0]
    small, large = (moved(Frame(name, (times * side, times * side)), ALIGNED) for times in (1, 2))
    assert np.allclose((small + 0.5) * 2, large + 0.5)


def test_the_middle_of_a_long_picture_is_kept():
    square, narrow = (moved(Frame("dlib", size), ALIGNED) for size in ((150, 150), (150, 120)))
    assert np.allclose(square - narrow, (15, 0))


def test_none_resizes_the_whole_crop():
    corners = [(-0.5, -0.5), (111.5, 111.5)]
    assert np.allclose(moved(Frame("none", (32, 64)), corners), [(-0.5, -0.5), (63.5, 31.5)])


@pytest.mark.parametrize("size", [(128, 128), (224, 224), (32, 32), (40, 80)])
def test_resizing_does_what_pillow_does(size, crop):
    mine = Frame("none", size).take(crop).astype(int)
    theirs = np.asarray(Image.fromarray(crop).resize(size[::-1], Image.Resampling.BILINEAR)).astype(int)
    difference = np.abs(mine - theirs).mean()
    assert difference < 3, difference


def test_what_lies_outside_is_the_edge_that_goes_on(crop):
    frame = Frame("dlib", (150, 150))
    taken = frame.take(crop)
    below = next(row for row in range(150) if frame.to_aligned[5] + frame.to_aligned[4] * row > 113)
    assert (taken[below:-1, 20:-20] == taken[-1, 20:-20]).mean() > 0.8  # the similarity turns it by half a degree
    assert taken[-1].std() > 0


def test_a_crop_of_another_side_is_taken_as_the_aligned_one(crop):
    large = np.asarray(Image.fromarray(crop).resize((224, 224), Image.Resampling.BICUBIC))
    frame = Frame("facenet", (160, 160))
    difference = np.abs(frame.take(large).astype(int) - frame.take(crop).astype(int)).mean()
    assert difference < 2, difference
    assert STANDARD.take(large).shape == (112, 112, 3)
    own = Frame("arcface", (224, 224))
    assert own.take(large) is large


def test_gray_is_what_pillow_makes_of_it(crop):
    assert np.array_equal(luma(crop)[..., 0], np.asarray(Image.fromarray(crop).convert("L")))


def test_a_gray_input_has_one_channel_and_one_mean(crop):
    spec = ModelSpec("light", (128, 128), 256).override({"color": "gray", "mean": 0, "std": 255})
    assert (spec.channels, spec.mean, spec.std, spec.input_shape) == (1, (0.0,), (255.0,), (1, 128, 128))
    inputs = spec.preprocess(crop[None])
    assert inputs.shape == (1, 1, 128, 128)
    assert np.array_equal(spec.pixels_of(inputs)[0], luma(spec.frame.take(crop)))


@pytest.mark.parametrize(
    ("size", "crop_name", "frame"),
    [
        ((112, 96), "arcface", STANDARD),
        ((96, 112), "arcface", STANDARD),
        ((128, 128), "arcface", Frame("arcface", (128, 128))),
        ((112, 112), "dlib", Frame("dlib", (112, 112))),
        ((32, 32), "none", Frame("none", (32, 32))),
    ],
)
def test_the_frame_of_a_model(size, crop_name, frame, crop):
    spec = ModelSpec("some", size, 8).override({"crop": crop_name})
    assert spec.frame == frame
    assert spec.preprocess(frame.take(crop)[None]).shape == (1, 3, *size)


def test_the_middle_of_the_crop_is_taken_to_the_byte(crop):
    spec = ModelSpec("some", (112, 96), 8)
    assert np.array_equal(spec.pixels_of(spec.preprocess(crop[None]))[0], crop[:, 8:104])


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"input_size": [160]}, r"is not \[HEIGHT, WIDTH\], each of 4 to 256 pixels"),
        ({"input_size": [160, 257]}, "each of 4 to 256 pixels"),
        ({"crop": "mtcnn"}, "is not one of arcface, facenet, dlib, none"),
        ({"color": "grey"}, "is not one of rgb, bgr, gray"),
        ({"color": "gray", "mean": [1, 2, 3]}, "neither a number nor a list of one: the input is gray"),
        ({"mean": [1, 1]}, "neither a number nor three of them"),
    ],
)
def test_facts_that_make_no_sense(facts, message):
    with pytest.raises(RecipeError, match=message):
        ModelSpec("some", (112, 112), 8).override(facts)


def test_a_gray_image_with_three_means_is_refused():
    spec = ModelSpec("some", (112, 112), 8, mean=(104.0, 117.0, 123.0))
    with pytest.raises(RecipeError, match=r"model.mean: \(104.0, 117.0, 123.0\) is there and 1 needed"):
        spec.override({"color": "gray"})
    with pytest.raises(CheckpointError, match="the network's images have 1 channel"):
        ModelSpec("some", (112, 112), 8, mean=(104.0, 117.0, 123.0), color="gray")
