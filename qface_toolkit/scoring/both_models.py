"""Every pair's score by two models at once: how scores drift, and the pairs by which decisions are judged.

All genuine pairs are kept, and those impostor pairs that one of the models puts among its best: a threshold at a low
false accept rate lies there, for people drawn anew too. Of all other impostor pairs only sums and a histogram are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.bins import bins, edges, tally
from qface_toolkit.scoring.blocks import Block, EveryPair, PairCounts, Places
from qface_toolkit.scoring.embeddings import Scores
from qface_toolkit.scoring.separation import Spread

MOST_KEPT = 1 << 22
"""How many pairs of each kind are kept; more would fill the memory."""

SPARE = 4
"""How many times the impostors needed are kept: with other weights, the same rate reaches further down."""

LEAST_KEPT = 1000
"""How many are kept on top of that, for sets of few people."""


@dataclass(frozen=True)
class ScoredPairs:
    """Pairs by the rows of their images, [2, pairs], and their scores, [models, pairs], the reference's first."""

    rows: npt.NDArray[np.intp]
    scores: Scores

    @property
    def drift(self) -> Scores:
        """Return how much higher the other model's scores are."""
        drift: Scores = self.scores[1] - self.scores[0]
        return drift

    def at(self, places: Places) -> "ScoredPairs":
        """Return the pairs at these places."""
        return ScoredPairs(self.rows[:, places], self.scores[:, places])


def joined(parts: Sequence[ScoredPairs]) -> ScoredPairs:
    """Return the pairs of all parts, of which there is one at least."""
    rows = np.concatenate([part.rows for part in parts], axis=1)
    return ScoredPairs(rows, np.concatenate([part.scores for part in parts], axis=1))


def most_changed(pairs: ScoredPairs, most: int) -> ScoredPairs:
    """Return the pairs with the largest drift, up or down, the largest first; of equal ones the first rows."""
    return pairs.at(np.lexsort((*pairs.rows[::-1], -np.abs(pairs.drift)))[:most])


def affordable(counts: PairCounts, far: float) -> bool:
    """Tell whether the pairs that figures at a false accept rate need can be kept."""
    needed = 2 * SPARE * far * counts.impostors
    return max(counts.genuine, needed) <= MOST_KEPT


def refuse_too_many(counts: PairCounts) -> None:
    """Refuse sets of which too many genuine pairs would have to be kept.

    Raises:
        MeasurementError: if one person has too many images.
    """
    if not affordable(counts, 0.0):
        what = f"{counts.genuine:,} genuine pairs are too many to draw people anew"
        where = f"{counts.images.max()} images of one person"
        raise MeasurementError(what, where=where, fix="compare fewer images of each person")


class Changes:
    """How the scores of all pairs change, of a first look: all genuine pairs, and sums over the impostor pairs.

    `drift` is the histogram of the other's score less the reference's, of all impostor pairs, on the scale of half of
    it (`scoring.bins`); `changed` are the impostor pairs with the largest drift, up or down.
    """

    def __init__(self, pairs: EveryPair, listed: int) -> None:
        """Prepare for the blocks of these pairs, and list so many changed ones."""
        self._pairs, self._listed = pairs, listed
        self._genuine: list[ScoredPairs] = []
        self._total = self._squares = 0.0
        self.drift = np.zeros(len(edges()))
        self.changed = ScoredPairs(np.empty((2, 0), dtype=np.intp), np.empty((2, 0)))

    def look(self, block: Block, scores: tuple[Scores, Scores]) -> None:
        """Count the drift of a block, and keep its genuine pairs and those that changed most."""
        drift = scores[1] - scores[0]
        if block.genuine is not None:
            self._genuine.append(_pairs_at(self._pairs, block, scores, np.flatnonzero(block.genuine)))
        strangers = drift if block.impostor is None else drift[block.impostor]
        self.drift += tally(bins(strangers / 2))
        self._total += float(strangers.sum())
        self._squares += float((strangers * strangers).sum())
        sizes = np.abs(drift) if block.impostor is None else np.where(block.impostor, np.abs(drift), -1.0)
        least = float(np.abs(self.changed.drift).min()) if len(self.changed.drift) == self._listed else 0.0
        more = _pairs_at(self._pairs, block, scores, _largest_places(sizes.ravel(), least, self._listed))
        self.changed = most_changed(joined([self.changed, more]), self._listed)

    @property
    def genuine(self) -> ScoredPairs:
        """Return every genuine pair."""
        return joined(self._genuine)

    @property
    def drift_std(self) -> float:
        """Return the standard deviation of the drift of all impostor pairs."""
        impostors = self._pairs.counts.impostors
        return float(np.sqrt(max(0.0, self._squares / impostors - (self._total / impostors) ** 2)))


class Strangers:
    """The impostor pairs that one of the models puts above its floor, of a second look."""

    def __init__(self, pairs: EveryPair, spreads: Sequence[Spread], fars: Sequence[float]) -> None:
        """Prepare for the best ones of each model, as many as the rates need."""
        self._pairs = pairs
        above = [spread.impostors_above for spread in spreads]
        self.floors = _floors(above, _wanted_impostors(pairs.counts.impostors, fars))
        self._kept: list[ScoredPairs] = []

    def look(self, block: Block, scores: tuple[Scores, Scores]) -> None:
        """Keep the impostor pairs of a block that one of the models puts above its floor."""
        wanted = (scores[0] >= self.floors[0]) | (scores[1] >= self.floors[1])
        self._kept.append(_pairs_at(self._pairs, block, scores, block.impostors_at(wanted)))

    @property
    def kept(self) -> ScoredPairs:
        """Return them."""
        return joined(self._kept)


class Crosswise:
    """Scores of one image by the reference and the other by the other model, in both orders, of a second look.

    All genuine pairs are kept, and the best impostor pairs: no more than twice as many as are wanted at a time.
    """

    def __init__(self, pairs: EveryPair, fars: Sequence[float]) -> None:
        """Prepare for the blocks of these pairs, and for the best impostors that the rates need."""
        self._pairs = pairs
        self._genuine: list[ScoredPairs] = []
        self._best = Best(_wanted_impostors(2 * pairs.counts.impostors, fars))

    def look(self, block: Block) -> None:
        """Score a block both ways round."""
        reference, other = self._pairs.models
        for scores in (block.scores(reference, other), block.scores(other, reference)):
            if block.genuine is not None:
                self._genuine.append(_pairs_at(self._pairs, block, (scores,), np.flatnonzero(block.genuine)))
            found = block.impostors_at(scores >= self._best.floor)
            self._best.add(_pairs_at(self._pairs, block, (scores,), found))

    @property
    def genuine(self) -> ScoredPairs:
        """Return the genuine pairs."""
        return joined(self._genuine)

    @property
    def impostor(self) -> ScoredPairs:
        """Return the best impostor pairs."""
        return self._best.kept()


class Best:
    """The pairs with the best scores of those that come, and no more than twice as many as are wanted at a time."""

    def __init__(self, most: int) -> None:
        """Prepare for so many."""
        self.most, self.floor, self.held = most, -np.inf, 0
        self._parts: list[ScoredPairs] = []

    def add(self, part: ScoredPairs) -> None:
        """Add pairs with one score each."""
        self._parts.append(part)
        self.held += part.scores.size
        if self.held > 2 * self.most:
            self._parts = [self.kept()]
            self.held, self.floor = self.most, float(self._parts[0].scores.min())

    def kept(self) -> ScoredPairs:
        """Return the best ones, in no order."""
        found = joined(self._parts)
        (scores,) = found.scores
        if scores.size <= self.most:
            return found
        floor = np.partition(scores, scores.size - self.most)[scores.size - self.most]
        above, equal = np.flatnonzero(scores > floor), np.flatnonzero(scores == floor)
        return found.at(np.concatenate([above, equal[: self.most - above.size]]))


def _wanted_impostors(impostors: int, fars: Sequence[float]) -> int:
    return int(SPARE * max(fars, default=0.0) * impostors) + LEAST_KEPT


def _floors(above: Sequence[Scores], keep: int) -> tuple[float, float]:
    """Return a floor for each model above which the best `keep` lie: the same, unless that would be too many."""
    at = [int(np.flatnonzero(reach >= min(keep, reach[0]))[-1]) for reach in above]
    if sum(reach[min(at)] for reach in above) <= MOST_KEPT:
        at = [min(at)] * 2
    # Rounding may put a score into the bin above it.
    first, second = (float(edges()[one]) - 1e-9 for one in at)
    return first, second


def _pairs_at(pairs: EveryPair, block: Block, scores: Sequence[Scores], places: Places) -> ScoredPairs:
    """Return the pairs at flat places of a block, by the rows in which the images were given."""
    return ScoredPairs(pairs.order[block.images(places)], np.stack([each.ravel()[places] for each in scores]))


def _largest_places(sizes: Scores, least: float, most: int) -> Places:
    """Return the places of the `most` largest sizes, and of their equals, of those that are at least `least`."""
    found = np.flatnonzero(sizes >= least)
    if len(found) > most:
        found = found[sizes[found] >= np.partition(sizes[found], len(found) - most)[len(found) - most]]
    return found
