"""Face alignment on five landmarks, as the field does it: a similarity transform onto ArcFace's template, 112x112."""

import numpy as np
import numpy.typing as npt

from qface_toolkit.framing import CROP_SIZE
from qface_toolkit.sources import Crop

TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Where eyes, nose and mouth corners lie in an aligned crop, (x, y) in pixels (ArcFace, Deng et al. 2019)."""

Landmarks = npt.NDArray[np.floating]
"""Five points, [5, 2], (x, y) in pixels, the middle of the first pixel at (0, 0)."""

_Floats = npt.NDArray[np.float32]
_Places = npt.NDArray[np.intp]
_PLACES = np.arange(CROP_SIZE, dtype=np.float64)
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


def align(pixels: npt.NDArray[np.uint8], landmarks: Landmarks) -> Crop:
    """Return the aligned crop, uint8 [112, 112, 3], of a picture, uint8 [height, width, 3].

    Bilinear, black outside, pixel middles at whole coordinates, as OpenCV's warpAffine has it, but exact where that
    rounds coordinates to 1/32 of a pixel.

    Raises:
        ValueError: if the landmarks are not five different points.
    """
    matrix = similarity(landmarks)
    inverse = np.linalg.inv(matrix[:, :2])
    across, down = _PLACES - matrix[0, 2], _PLACES - matrix[1, 2]
    x, y = (row[0] * across[None, :] + row[1] * down[:, None] for row in inverse)
    return _sampled(pixels, x, y)


def _sampled(pixels: npt.NDArray[np.uint8], x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Crop:
    """Return the colours at these places, a mean of the four pixels around each."""
    height, width = pixels.shape[:2]
    x, y = np.clip(x, -_FAR, _FAR), np.clip(y, -_FAR, _FAR)
    column, row = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    # A border of one black pixel is all that a mean of four can see of the outside.
    top, left = max(int(row.min()), -1), max(int(column.min()), -1)
    bottom, right = min(int(row.max()) + 1, height), min(int(column.max()) + 1, width)
    if bottom <= top or right <= left:
        return np.zeros((CROP_SIZE, CROP_SIZE, 3), np.uint8)
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
    upper += 0.5
    return upper.astype(np.uint8)


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
