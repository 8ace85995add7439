"""TAR over every pair of a set, with the people of each score kept, so that it can be computed again for other people.

`verification.tar_at_far` gives the figure alone. How sure it is depends on the people that happen to be in the set, so
intervals come from weighting them anew (`scoring.resampling`); a pair then counts as its two people do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.scoring.blocks import Block, Owners, Scores, check_owners, count_owned, every_block
from qface_toolkit.scoring.histogram import rank_of
from qface_toolkit.scoring.joint import SPARE, affordable, refuse_too_many
from qface_toolkit.scoring.resampling import Draws, Estimate, estimate
from qface_toolkit.scoring.verification import Floats, far_key, unit_rows


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
        MeasurementError: if an embedding is zero or not finite, there are no pairs of both kinds, or too many to keep.
    """
    marks = check_owners(owners, len(gallery))
    counts = count_owned(marks, 1 if probe is None else 2)
    refuse_too_many(counts, fars)
    order = np.argsort(marks, kind="stable")
    first = unit_rows(gallery)[order]
    second = first if probe is None else unit_rows(probe)[order]
    best = _Best(int(SPARE * max(fars) * counts.impostors) + 1000)
    genuine: list[_Scored] = []
    for block in every_block(marks[order], counts.orders):
        scores = block.scores(first, second)
        if block.genuine is not None:
            genuine.append(_scored(block, scores, marks[order], np.flatnonzero(block.genuine)))
        wanted = scores >= best.floor if block.impostor is None else (scores >= best.floor) & block.impostor
        best.add(_scored(block, scores, marks[order], np.flatnonzero(wanted)))
    alike, mixed = _joined(genuine), best.finish()
    down = np.argsort(-alike[0], kind="stable")
    return PairScores(alike[0][down], alike[1][down], mixed[0], np.stack(mixed[1:]), counts.images, counts.orders)


_Scored = tuple[npt.NDArray[np.float64], npt.NDArray[np.intp], npt.NDArray[np.intp]]
"""Scores and both owners of some pairs."""


def _scored(block: Block, scores: Scores, owners: Owners, found: npt.NDArray[np.intp]) -> _Scored:
    rows, columns = np.divmod(found, scores.shape[1])
    return scores.ravel()[found], owners[rows + block.rows.start], owners[columns + block.columns.start]


def _joined(parts: Sequence[_Scored]) -> _Scored:
    scores, first, second = (np.concatenate(column) for column in zip(*parts, strict=True))
    return scores, first, second


class _Best:
    """The best scores of those that come, and no more than twice as many as are wanted at a time."""

    def __init__(self, most: int) -> None:
        self.most, self.floor = most, -np.inf
        self._parts: list[_Scored] = []
        self.held = 0

    def add(self, part: _Scored) -> None:
        self._parts.append(part)
        self.held += len(part[0])
        if self.held > 2 * self.most:
            scores, first, second = _joined(self._parts)
            at = np.argpartition(-scores, self.most - 1)[: self.most]
            self._parts, self.held = [(scores[at], first[at], second[at])], self.most
            self.floor = float(scores[at].min())

    def finish(self) -> _Scored:
        scores, first, second = _joined(self._parts)
        down = np.argsort(-scores, kind="stable")[: self.most]
        return scores[down], first[down], second[down]


def tar_intervals(
    embeddings: Floats, owners: npt.ArrayLike, fars: Sequence[float], draws: Draws, probe: Floats | None = None
) -> dict[str, Estimate]:
    """Return TAR with its interval for each false accept rate that the impostors support ("1e-3").

    Rates whose scores would fill the memory are left out; `scoring.separation` has the figures themselves.

    Raises:
        MeasurementError: if an embedding is zero or not finite, or there are no pairs of both kinds.
    """
    counts = count_owned(check_owners(owners, len(embeddings)), 1 if probe is None else 2)
    wanted = [far for far in supported(fars, counts.impostors) if affordable(counts, far)]
    if not wanted:
        return {}
    scores = score_every_pair(embeddings, owners, wanted, probe)
    whole, drawn = drawn_tar(scores, wanted, draws)
    return {far_key(far): estimate(whole[at], drawn[:, at]) for at, far in enumerate(wanted)}


def drawn_tar(
    scores: PairScores, fars: Sequence[float], draws: Draws
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return TAR at each rate, [rates], and the same for each draw of people, [draws, rates]."""
    return scores.tar(fars), np.stack([scores.tar(fars, counts) for counts in draws])


def supported(fars: Sequence[float], impostors: int) -> tuple[float, ...]:
    """Return the false accept rates of which so many impostor pairs make at least one pair."""
    return tuple(far for far in fars if rank_of(far, impostors))
