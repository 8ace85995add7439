"""Crops changed at random, as cameras, detectors and crowds change them; each from a seed of its own.

An image's changes depend on the seed, the epoch and its number, and on nothing that was drawn before: a resumed run,
and one on more processes, sees the same pictures.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from qface_toolkit.sources import Crop
from qface_toolkit.training.recipe import Augment

_GRAY = np.array([0.299, 0.587, 0.114], np.float32)
_FEWEST_PIXELS = 24
_MOST_COVERED = 0.35


def augmented(crop: Crop, options: Augment, rng: np.random.Generator, other: Crop | None = None) -> Crop:
    """Return a crop, uint8 [112, 112, 3], changed at random; `other` is one to blend in.

    Every number is drawn whether it is used or not, so that turning one change on leaves the others what they were.
    """
    chance, place = rng.random(6), rng.uniform(-1, 1, 8)
    pixels = _moved(crop, options, place)
    if chance[0] < options.mirror:
        pixels = pixels[:, ::-1]
    if chance[1] < options.blur:
        pixels = _coarse(pixels, (place[4] + 1) / 2)
    pixels = _lit(pixels, options, place[5], place[6], gray=bool(chance[2] < options.gray))
    if other is not None:
        pixels = _blended(pixels, other, (place[7] + 1) / 4)
    if chance[3] < options.erase:
        pixels = _covered(pixels, rng)
    return np.ascontiguousarray(pixels)


def _moved(crop: Crop, options: Augment, place: npt.NDArray[np.float64]) -> Crop:
    """Return a crop shifted by whole pixels, or zoomed and turned as well; what comes in repeats the edge."""
    right, down = (round(float(value) * options.shift) for value in place[:2])
    if options.zoom or options.turn:
        return _turned(crop, right, down, 1 + options.zoom * float(place[2]), options.turn * float(place[3]))
    if not right and not down:
        return crop
    rows = np.clip(np.arange(crop.shape[0]) - down, 0, crop.shape[0] - 1)
    columns = np.clip(np.arange(crop.shape[1]) - right, 0, crop.shape[1] - 1)
    return crop[rows][:, columns]


def _turned(crop: Crop, right: int, down: int, zoom: float, degrees: float) -> Crop:
    edge = crop.shape[0] // 4
    padded = np.pad(crop, ((edge, edge), (edge, edge), (0, 0)), mode="edge")
    cosine, sine = np.cos(np.radians(degrees)) / zoom, np.sin(np.radians(degrees)) / zoom
    middle_y, middle_x = (crop.shape[0] - 1) / 2, (crop.shape[1] - 1) / 2
    across = edge + middle_x - cosine * (middle_x + right) + sine * (middle_y + down)
    along = edge + middle_y - sine * (middle_x + right) - cosine * (middle_y + down)
    how = (cosine, -sine, across, sine, cosine, along)
    size = crop.shape[1], crop.shape[0]
    return np.asarray(Image.fromarray(padded).transform(size, Image.Transform.AFFINE, how, Image.Resampling.BILINEAR))


def _coarse(pixels: Crop, share: float) -> Crop:
    """Return an image as one of few pixels, enlarged again: a face from afar."""
    height, width = pixels.shape[:2]
    side = round(_FEWEST_PIXELS + share * (width / 1.5 - _FEWEST_PIXELS))
    small = Image.fromarray(np.ascontiguousarray(pixels)).resize((side, side), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))


def _lit(pixels: Crop, options: Augment, light: float, contrast: float, *, gray: bool) -> Crop:
    if not (options.light or options.contrast or gray):
        return pixels
    values = pixels.astype(np.float32)
    if gray:
        values = np.repeat((values @ _GRAY)[:, :, None], 3, axis=2)
    if options.light or options.contrast:
        middle = values.mean()
        values = (values - middle) * np.float32(1 + options.contrast * contrast) + middle
        values *= np.float32(1 + options.light * light)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _blended(pixels: Crop, other: Crop, share: float) -> Crop:
    """Return an image with another one shining through by a share of at most a half."""
    mixed = pixels.astype(np.float32) * np.float32(1 - share) + other.astype(np.float32) * np.float32(share)
    return np.rint(mixed).astype(np.uint8)


def _covered(pixels: Crop, rng: np.random.Generator) -> Crop:
    """Return an image with a rectangle of noise on it, as a hand or a mask would be."""
    height, width = pixels.shape[:2]
    high, wide = (max(1, round(side * rng.uniform(0.1, _MOST_COVERED))) for side in (height, width))
    top, left = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
    covered = pixels.copy()
    covered[top : top + high, left : left + wide] = rng.integers(0, 256, (high, wide, 3), np.uint8)
    return covered
