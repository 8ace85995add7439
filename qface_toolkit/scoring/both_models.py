"""Every pair's score by two models at once: how scores drift, and the pairs by which decisions are judged.

All genuine pairs are kept, and those impostor pairs that one of the models puts among its best: a threshold at a low
false accept rate lies there, for people drawn anew too. Of all other impostor pairs only sums and a histogram are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.bins import bins, edges, tally
from qface_toolkit.scoring.blocks import Block, EveryPair, PairCounts, Places
from qface_toolkit.scoring.embeddings import Owners, Scores
from qface_toolkit.scoring.separation import Spread

MOST_KEPT = 1 << 22
"""How many pairs of each kind are kept; more would fill the memory."""

SPARE = 4
"""How many times the impostors needed are kept: with other weights, the same rate reaches further down."""

Sides = tuple[Scores, Scores]


@dataclass(frozen=True)
class KeptPairs:
    """Pairs by the rows of their images and their owners, and their scores by the reference and by the other model."""

    first: Owners
    second: Owners
    owners: tuple[Owners, Owners]
    scores: Sides

    @property
    def drift(self) -> Scores:
        """Return how much higher the other model's scores are."""
        return self.scores[1] - self.scores[0]

    def at(self, places: Places) -> "KeptPairs":
        """Return the pairs at these places."""
        owners, scores = self.owners, self.scores
        return KeptPairs(
            self.first[places],
            self.second[places],
            (owners[0][places], owners[1][places]),
            (scores[0][places], scores[1][places]),
        )


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


def kept_impostors(impostors: int, fars: Sequence[float]) -> int:
    """Return how many of the best impostor pairs are kept for these rates."""
    return int(SPARE * max(fars, default=0.0) * impostors) + 1000


class Changes:
    """How the scores of all pairs change, of a first look: all genuine pairs, and sums over the impostor pairs.

    `drift` is the histogram of the other's score less the reference's, of all impostor pairs, on the scale of half of
    it (`scoring.bins`); `changed` are the impostor pairs with the largest drift, up or down.
    """

    def __init__(self, pairs: EveryPair, listed: int) -> None:
        """Prepare for the blocks of these pairs, and list so many changed ones."""
        self._pairs, self._listed = pairs, listed
        self._genuine: list[KeptPairs] = []
        self._total = self._squares = 0.0
        self.drift = np.zeros(len(edges()))
        self.changed = _joined([])

    def look(self, block: Block, scores: Sides) -> None:
        """Count the drift of a block, and keep its genuine pairs and those that changed most."""
        drift = scores[1] - scores[0]
        if block.genuine is not None:
            self._genuine.append(kept_of(self._pairs, block, scores, np.flatnonzero(block.genuine)))
        strangers = drift if block.impostor is None else drift[block.impostor]
        self.drift += tally(bins(strangers / 2))
        self._total += float(strangers.sum())
        self._squares += float((strangers * strangers).sum())
        sizes = np.abs(drift) if block.impostor is None else np.where(block.impostor, np.abs(drift), -1.0)
        least = float(np.abs(self.changed.drift).min()) if len(self.changed.first) == self._listed else 0.0
        more = kept_of(self._pairs, block, scores, _largest_places(sizes.ravel(), least, self._listed))
        self.changed = most_changed(_joined([self.changed, more]), self._listed)

    @property
    def genuine(self) -> KeptPairs:
        """Return every genuine pair."""
        return _joined(self._genuine)

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
        keep = kept_impostors(pairs.counts.impostors, fars)
        self.floors = _floors([spread.impostors_above for spread in spreads], keep)
        self._kept: list[KeptPairs] = []

    def look(self, block: Block, scores: Sides) -> None:
        """Keep the impostor pairs of a block that one of the models puts above its floor."""
        wanted = (scores[0] >= self.floors[0]) | (scores[1] >= self.floors[1])
        self._kept.append(kept_of(self._pairs, block, scores, block.impostors_at(wanted)))

    @property
    def kept(self) -> KeptPairs:
        """Return them."""
        return _joined(self._kept)


def _floors(above: Sequence[Scores], keep: int) -> tuple[float, float]:
    """Return a floor for each model above which the best `keep` lie: the same, unless that would be too many."""
    at = [int(np.flatnonzero(reach >= min(keep, reach[0]))[-1]) for reach in above]
    if sum(reach[min(at)] for reach in above) <= MOST_KEPT:
        at = [min(at)] * 2
    # Rounding may put a score into the bin above it.
    first, second = (float(edges()[one]) - 1e-9 for one in at)
    return first, second


@dataclass(frozen=True)
class RankedPairs:
    """Scores of pairs, best first, and their owners; `second` is None where both images are of the first owner."""

    scores: Scores
    first: Owners
    second: Owners | None = None


class Crosswise:
    """Scores of one image by the reference and the other by the other model, in both orders, of a second look.

    All genuine pairs are kept, and the best impostor pairs: no more than twice as many as are wanted at a time.
    """

    def __init__(self, pairs: EveryPair, fars: Sequence[float]) -> None:
        """Prepare for the blocks of these pairs, and for the best impostors that the rates need."""
        self._pairs = pairs
        self._genuine: list[tuple[Scores, Owners]] = []
        self._best = Best(kept_impostors(2 * pairs.counts.impostors, fars))

    def look(self, block: Block) -> None:
        """Score a block both ways round."""
        reference, other = self._pairs.models
        for scores in (block.scores(reference, other), block.scores(other, reference)):
            if block.genuine is not None:
                self._genuine.append(self._owned(block, scores, np.flatnonzero(block.genuine))[:2])
            self._best.add(self._owned(block, scores, block.impostors_at(scores >= self._best.floor)))

    def _owned(self, block: Block, scores: Scores, places: Places) -> tuple[Scores, Owners, Owners]:
        first, second = block.images(places)
        return scores.ravel()[places], self._pairs.owners[first], self._pairs.owners[second]

    def genuine(self) -> RankedPairs:
        """Return the genuine pairs."""
        scores, owners = (np.concatenate(column) for column in zip(*self._genuine, strict=True))
        down = np.argsort(-scores, kind="stable")
        return RankedPairs(scores[down], owners[down])

    def impostors(self) -> RankedPairs:
        """Return the best impostor pairs."""
        return RankedPairs(*self._best.finish())


class Best:
    """The best scores of those that come with their owners, and no more than twice as many as are wanted at a time."""

    def __init__(self, most: int) -> None:
        """Prepare for so many."""
        self.most, self.floor, self.held = most, -np.inf, 0
        self._parts: list[tuple[Scores, Owners, Owners]] = []

    def add(self, part: tuple[Scores, Owners, Owners]) -> None:
        """Add scores and both owners of each."""
        self._parts.append(part)
        self.held += len(part[0])
        if self.held > 2 * self.most:
            scores, first, second = self._joined()
            at = np.argpartition(-scores, self.most - 1)[: self.most]
            self._parts, self.held = [(scores[at], first[at], second[at])], self.most
            self.floor = float(scores[at].min())

    def finish(self) -> tuple[Scores, Owners, Owners]:
        """Return the best ones, the best first."""
        scores, first, second = self._joined()
        down = np.argsort(-scores, kind="stable")[: self.most]
        return scores[down], first[down], second[down]

    def _joined(self) -> tuple[Scores, Owners, Owners]:
        scores, first, second = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        return scores, first, second


def kept_of(pairs: EveryPair, block: Block, scores: Sides, places: Places) -> KeptPairs:
    """Return the pairs at flat places of a block, by the rows in which the images were given."""
    first, second = block.images(places)
    owners = pairs.owners[first], pairs.owners[second]
    values = scores[0].ravel()[places], scores[1].ravel()[places]
    return KeptPairs(pairs.order[first], pairs.order[second], owners, values)


def _largest_places(sizes: Scores, least: float, most: int) -> Places:
    """Return the places of the `most` largest sizes, and of their equals, of those that are at least `least`."""
    found = np.flatnonzero(sizes >= least)
    if len(found) > most:
        found = found[sizes[found] >= np.partition(sizes[found], len(found) - most)[len(found) - most]]
    return found


def most_changed(pairs: KeptPairs, most: int) -> KeptPairs:
    """Return the pairs with the largest drift, up or down, the largest first; of equal ones the first rows."""
    return pairs.at(np.lexsort((pairs.second, pairs.first, -np.abs(pairs.drift)))[:most])


def _joined(parts: Sequence[KeptPairs]) -> KeptPairs:
    nobody, nothing = np.empty(0, dtype=np.intp), np.empty(0)
    whole = [KeptPairs(nobody, nobody, (nobody, nobody), (nothing, nothing)), *parts]
    return KeptPairs(
        np.concatenate([part.first for part in whole]),
        np.concatenate([part.second for part in whole]),
        (np.concatenate([part.owners[0] for part in whole]), np.concatenate([part.owners[1] for part in whole])),
        (np.concatenate([part.scores[0] for part in whole]), np.concatenate([part.scores[1] for part in whole])),
    )
