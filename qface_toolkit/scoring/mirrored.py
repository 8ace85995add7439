"""How far a network tells pictures apart, without knowing who is who: a face and its mirror image are one person."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.embeddings import unit_rows

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class MirrorScore:
    """Mean cosines of pictures with their mirror images, and with each other, and how far apart the two lie.

    `deviations` is the distance of the two means, in standard deviations (d'); `norm` is the mean length of embeddings.
    """

    mirrored: float
    others: float
    deviations: float
    norm: float


def score_mirrored(rows: Rows, mirrored: Rows) -> MirrorScore:
    """Return how far embeddings [N, D] are nearer to those of the mirror images, [N, D], than to each other; N >= 2."""
    try:
        plain, turned = unit_rows(rows), unit_rows(mirrored)
    except MeasurementError:  # embeddings without a direction, as a network gives that overflows
        return MirrorScore(0.0, 0.0, 0.0, 0.0)
    among = (plain @ plain.T)[~np.eye(len(plain), dtype=bool)]
    own = np.einsum("nd,nd->n", plain, turned)
    spread = float(np.sqrt((own.var() + among.var()) / 2))
    apart = float(own.mean() - among.mean())
    # Equal embeddings for all pictures tell nothing apart, however little they vary.
    deviations = apart / spread if spread > _EQUAL and np.isfinite(spread) else 0.0
    norm = float(np.linalg.norm(rows.astype(np.float64), axis=1).mean())
    return MirrorScore(float(own.mean()), float(among.mean()), deviations, norm)


_EQUAL = 1e-7
