"""How an aligned crop becomes the picture that a network eats: whose template a face stands on, and how large.

Crops are passed around in one form, ArcFace's: 112x112 pixels on five landmarks. Networks were trained on others too.
`Frame` says where a face stands in a network's picture, so that sources draw it there, pictures from elsewhere are cut
out of what they are in one step, and nothing is enlarged twice. Every number here comes of sums and products of a few
Python floats, which all processors round alike: drawings depend on them to the last bit.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

CROP_SIZE = 112
"""Height and width in pixels of an aligned crop on ArcFace's five-point template."""

CropName = Literal["arcface", "facenet", "dlib", "none"]
CROP_NAMES: tuple[CropName, ...] = get_args(CropName)

Pixels = npt.NDArray[np.uint8]
Places = npt.NDArray[np.float64]
Points = tuple[tuple[float, float], ...]

_ARCFACE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
TEMPLATES: dict[str, tuple[int, Points]] = {
    "arcface": (CROP_SIZE, _ARCFACE),
    "facenet": (160, ((57.72, 56.11), (108.52, 55.78), (82.40, 86.70), (63.70, 115.23), (102.69, 115.32))),
    "dlib": (150, ((47.55, 46.60), (100.48, 46.60), (74.01, 76.56), (50.41, 103.02), (97.61, 103.02))),
}
"""For each crop, its side in pixels and where eyes, nose tip and mouth corners lie in it, (x, y) in pixels.

arcface: Deng et al. 2019, as InsightFace aligns. facenet: the box of an MTCNN detector in the middle of 160 pixels with
the margin of 32 that davidsandberg/facenet aligns with; the places in the box are the averages that
shaoanlu/faceswap-GAN gives (0.326 0.313, 0.723 0.311, 0.519 0.552, 0.373 0.775, 0.677 0.776). dlib: the average
face of its get_face_chip_details (five points of its 68: means of the eyes' six, and points 31, 49 and 55), with the
padding of 0.25 and the size of 150 that its recogniser was trained with.
"""

_Affine = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): (x, y) goes to (a x + b y + c, d x + e y + f), the middle of the first pixel at (0, 0)."""


def luma(pixels: Pixels) -> Pixels:
    """Return RGB pixels [..., 3] as gray ones [..., 1]: the luma of ITU-R 601, to the bit as Pillow's mode L has it."""
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)[..., None]


@dataclass(frozen=True)
class Frame:
    """Where a face stands in pictures of `size`, (height, width) in pixels: as on the template of `crop`.

    A template is scaled to the longer side, and the middle of the square is kept. `none` is the whole aligned crop,
    resized. What lies outside of a given crop is filled with the pixels of its edge.
    """

    crop: CropName = "arcface"
    size: tuple[int, int] = (CROP_SIZE, CROP_SIZE)

    @cached_property
    def from_aligned(self) -> _Affine:
        """The map from places in an aligned crop of 112x112 to places in this picture: a similarity, but for `none`."""
        height, width = self.size
        if self.crop == "none":
            return _scaled(width / CROP_SIZE, height / CROP_SIZE)
        side, points = TEMPLATES[self.crop]
        longer = max(height, width)
        middle = (1.0, 0.0, (width - longer) // 2, 0.0, 1.0, (height - longer) // 2)
        enlarged = _scaled(longer / side, longer / side)
        return _after(middle, enlarged if points is _ARCFACE else _after(enlarged, _similarity(_ARCFACE, points)))

    @cached_property
    def to_aligned(self) -> _Affine:
        """The map from places in this picture to places in an aligned crop of 112x112."""
        return _inverse(self.from_aligned)

    @property
    def scale(self) -> float:
        """Pixels of this picture for one of an aligned crop."""
        a, b, _, d, e, _ = self.from_aligned
        return math.sqrt(abs(a * e - b * d))

    @property
    def oversampling(self) -> int:
        """How many places to look at along each pixel so that nothing falls between them: one unless it shrinks."""
        return _places_a_pixel(self.to_aligned)

    def places(self) -> tuple[Places, Places]:
        """Return where each pixel of this picture lies in an aligned crop, (x, y), [H, W], finer by `oversampling`."""
        return _grid(self.to_aligned, self.size, self.oversampling)

    def take(self, crop: Pixels) -> Pixels:
        """Return an aligned crop, uint8 [side, side, 3] of any side, as a picture in this frame, uint8 [*size, 3].

        Bilinear, or a mean of several places where it shrinks; a crop of another side goes to 112x112 by a bicubic
        filter, as the field resizes verification sets.
        """
        side = crop.shape[0]
        if self == STANDARD:
            return crop if side == CROP_SIZE else _resized(crop)
        back = _after(_scaled(side / CROP_SIZE, side / CROP_SIZE), self.to_aligned)
        if crop.shape[:2] == self.size and all(abs(got - same) < 1e-6 for got, same in zip(back, _SAME, strict=True)):
            return crop
        return _sampled(crop, back, self.size)


STANDARD = Frame()
"""The aligned crop: ArcFace's template, 112x112."""

_SAME: _Affine = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def _resized(crop: Pixels) -> Pixels:
    return np.array(Image.fromarray(crop).resize((CROP_SIZE, CROP_SIZE), Image.Resampling.BICUBIC))


def _sampled(pixels: Pixels, back: _Affine, size: tuple[int, int]) -> Pixels:
    """Return the picture of `size` whose places `back` takes to places in `pixels`; outside, the edge goes on."""
    times = _places_a_pixel(back)
    x, y = _grid(back, size, times)
    height, width = pixels.shape[:2]
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left, top = (np.minimum(at.astype(np.intp), max(end - 2, 0)) for at, end in ((x, width), (y, height)))
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    across, down = ((at - whole).astype(np.float32)[..., None] for at, whole in ((x, left), (y, top)))
    upper = pixels[top, left] * (1 - across) + pixels[top, right] * across
    lower = pixels[bottom, left] * (1 - across) + pixels[bottom, right] * across
    return rounded_mean(upper * (1 - down) + lower * down, times)


def _grid(back: _Affine, size: tuple[int, int], times: int) -> tuple[Places, Places]:
    """Return where `back` takes the places of a picture, `times` of them along each pixel: x and y, each a plane."""
    rows, columns = ((np.arange(side * times) + 0.5) / times - 0.5 for side in size)
    a, b, c, d, e, f = back
    across, down = columns[None, :], rows[:, None]
    return across * a + down * b + c, across * d + down * e + f


def rounded_mean(pixels: npt.NDArray[np.floating], times: int) -> Pixels:
    """Return the means of blocks of `times` x `times` pixels 0..255, [H, W, 3], as whole numbers."""
    blocks = [pixels[row::times, column::times] for row in range(times) for column in range(times)]
    total = blocks[0]
    for block in blocks[1:]:  # one by one: numpy's own sums are added up in an order that processors choose
        total = total + block
    whole: Pixels = (total / (times * times) + 0.5).astype(np.uint8)
    return whole


def _places_a_pixel(back: _Affine) -> int:
    a, b, _, d, e, _ = back
    return max(1, math.ceil(max(math.sqrt(a * a + d * d), math.sqrt(b * b + e * e)) - 1e-3))


def _scaled(across: float, down: float) -> _Affine:
    """Return the map that resizes a picture: its corners, half a pixel before the first middle, stay corners."""
    return across, 0.0, (across - 1) / 2, 0.0, down, (down - 1) / 2


def _after(second: _Affine, first: _Affine) -> _Affine:
    """Return the map that does `first` and then `second`."""
    a, b, c, d, e, f = second
    p, q, r, s, t, u = first
    return a * p + b * s, a * q + b * t, a * r + b * u + c, d * p + e * s, d * q + e * t, d * r + e * u + f


def _inverse(affine: _Affine) -> _Affine:
    a, b, c, d, e, f = affine
    over = 1 / (a * e - b * d)
    p, q, s, t = e * over, -b * over, -d * over, a * over
    return p, q, -(p * c + q * f), s, t, -(s * c + t * f)


def _similarity(points: Points, wanted: Points) -> _Affine:
    """Return the rotation, scale and shift that take points nearest to others, by least squares (Umeyama 1991).

    In the plane these are complex numbers: the slope is the covariance over the variance.
    """
    first, second = ([complex(x, y) for x, y in given] for given in (points, wanted))
    middle, centre = (sum(given) / len(given) for given in (first, second))
    covariance = sum((one - middle).conjugate() * (other - centre) for one, other in zip(first, second, strict=True))
    slope = covariance / sum(((one - middle) * (one - middle).conjugate()).real for one in first)
    shift = centre - slope * middle
    return slope.real, -slope.imag, shift.real, slope.imag, slope.real, shift.imag
