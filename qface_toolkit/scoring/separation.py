"""How well a model tells the people of a set apart: every two images compared, however many, and no pair left out.

One look at all scores fills fine histograms and finds each image's nearest neighbours. A second one keeps the scores of
the few bins in which a threshold lies (`scoring.bins`): where rates are equal is anywhere, and not known before all
scores were seen. Fifty thousand images take minutes and no more memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from qface_toolkit.scoring.bins import Keeper, Kind, bins, edges, equal_error, from_above, tally, threshold_at
from qface_toolkit.scoring.blocks import Block, EveryPair, Places, Progress
from qface_toolkit.scoring.embeddings import Floats, Scores
from qface_toolkit.scoring.rates import FARS, far_key, rank_of

DET_POINTS = 200
HISTOGRAM_BINS = 200
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Rates:
    """TAR and its threshold for each false accept rate ("1e-3"), those that too few impostors support, and the EER.

    The threshold is the k-th largest impostor score, k = floor(FAR x impostors); where pairs are weighted, the score at
    which those above it weigh k. A rate for which k is 0 is not supported, and is left out. `reached` is the share of
    impostor scores that reach the threshold: more than asked for where scores are equal.
    """

    tar: dict[str, float]
    thresholds: dict[str, float]
    reached: dict[str, float]
    unsupported: tuple[str, ...]
    eer: float
    eer_threshold: float


@dataclass(frozen=True)
class Det:
    """False rejects against false accepts at some thresholds, [points] each, from the lowest threshold to the highest.

    A pair is accepted at a threshold that its score reaches. The points are exact; between them nothing is said.
    """

    far: Scores
    frr: Scores
    threshold: Scores


@dataclass(frozen=True)
class ScoreHistogram:
    """How many genuine and impostor scores lie between each two `edges` over -1..1."""

    edges: Scores
    genuine: npt.NDArray[np.int64]
    impostor: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Separation:
    """Figures over every pair of a set; `genuine` and `impostors` say how many there are, of how many people.

    In `balanced`, the genuine pairs of each person weigh one in total, and so do the impostor pairs of each two people.
    `rank1` is the share of the `probes`, the images of people with another one, whose nearest image shows that person.
    """

    images: int
    people: int
    genuine: int
    impostors: int
    rates: Rates
    balanced: Rates
    rank1: float
    probes: int
    det: Det
    histogram: ScoreHistogram


def measure_separation(
    embeddings: Floats, owners: npt.ArrayLike, fars: Sequence[float] = FARS, *, progress: Progress | None = None
) -> Separation:
    """Compare every two images; embeddings [N, D], `owners` whole numbers [N] that say whose each image is.

    `progress` is told how many scores are done, of how many; each pair counts twice there, since it is looked at twice.

    Raises:
        MeasurementError: if an embedding is zero or not finite, or there are no pairs of both kinds.
    """
    pairs = EveryPair((embeddings,), owners, progress)
    spread = Spread(pairs, fars)
    for block, scores in pairs.look():
        spread.look(block, scores[0])
    spread.settle()
    for block, scores in pairs.look():
        spread.look_closely(block, scores[0])
    return spread.separation()


class Spread:
    """What two looks at one model's scores find."""

    def __init__(self, pairs: EveryPair, fars: Sequence[float]) -> None:
        """Prepare for the blocks of these pairs."""
        self._counts, self._owners = pairs.counts, pairs.owners
        images = pairs.counts.images[pairs.owners].astype(np.float64)
        self._share = 1 / images
        with np.errstate(divide="ignore"):
            # Whoever has one image has no genuine pair to weigh.
            self._genuine_share = 2 / (images * (images - 1))
        people = pairs.counts.people
        totals = pairs.counts.impostors, people * (people - 1) // 2
        self._ranks = tuple({far_key(far): rank_of(far, total) for far in fars} for total in totals)
        self._sums = np.zeros((4, len(edges())))
        self._mate, self._stranger = np.full((2, len(pairs.owners)), -np.inf)

    def look(self, block: Block, scores: Scores) -> None:
        """Count the scores of a block, and remember who is nearest."""
        at = bins(scores)
        weights = self._share[block.rows, None] * self._share[block.columns]
        if block.genuine is None or block.impostor is None:
            self._sums[1] += tally(at)
            self._sums[3] += tally(at, weights)
            _nearest(self._stranger, block, scores)
            return
        owned = np.broadcast_to(self._genuine_share[block.rows, None], scores.shape)
        self._sums[0] += tally(at[block.genuine])
        self._sums[1] += tally(at[block.impostor])
        self._sums[2] += tally(at[block.genuine], owned[block.genuine])
        self._sums[3] += tally(at[block.impostor], weights[block.impostor])
        for best, mask in ((self._mate, block.genuine), (self._stranger, block.impostor)):
            _nearest(best, block, np.where(mask, scores, -np.inf))

    def settle(self) -> None:
        """Find the bins in which the thresholds lie, once all blocks were looked at."""
        genuine, impostor, owned, shared = map(from_above, self._sums)
        self._kinds = Kind(genuine, impostor), Kind(owned, shared)
        wanted = (
            [kind.rank_bin(rank) for rank in ranks.values() if rank]
            for kind, ranks in zip(self._kinds, self._ranks, strict=True)
        )
        self._keeper = Keeper(sorted({*chain.from_iterable(wanted), *(kind.crossing_bin() for kind in self._kinds)}))

    @property
    def impostors_above(self) -> Scores:
        """Return how many impostor scores lie in each bin and above it."""
        return self._kinds[0].impostor

    def look_closely(self, block: Block, scores: Scores) -> None:
        """Keep the scores that lie in the bins of thresholds."""
        found = self._keeper.find(scores)
        genuine, impostor = _masks(block, found)
        down, across = block.images(found)
        owned = np.where(genuine, self._genuine_share[down], 0.0)
        shared = np.where(impostor, self._share[down] * self._share[across], 0.0)
        compared = genuine | impostor
        self._keeper.add(scores.ravel()[found][compared], np.column_stack([genuine, impostor, owned, shared])[compared])

    def separation(self) -> Separation:
        """Return the figures, once all blocks were looked at closely."""
        plain, balanced = (
            _rates(kind, self._keeper, columns, ranks)
            for kind, columns, ranks in zip(self._kinds, ((0, 1), (2, 3)), self._ranks, strict=True)
        )
        mates = self._counts.images[self._owners] > 1
        return Separation(
            images=len(self._owners),
            people=self._counts.people,
            genuine=self._counts.genuine,
            impostors=self._counts.impostors,
            rates=plain,
            balanced=balanced,
            rank1=float(np.mean((self._mate > self._stranger)[mates])),
            probes=int(mates.sum()),
            det=_det(self._kinds[0]),
            histogram=_histogram(self._kinds[0]),
        )


def _nearest(best: Scores, block: Block, scores: Scores) -> None:
    best[block.columns] = np.maximum(best[block.columns], scores.max(axis=0))
    best[block.rows] = np.maximum(best[block.rows], scores.max(axis=1))


def _masks(block: Block, found: Places) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    if block.genuine is None or block.impostor is None:
        return np.zeros(len(found), dtype=np.bool_), np.ones(len(found), dtype=np.bool_)
    return block.genuine.ravel()[found], block.impostor.ravel()[found]


def _rates(kind: Kind, keeper: Keeper, columns: tuple[int, int], ranks: dict[str, int]) -> Rates:
    kept = keeper.kept(*columns)
    found = {key: threshold_at(kind, kept, rank) for key, rank in ranks.items() if rank}
    eer, border = equal_error(kind, kept)
    return Rates(
        tar={key: tar for key, (_, tar, _) in found.items()},
        thresholds={key: threshold for key, (threshold, _, _) in found.items()},
        reached={key: far for key, (_, _, far) in found.items()},
        unsupported=tuple(key for key, rank in ranks.items() if not rank),
        eer=eer,
        eer_threshold=border,
    )


def _det(kind: Kind) -> Det:
    """Return points whose false accept rates are spread evenly on a logarithmic scale."""
    far, frr = kind.impostor / kind.impostor[0], 1 - kind.genuine / kind.genuine[0]
    wanted = np.geomspace(1.0, 1 / kind.impostor[0], DET_POINTS)
    # The lowest edge that lets in no more than is wanted.
    at = np.unique(len(far) - np.searchsorted(far[::-1], wanted * (1 + _ROUNDING), side="right"))
    at = at[at < len(far)]
    return Det(far[at], frr[at], edges()[at])


def _histogram(kind: Kind) -> ScoreHistogram:
    counts = []
    for reach in (kind.genuine, kind.impostor):
        fine = -np.diff(reach, append=0.0)
        fine[-2] += fine[-1]
        counts.append(np.rint(fine[:-1].reshape(HISTOGRAM_BINS, -1).sum(axis=1)).astype(np.int64))
    return ScoreHistogram(np.linspace(-1, 1, HISTOGRAM_BINS + 1), counts[0], counts[1])
