"""The few array operations every drawing is made of, so that one place guarantees the same pixels on every machine.

Only additions, products, quotients, square roots and comparisons of float32 arrays are used: these are rounded the
same way by every processor, which sums, products of matrices and transcendental functions are not.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from qface_toolkit.framing import STANDARD, Frame

Plane: TypeAlias = npt.NDArray[np.floating]
"""One value a pixel, float32 [H, W]; pictures are three of them, float32 [3, H, W]."""

Colour: TypeAlias = tuple[float, float, float]
"""Red, green and blue as linear light, 0..1."""


@dataclass(frozen=True)
class Canvas:
    """What is drawn on: a frame, finer where it is smaller than an aligned crop, so that no line falls between pixels.

    All lengths of a drawing are pixels of an aligned crop of 112x112, whatever the frame: it is drawn larger, not
    enlarged.
    """

    frame: Frame = STANDARD

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.frame.size
        return height * self.frame.oversampling, width * self.frame.oversampling

    @property
    def scale(self) -> float:
        """Pixels of this canvas for one of an aligned crop."""
        return self.frame.scale * self.frame.oversampling

    def places(self) -> tuple[Plane, Plane]:
        """Return the column and the row in an aligned crop where each pixel lies, both float32 [H, W]."""
        return _places(self.frame)


@lru_cache(maxsize=4)
def _places(frame: Frame) -> tuple[Plane, Plane]:
    columns, rows = frame.places()
    return columns.astype(np.float32), rows.astype(np.float32)


def linear(red: float, green: float, blue: float) -> Colour:
    """Return the linear light of a display colour 0..255; a gamma of two keeps the arithmetic exact."""
    return (red / 255) * (red / 255), (green / 255) * (green / 255), (blue / 255) * (blue / 255)


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """Return the colour that lies `share` of the way from the first to the second."""
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue


def tinted(colour: Colour, by: Colour) -> Colour:
    """Return the product of two colours."""
    return colour[0] * by[0], colour[1] * by[1], colour[2] * by[2]


def filled(colour: Colour) -> npt.NDArray[np.float32]:
    """Return the colour as float32 [3, 1, 1], ready to be spread over a picture."""
    return np.array(colour, dtype=np.float32).reshape(3, 1, 1)


def paint(picture: npt.NDArray[np.float32], colour: Colour, alpha: Plane) -> None:
    """Lay a colour over the picture, in place, as thick as `alpha` says (0..1)."""
    picture += (filled(colour) - picture) * alpha


def unit(values: Plane) -> Plane:
    """Return the values held to 0..1."""
    return np.clip(values, 0.0, 1.0)


def slopes(values: Plane) -> tuple[Plane, Plane]:
    """Return how much the values change a pixel across and a pixel down."""
    across, down = np.empty_like(values), np.empty_like(values)
    across[:, 1:-1] = (values[:, 2:] - values[:, :-2]) * 0.5
    across[:, 0], across[:, -1] = across[:, 1], across[:, -2]
    down[1:-1] = (values[2:] - values[:-2]) * 0.5
    down[0], down[-1] = down[1], down[-2]
    return across, down


def coverage(inside: Plane, softness: float = 1.0) -> Plane:
    """Return how much of each pixel lies where `inside` is positive, with an edge about `softness` pixels wide."""
    across, down = slopes(inside)
    steepness = np.sqrt(across * across + down * down)
    return unit(inside / (np.maximum(steepness, 1e-3) * softness) + 0.5)


def ellipse(u: Plane, v: Plane, half_width: float, half_height: float) -> Plane:
    """Return a function that is positive inside the ellipse around the origin and 1 in its middle."""
    a, b = u * (1 / half_width), v * (1 / half_height)
    return 1 - (a * a + b * b)


def bump(u: Plane, v: Plane, half_width: float, half_height: float) -> Plane:
    """Return a smooth hill of height 1 that ends at the ellipse's rim."""
    hill = np.maximum(ellipse(u, v, half_width, half_height), 0)
    return hill * hill


def ramp(values: Plane, start: float, end: float) -> Plane:
    """Return a smooth step from 0 at `start` to 1 at `end` (which may be the smaller one)."""
    t = unit((values - start) * (1 / (end - start)))
    return t * t * (3 - 2 * t)


def lattice(rng: np.random.Generator, rows: int, columns: int) -> Plane:
    """Return random values -1..1, float32 [rows, columns], to be stretched or looked up."""
    return rng.random((rows, columns), dtype=np.float32) * 2 - 1


@lru_cache(maxsize=64)
def _between(count: int, side: int) -> tuple[npt.NDArray[np.intp], Plane]:
    position = np.arange(side, dtype=np.float32) * ((count - 1) / side)
    left = np.floor(position)
    share = position - left
    return left.astype(np.intp), share * share * (3 - 2 * share)


def stretched(values: Plane, shape: tuple[int, int]) -> Plane:
    """Return the lattice spread smoothly over a whole picture of this height and width, float32 [H, W]."""
    row, down = _between(values.shape[0], shape[0])
    column, across = _between(values.shape[1], shape[1])
    wide = values[:, column] + (values[:, column + 1] - values[:, column]) * across
    return wide[row] + (wide[row + 1] - wide[row]) * down[:, None]


def looked_up(values: Plane, u: Plane, v: Plane, spacing: float) -> Plane:
    """Return the square lattice sampled at face coordinates, so that the texture moves with the face."""
    last = values.shape[0] - 2
    column = np.clip(u * (1 / spacing) + values.shape[1] / 2, 0, last + 0.999)
    row = np.clip(v * (1 / spacing) + values.shape[0] / 2, 0, last + 0.999)
    left, top = column.astype(np.intp), row.astype(np.intp)
    across, down = column - left.astype(np.float32), row - top.astype(np.float32)
    flat, start = values.ravel(), top * values.shape[1] + left
    upper = flat[start] + (flat[start + 1] - flat[start]) * across
    start += values.shape[1]
    lower = flat[start] + (flat[start + 1] - flat[start]) * across
    sampled: Plane = upper + (lower - upper) * down
    return sampled


def smoothed(picture: npt.NDArray[np.float32], strength: float) -> npt.NDArray[np.float32]:
    """Return the picture [..., H, W] after one pass of a three-tap blur; a strength of 0.5 is the binomial one."""
    side, middle = strength * 0.5, 1 - strength
    wide = picture * middle
    wide[..., 1:] += picture[..., :-1] * side
    wide[..., :-1] += picture[..., 1:] * side
    wide[..., 0] += picture[..., 0] * side
    wide[..., -1] += picture[..., -1] * side
    tall = wide * middle
    tall[..., 1:, :] += wide[..., :-1, :] * side
    tall[..., :-1, :] += wide[..., 1:, :] * side
    tall[..., 0, :] += wide[..., 0, :] * side
    tall[..., -1, :] += wide[..., -1, :] * side
    return tall
