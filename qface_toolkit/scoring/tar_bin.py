"""TAR at a fixed FAR as the .bin sets' own protocol has it: a threshold for each fold, taken from the other folds.

It is another figure than TAR over every pair (`scoring.separation`): there are far fewer impostor pairs, and the
threshold is read off a grid. Reports keep it under its own name.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.embeddings import Floats

THRESHOLDS = np.arange(0, 4000) / 1000
"""Squared distances between unit embeddings that are tried as the border between same and different."""


@dataclass(frozen=True)
class TarBin:
    """Means over the folds: TAR, its population standard deviation, and the FAR that the folds' thresholds gave."""

    tar: float
    tar_std: float
    far: float


def tar_bin(distances: Floats, same: npt.NDArray[np.bool_], folds: int, far: float = 1e-3) -> TarBin:
    """Return TAR at a FAR over the folds of a pair list; squared distances 0..4, [pairs].

    A pair is accepted below a threshold. Each threshold of the grid accepts some share of the other folds' impostor
    pairs. The fold's threshold lies between the first of the grid whose share reaches the FAR and the one before it, in
    proportion; where no share reaches it, it is 0 and accepts nothing. Of thresholds with the same share only the first
    counts, so that repeated shares leave nothing open. (The protocol of insightface's verification sets: share to
    threshold by linear interpolation.)

    Raises:
        MeasurementError: if a fold lacks genuine or impostor pairs.
    """
    parts = _parts(same, folds)
    figures = []
    for part in parts:
        others = np.ones(len(same), dtype=np.bool_)
        others[part] = False
        threshold = fold_threshold(distances[others & ~same], far)
        accepted = distances[part] < threshold
        figures.append((accepted[same[part]].mean(), accepted[~same[part]].mean()))
    tar, reached = np.array(figures).T
    return TarBin(float(tar.mean()), float(tar.std()), float(reached.mean()))


def fold_threshold(impostor: Floats, far: float) -> float:
    """Return the squared distance below which this share of impostor distances lies, read off the grid; 0 if none."""
    shares = np.searchsorted(np.sort(impostor), THRESHOLDS, side="left") / len(impostor)
    at = int(np.searchsorted(shares, far, side="left"))
    if at in (0, len(shares)):
        return 0.0
    part = (far - shares[at - 1]) / (shares[at] - shares[at - 1])
    return float(THRESHOLDS[at - 1] + part * (THRESHOLDS[at] - THRESHOLDS[at - 1]))


def _parts(same: npt.NDArray[np.bool_], folds: int) -> list[npt.NDArray[np.intp]]:
    if folds < 2 or len(same) < folds:
        what = f"{len(same)} pairs cannot be cut into {folds} folds"
        raise MeasurementError(what, fix="give more pairs or fewer folds")
    parts = np.array_split(np.arange(len(same)), folds)
    for number, part in enumerate(parts):
        if same[part].all() or not same[part].any():
            kind = "impostor" if same[part].all() else "genuine"
            fix = "give fewer folds, or pairs of both kinds in each"
            raise MeasurementError(f"a fold has no {kind} pairs", where=f"fold {number + 1} of {folds}", fix=fix)
    return parts
