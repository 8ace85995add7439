"""Counts of scores in fine bins: from them, where a threshold must lie, before any score is kept.

A first look at all scores fills the bins; a second one keeps only the scores of the few bins in which a threshold lies.
The result is that of sorting all scores, in memory that does not depend on how many there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.scoring.embeddings import Scores

BINS = 1_000_000
"""Bins of cosines over -1..1; one more holds what is 1 or, by rounding, above."""

MOST_KEPT = 1 << 22
"""How many scores of the wanted bins are kept apart; of more, those closer than 2e-11 are taken for one."""

_SLACK = 1e-9
"""What rounding may take from a sum of weights, as a share of it."""

Places = npt.NDArray[np.intp]
Weights = npt.NDArray[np.float64]


def places(scores: Scores) -> Scores:
    """Return where scores lie on the scale of the bins: 0 for -1, BINS for 1."""
    where: Scores = scores * (BINS / 2)
    where += BINS / 2
    return where


def edges() -> Scores:
    """Return the lowest score of each bin."""
    return np.arange(BINS + 1, dtype=np.float64) * (2 / BINS) - 1


def bins(scores: Scores) -> Places:
    """Return the bin of each score; that order is the scores', so a bin is one stretch of them."""
    return places(scores).astype(np.intp)


def tally(at: Places, weights: Weights | None = None) -> npt.NDArray[np.float64]:
    """Return how much lies in each bin; float64 counts are whole up to 9e15."""
    return np.bincount(at.ravel(), None if weights is None else weights.ravel(), minlength=BINS + 1).astype(np.float64)


def from_above(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return how much lies in each bin and above it."""
    sums: npt.NDArray[np.float64] = np.cumsum(counts[::-1])[::-1]
    return sums


@dataclass(frozen=True)
class Kind:
    """Scores of both kinds in bins, all pairs counting alike or by their weights: how much lies in and above each."""

    genuine: npt.NDArray[np.float64]
    impostor: npt.NDArray[np.float64]

    def rank_bin(self, rank: int) -> int:
        """Return the bin that holds the impostor score of this rank from above."""
        reached = np.flatnonzero(self.impostor >= rank * (1 - _SLACK))
        return int(reached[-1]) if reached.size else 0

    def crossing_bin(self) -> int:
        """Return the bin in which false accepts and false rejects become equal."""
        accepted, rejected = self.impostor / self.impostor[0], 1 - self.genuine / self.genuine[0]
        return int(np.flatnonzero(accepted >= rejected)[-1])


@dataclass(frozen=True)
class Kept:
    """Scores of the wanted bins, best first, and how much of each kind each of them counts."""

    scores: Scores
    genuine: Weights
    impostor: Weights

    def within(self, wanted: int) -> "Kept":
        """Return the scores of one bin."""
        here = bins(self.scores) == wanted
        if not here.any():
            # A library that does not repeat a product to the last bit has moved the only score into the next bin.
            return Kept(edges()[wanted : wanted + 1], np.zeros(1), np.zeros(1))
        return Kept(self.scores[here], self.genuine[here], self.impostor[here])


def threshold_at(kind: Kind, kept: Kept, rank: int) -> tuple[float, float, float]:
    """Return the impostor score of this rank from above, and the shares of genuine and of impostor scores reaching it.

    More impostors than the rank reach it where several scores are equal.
    """
    wanted = kind.rank_bin(rank)
    found = kept.within(wanted)
    reach = _above(kind.impostor, wanted) + np.cumsum(found.impostor)
    at = min(int(np.searchsorted(reach, rank * (1 - _SLACK))), len(reach) - 1)
    reaching = found.scores >= found.scores[at]
    # Weights that are added up in another order may be more than all by a rounding.
    genuine, impostor = (
        min(1.0, (_above(of, wanted) + each[reaching].sum()) / of[0])
        for of, each in ((kind.genuine, found.genuine), (kind.impostor, found.impostor))
    )
    return float(found.scores[at]), float(genuine), float(impostor)


def equal_error(kind: Kind, kept: Kept) -> tuple[float, float]:
    """Return the rate at which false accepts equal false rejects, and the score where they do.

    Each score is a threshold at which it is itself accepted. Between two neighbouring ones, both rates are joined by a
    straight line, and the equal error rate lies where the lines meet.
    """
    wanted = kind.crossing_bin()
    found = kept.within(wanted)
    scores, which = np.unique(-found.scores, return_inverse=True)
    sums = [np.bincount(which, each, minlength=len(scores)) for each in (found.genuine, found.impostor)]
    genuine, impostor = (
        np.concatenate([[0.0], np.cumsum(each)]) + _above(of, wanted)
        for each, of in zip(sums, (kind.genuine, kind.impostor), strict=True)
    )
    accepted, rejected = impostor / kind.impostor[0], 1 - genuine / kind.genuine[0]
    gap = accepted - rejected
    at = max(1, min(int(np.searchsorted(gap, 0.0)), len(scores)))
    share = min(1.0, max(0.0, -gap[at - 1]) / max(gap[at] - gap[at - 1], np.finfo(np.float64).tiny))
    rate = accepted[at - 1] + share * (accepted[at] - accepted[at - 1])
    return float(rate), float(-scores[at - 1])


def _above(reach: npt.NDArray[np.float64], wanted: int) -> float:
    return float(reach[wanted + 1]) if wanted + 1 < len(reach) else 0.0


class Keeper:
    """Scores of the wanted bins as they come: all of them, or, of too many, one for each 2e-11."""

    def __init__(self, wanted: Sequence[int]) -> None:
        """Prepare for the scores of these bins."""
        self._wanted = np.zeros(BINS + 1, dtype=np.bool_)
        self._wanted[list(wanted)] = True
        self._parts: list[npt.NDArray[np.float64]] = []
        self._held = 0

    def find(self, scores: Scores) -> Places:
        """Return the flat places of the scores that lie in wanted bins."""
        return np.flatnonzero(self._wanted[bins(scores)])

    def add(self, scores: Scores, counts: npt.NDArray[np.float64]) -> None:
        """Keep scores [n] and what each counts, [n, kinds]."""
        self._parts.append(np.column_stack([scores, counts]))
        self._held += len(scores)
        if self._held > MOST_KEPT:
            self._parts = [_merged(np.concatenate(self._parts))]
            self._held = len(self._parts[0])

    def kept(self, genuine: int, impostor: int) -> Kept:
        """Return the scores, best first, with two of the columns of their counts."""
        whole = np.concatenate(self._parts)
        whole = whole[np.argsort(-whole[:, 0], kind="stable")]
        return Kept(whole[:, 0], whole[:, 1 + genuine], whole[:, 1 + impostor])


def _merged(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    # Scores 2e-11 apart are 1e-5 apart on the scale of the bins, so that none leaves its own.
    _, first, which = np.unique(np.floor(places(rows[:, 0]) * 1e5), return_index=True, return_inverse=True)
    sums = [np.bincount(which, rows[:, column]) for column in range(1, rows.shape[1])]
    return np.column_stack([rows[first, 0], *sums])
