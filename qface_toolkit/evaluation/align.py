"""Face alignment on five landmarks, as the field does it: a similarity transform onto ArcFace's template, 112x112.

A network that eats other pictures is given what its frame makes of such a crop, sampled once from the photograph.
"""

import numpy as np
import numpy.typing as npt

from qface_toolkit.framing import STANDARD, TEMPLATES, Frame, rounded_mean
from qface_toolkit.sources import Crop

TEMPLATE = np.array(TEMPLATES[STANDARD.crop][1])
"""Where eyes, nose and mouth corners lie in an aligned crop, (x, y) in pixels (ArcFace, Deng et al. 2019)."""

Landmarks = npt.NDArray[np.floating]
"""Five points, [5, 2], (x, y) in pixels, the middle of the first pixel at (0, 0)."""

_Floats = npt.NDArray[np.float32]
_Places = npt.NDArray[np.intp]
# Coordinates beyond this are outside of any image, and still whole numbers in a float.
_FAR = 1e6


def similarity(landmarks: Landmarks) -> npt.NDArray[np.float64]:
    """Return the 2x3 matrix that takes landmarks nearest to TEMPLATE by rotation, scale and shift.

    Least squares, without reflection (Umeyama 1991, equations 34 to 43).

    Raises:
        ValueError: if the points are not finite or all lie in one place.
    """
    points = np.asarray(landmarks, np.float64)
    centre, middle = points.mean(axis=0), TEMPLATE.mean(axis=0)
    spread = ((points - centre) ** 2).sum() / len(points)
    if not np.isfinite(spread) or spread < 1e-9:
        raise ValueError("the landmarks are not five different points")
    left, strengths, right = np.linalg.svd((TEMPLATE - middle).T @ (points - centre) / len(points))
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    turned = (left * signs) @ right * ((strengths * signs).sum() / spread)
    return np.column_stack([turned, middle - turned @ centre])


def align(pixels: npt.NDArray[np.uint8], landmarks: Landmarks, frame: Frame = STANDARD) -> Crop:
    """Return the aligned crop of a picture, uint8 [height, width, 3], in a frame, uint8 [*frame.size, 3].

    Bilinear, black outside, pixel middles at whole coordinates, as OpenCV's warpAffine has it, but exact where that
    rounds coordinates to 1/32 of a pixel. A frame that is smaller than an aligned crop takes means of several places.

    Raises:
        ValueError: if the landmarks are not five different points.
    """
    matrix = similarity(landmarks)
    inverse = np.linalg.inv(matrix[:, :2])
    across, down = (places - shift for places, shift in zip(frame.places(), matrix[:, 2], strict=True))
    x, y = (row[0] * across + row[1] * down for row in inverse)
    return rounded_mean(_sampled(pixels, x, y), frame.oversampling)


def _sampled(pixels: npt.NDArray[np.uint8], x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> _Floats:
    """Return the colours at these places, a mean of the four pixels around each."""
    height, width = pixels.shape[:2]
    x, y = np.clip(x, -_FAR, _FAR), np.clip(y, -_FAR, _FAR)
    column, row = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    # A border of one black pixel is all that a mean of four can see of the outside.
    top, left = max(int(row.min()), -1), max(int(column.min()), -1)
    bottom, right = min(int(row.max()) + 1, height), min(int(column.max()) + 1, width)
    if bottom <= top or right <= left:
        return np.zeros((*x.shape, 3), np.float32)
    seen = _bordered(pixels, top, left, bottom, right)
    at_row, at_column = np.clip(row, top, bottom - 1) - top, np.clip(column, left, right - 1) - left
    down, along = ((exact - whole).astype(np.float32)[..., None] for exact, whole in ((y, row), (x, column)))
    flat, width_seen = seen.reshape(-1, 3), seen.shape[1]
    place = at_row * width_seen + at_column
    upper = _between(flat, place, place + 1, along)
    lower = _between(flat, place + width_seen, place + width_seen + 1, along)
    lower -= upper
    lower *= down
    upper += lower
    # Where the four lie outside altogether, nothing of them is seen.
    upper *= ((row >= -1) & (row < height) & (column >= -1) & (column < width))[..., None]
    return upper


def _between(flat: _Floats, first: _Places, second: _Places, share: _Floats) -> _Floats:
    """Return the means of the colours at two places, of which the second has this share."""
    mixed, other = flat.take(first, axis=0), flat.take(second, axis=0)
    other -= mixed
    other *= share
    mixed += other
    return mixed


def _bordered(pixels: npt.NDArray[np.uint8], top: int, left: int, bottom: int, right: int) -> npt.NDArray[np.float32]:
    """Return rows top..bottom and columns left..right, both included; those outside of the picture are black."""
    height, width = pixels.shape[:2]
    seen = np.zeros((bottom - top + 1, right - left + 1, 3), np.float32)
    inside = pixels[max(top, 0) : min(bottom + 1, height), max(left, 0) : min(right + 1, width)]
    at_row, at_column = max(-top, 0), max(-left, 0)
    seen[at_row : at_row + inside.shape[0], at_column : at_column + inside.shape[1]] = inside
    return seen
