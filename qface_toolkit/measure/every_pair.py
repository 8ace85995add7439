"""TAR over every pair of a set, with the people of each score kept, so that it can be computed again for other people.

`verification.tar_at_far` gives the figure alone. How sure it is depends on the people that happen to be in the set, so
intervals come from weighting them anew (`measure.resampling`); a pair then counts as its two people do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError
from qface_toolkit.measure.verification import Floats, unit_rows

_ROWS = 512
_SPARE = 4
"""How many times the impostors needed are kept: with other weights, the same rate reaches further down."""


@dataclass(frozen=True)
class PairScores:
    """Cosines of every pair, best first, and the people of each; of the impostors, only as many as TAR can need.

    `images` is how many images of each person were compared; `orders` is 2 where each pair counts in both orders.
    """

    genuine: npt.NDArray[np.float64]
    genuine_owner: npt.NDArray[np.intp]
    impostor: npt.NDArray[np.float64]
    impostor_owners: npt.NDArray[np.intp]
    images: npt.NDArray[np.intp]
    orders: int

    def tar(self, fars: Sequence[float], weights: Floats | None = None) -> npt.NDArray[np.float64]:
        """Return TAR at each false accept rate, with its own threshold; person i counts `weights[i]` times, or once.

        The threshold is the k-th largest impostor score, k = floor(FAR x impostors) >= 1. A pair of two people counts
        as often as the product of theirs; two copies of one person are not compared. NaN where nothing is left.
        """
        counts = np.ones(len(self.images)) if weights is None else weights[: len(self.images)]
        drawn = counts * self.images
        impostors = (drawn.sum() ** 2 - (drawn**2).sum()) / 2 * self.orders
        reach = np.cumsum(counts[self.impostor_owners[0]] * counts[self.impostor_owners[1]])
        accepted = np.concatenate([[0.0], np.cumsum(counts[self.genuine_owner])])
        # A product such as 0.001 x 3000 may fall just below the whole number that is meant.
        ranks = np.maximum(1, np.floor(np.asarray(fars) * impostors + 1e-9))
        if not accepted[-1] or not impostors:
            return np.full(len(fars), np.nan)
        thresholds = self.impostor[np.minimum(np.searchsorted(reach, ranks), len(reach) - 1)]
        reached = accepted[np.searchsorted(-self.genuine, -thresholds, side="right")]
        rates: npt.NDArray[np.float64] = reached / accepted[-1]
        return rates


def score_every_pair(
    gallery: Floats, owners: npt.ArrayLike, fars: Sequence[float], probe: Floats | None = None
) -> PairScores:
    """Compare every two images; embeddings [N, D], `owners` whole numbers [N] that say whose each image is.

    With a `probe`, embeddings of the same images by another model, every ordered pair counts: image i by the gallery's
    model against image j by the probe's, i != j. An image is never compared with itself.

    Raises:
        MeasurementError: if an embedding is zero or not finite, or there are no pairs of both kinds.
    """
    marks = np.asarray(owners, dtype=np.intp)
    images = np.bincount(marks)
    orders = 1 if probe is None else 2
    impostors = (images.sum() ** 2 - (images**2).sum()) // 2 * orders
    if images.max(initial=0) < 2 or not impostors:
        raise MeasurementError("TAR needs genuine and impostor pairs", fix="give pairs of both kinds")
    keep = int(_SPARE * max(fars) * impostors) + 1000
    found = list(_in_parts(unit_rows(gallery), None if probe is None else unit_rows(probe), marks, keep))
    genuine, genuine_owner, best, first, second = (np.concatenate(part) for part in zip(*found, strict=True))
    order, down = np.argsort(-genuine, kind="stable"), np.argsort(-best, kind="stable")[:keep]
    people = np.stack([first[down], second[down]])
    return PairScores(genuine[order], genuine_owner[order], best[down], people, images, orders)


def _in_parts(
    gallery: npt.NDArray[np.float64], probe: npt.NDArray[np.float64] | None, owners: npt.NDArray[np.intp], keep: int
) -> Iterator[tuple[npt.NDArray[np.float64] | npt.NDArray[np.intp], ...]]:
    """Yield genuine scores and owners, and the best impostor scores and both owners, of some rows at a time."""
    places = np.arange(len(owners))
    for start in range(0, len(owners), _ROWS):
        rows = places[start : start + _ROWS]
        scores = gallery[rows] @ (gallery if probe is None else probe).T
        compared = places > rows[:, None] if probe is None else places != rows[:, None]
        same = owners == owners[rows, None]
        genuine, impostor = np.nonzero(compared & same), np.flatnonzero(compared & ~same)
        found = scores.ravel()[impostor]
        if len(found) > keep:
            best = np.argpartition(-found, keep)[:keep]
            found, impostor = found[best], impostor[best]
        first, second = np.divmod(impostor, len(owners))
        yield scores[genuine], owners[rows[genuine[0]]], found, owners[rows[first]], owners[second]
