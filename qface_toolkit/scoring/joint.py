"""Every pair's score by two models at once: how scores drift, and of which pairs both must be known to judge decisions.

All genuine pairs are kept, and those impostor pairs that one of the models puts among its best: a threshold at a low
false accept rate lies there, for people drawn anew too. Of all other impostor pairs only sums and a histogram are kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.blocks import Block, Owners, PairCounts, Scores, check_owners, count_owned, every_block
from qface_toolkit.scoring.histogram import bins, edges, from_above, tally
from qface_toolkit.scoring.verification import Floats, unit_rows

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

    def at(self, places: npt.NDArray[np.intp]) -> "KeptPairs":
        """Return the pairs at these places."""
        owners, scores = self.owners, self.scores
        return KeptPairs(
            self.first[places],
            self.second[places],
            (owners[0][places], owners[1][places]),
            (scores[0][places], scores[1][places]),
        )


@dataclass(frozen=True)
class JointPairs:
    """What is known of every pair's two scores.

    `impostor` holds all pairs whose score is at least the model's own of the `floors`. `drift` is the histogram of the
    other's score less the reference's, of all impostor pairs, on the scale of half of it (`scoring.histogram`), and
    `drift_std` its standard deviation; `changed` are the impostor pairs with the largest drift, up or down.
    """

    counts: PairCounts
    genuine: KeptPairs
    impostor: KeptPairs
    floors: tuple[float, float]
    drift: npt.NDArray[np.float64]
    drift_std: float
    changed: KeptPairs


def affordable(counts: PairCounts, far: float) -> bool:
    """Tell whether the pairs that figures at a false accept rate need can be kept."""
    needed = 2 * SPARE * far * counts.impostors
    return max(counts.genuine, needed) <= MOST_KEPT * counts.orders


def refuse_too_many(counts: PairCounts, fars: Sequence[float]) -> None:
    """Refuse sets of which too many pairs would have to be kept.

    Raises:
        MeasurementError: if there are too many genuine pairs, or too many impostors for one of the rates.
    """
    if not affordable(counts, 0.0):
        what = f"{counts.genuine:,} genuine pairs are too many to draw people anew"
        where = f"{counts.images.max()} images of one person"
        raise MeasurementError(what, where=where, fix="compare fewer images of each person")
    if not affordable(counts, max(fars, default=0.0)):
        what = f"{counts.impostors:,} impostor pairs are too many to draw people anew at a FAR of {max(fars)}"
        raise MeasurementError(what, fix="ask for lower rates, or compare fewer images")


def score_jointly(
    reference: Floats, other: Floats, owners: npt.ArrayLike, fars: Sequence[float], listed: int = 20
) -> JointPairs:
    """Compare every two images by two models; embeddings [N, D] of the same images, `owners` [N] whole numbers.

    Raises:
        MeasurementError: if an embedding is zero or not finite, there are no pairs of both kinds, or too many of one
            person.
    """
    if np.shape(reference)[:1] != np.shape(other)[:1]:
        what = f"{len(reference)} embeddings of the one model and {len(other)} of the other cannot be compared"
        raise MeasurementError(what, fix="embed the same images with both models")
    marks = check_owners(owners, len(reference))
    counts = count_owned(marks)
    refuse_too_many(counts, fars)
    order = np.argsort(marks, kind="stable")
    joint = _Joint((unit_rows(reference)[order], unit_rows(other)[order]), marks[order], order)
    joint.look(listed)
    keep = int(SPARE * max(fars, default=0.0) * counts.impostors) + 1000
    floors = joint.floors(keep)
    kept = joint.above(floors)
    spread = np.sqrt(max(0.0, joint.squares / counts.impostors - (joint.total / counts.impostors) ** 2))
    return JointPairs(counts, joint.genuine, kept, floors, joint.drift, float(spread), joint.changed)


class _Joint:
    """Two passes over the blocks of both models."""

    def __init__(self, sides: Sides, owners: Owners, rows: Owners) -> None:
        self.sides, self.owners, self.rows = sides, owners, rows
        self.drift, self.counts = np.zeros(len(edges())), np.zeros((2, len(edges())))
        self.total = self.squares = 0.0

    def look(self, listed: int) -> None:
        genuine, changed = [], _pairs_of([])
        for block, scores in self._blocks():
            drift = scores[1] - scores[0]
            if block.genuine is None or block.impostor is None:
                self._count(scores[0], scores[1], drift)
            else:
                genuine.append(self._pairs(block, scores, np.flatnonzero(block.genuine)))
                self._count(*(each[block.impostor] for each in (*scores, drift)))
            sizes = np.abs(drift) if block.impostor is None else np.where(block.impostor, np.abs(drift), -1.0)
            least = float(np.abs(changed.drift).min()) if len(changed.first) == listed else 0.0
            more = self._pairs(block, scores, _largest_places(sizes.ravel(), least, listed))
            changed = most_changed(_pairs_of([changed, more]), listed)
        self.genuine, self.changed = _pairs_of(genuine), changed

    def _count(self, reference: Scores, other: Scores, drift: Scores) -> None:
        self.drift += tally(bins(drift / 2))
        self.total += float(drift.sum())
        self.squares += float((drift * drift).sum())
        for counts, scores in zip(self.counts, (reference, other), strict=True):
            counts += tally(bins(scores))

    def floors(self, keep: int) -> tuple[float, float]:
        """Return a floor for each model above which the best `keep` lie: the same, unless that would be too many."""
        above = [from_above(counts) for counts in self.counts]
        at = [int(np.flatnonzero(reach >= min(keep, reach[0]))[-1]) for reach in above]
        if above[0][min(at)] + above[1][min(at)] <= MOST_KEPT:
            at = [min(at)] * 2
        # Rounding may put a score into the bin above it.
        found = [float(edges()[one]) - 1e-9 for one in at]
        return found[0], found[1]

    def above(self, floors: tuple[float, float]) -> KeptPairs:
        found = []
        for block, scores in self._blocks():
            wanted = (scores[0] >= floors[0]) | (scores[1] >= floors[1])
            if block.impostor is not None:
                wanted &= block.impostor
            found.append(self._pairs(block, scores, np.flatnonzero(wanted)))
        return _pairs_of(found)

    def _blocks(self) -> Iterator[tuple[Block, Sides]]:
        for block in every_block(self.owners, 1):
            first, second = (block.scores(side, side) for side in self.sides)
            yield block, (first, second)

    def _pairs(self, block: Block, scores: Sides, found: npt.NDArray[np.intp]) -> KeptPairs:
        down, across = np.divmod(found, scores[0].shape[1])
        first, second = down + block.rows.start, across + block.columns.start
        owners = self.owners[first], self.owners[second]
        values = scores[0].ravel()[found], scores[1].ravel()[found]
        return KeptPairs(self.rows[first], self.rows[second], owners, values)


def _largest_places(sizes: Scores, least: float, most: int) -> npt.NDArray[np.intp]:
    """Return the places of the `most` largest sizes, and of their equals, of those that are at least `least`."""
    found = np.flatnonzero(sizes >= least)
    if len(found) > most:
        found = found[sizes[found] >= np.partition(sizes[found], len(found) - most)[len(found) - most]]
    return found


def most_changed(pairs: KeptPairs, most: int) -> KeptPairs:
    """Return the pairs with the largest drift, up or down, the largest first; of equal ones the first rows."""
    return pairs.at(np.lexsort((pairs.second, pairs.first, -np.abs(pairs.drift)))[:most])


def _pairs_of(parts: Sequence[KeptPairs]) -> KeptPairs:
    nobody, nothing = np.empty(0, dtype=np.intp), np.empty(0)
    whole = [KeptPairs(nobody, nobody, (nobody, nobody), (nothing, nothing)), *parts]
    return KeptPairs(
        np.concatenate([part.first for part in whole]),
        np.concatenate([part.second for part in whole]),
        (np.concatenate([part.owners[0] for part in whole]), np.concatenate([part.owners[1] for part in whole])),
        (np.concatenate([part.scores[0] for part in whole]), np.concatenate([part.scores[1] for part in whole])),
    )
