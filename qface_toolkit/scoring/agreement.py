"""Does a compressed model still say what the float model says: the cosine between their embeddings, image by image."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.embeddings import Floats, unit_rows


@dataclass(frozen=True)
class Agreement:
    """Cosines between two embeddings of each image: mean, 1st percentile and minimum over `count` images."""

    cosine_mean: float
    cosine_p1: float
    cosine_min: float
    count: int


def measure_agreement(reference: Floats, other: Floats) -> Agreement:
    """Compare embeddings [N, D] row by row, in float64.

    Raises:
        MeasurementError: if the shapes differ or hold nothing, or an embedding is zero or not finite.
    """
    cosines = row_cosines(reference, other)
    return Agreement(float(cosines.mean()), float(np.percentile(cosines, 1)), float(cosines.min()), len(cosines))


def row_cosines(reference: Floats, other: Floats) -> npt.NDArray[np.float64]:
    """Return the cosine of each row of one array [N, D] with the same row of the other, float64 [N], within -1..1.

    Raises:
        MeasurementError: if the shapes differ or hold nothing, or an embedding is zero or not finite.
    """
    shapes = np.shape(reference), np.shape(other)
    if shapes[0] != shapes[1] or len(shapes[0]) != 2 or 0 in shapes[0]:
        what = f"embeddings of shapes {list(shapes[0])} and {list(shapes[1])} cannot be compared"
        raise MeasurementError(what, fix="embed the same images with both models, at least one: [N, D]")
    cosines: npt.NDArray[np.float64] = (unit_rows(reference) * unit_rows(other)).sum(axis=1)
    return np.clip(cosines, -1.0, 1.0)
