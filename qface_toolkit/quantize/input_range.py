"""The range of the network's input, which needs no calibration: a pixel has 256 values and they are all known."""

import numpy as np

from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.scheme import Range, activation_qparams

_TIE_MARGIN = 0.001
"""A pixel must not lie this close to the middle between two codes, in steps: runtimes break ties differently, and with
the usual mean of 127.5 and a range taken from the data every pixel of an image is such a tie. A wider margin leaves no
range for means that differ between the channels: 768 values lie everywhere between two codes."""


def input_range(spec: ModelSpec) -> Range:
    """Return the range, at most 10 % wider than the pixels', with the least squared rounding error and no ties."""
    mean, std = np.asarray(spec.mean, np.float32), np.asarray(spec.std, np.float32)
    pixels = (np.arange(256, dtype=np.float32)[:, None] - mean) / std
    candidates = [
        Range(min(float(pixels.min()), 0.0) * wider, max(float(pixels.max()), 0.0) * wider)
        for wider in np.linspace(1.0, 1.1, 401)
    ]
    return min(candidates, key=lambda candidate: _cost(pixels, candidate))


def _cost(pixels: np.ndarray[tuple[int, ...], np.dtype[np.float32]], candidate: Range) -> tuple[bool, float]:
    scale, zero_point = activation_qparams(candidate)
    steps = pixels.astype(np.float64) / scale
    distance_to_tie = np.abs(steps - np.floor(steps) - 0.5).min()
    codes = np.clip(np.rint(steps) + zero_point, 0, 255)
    squared_error = np.mean(((codes - zero_point) * scale - pixels) ** 2)
    return bool(distance_to_tie < _TIE_MARGIN), float(squared_error)
