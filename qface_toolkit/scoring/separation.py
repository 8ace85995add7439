"""How well a model tells the people of a set apart: every two images compared, however many, and no pair left out.

One pass over all scores fills fine histograms and finds each image's nearest neighbours; a second one looks closely at
the bins in which a threshold lies (`scoring.histogram`). Fifty thousand images take minutes and no more memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from qface_toolkit.scoring.blocks import (
    Block,
    Mask,
    Owners,
    PairCounts,
    Scores,
    check_owners,
    count_owned,
    every_block,
)
from qface_toolkit.scoring.histogram import (
    Keeper,
    Kind,
    bins,
    edges,
    equal_error,
    from_above,
    rank_of,
    tally,
    threshold_at,
)
from qface_toolkit.scoring.verification import Floats, far_key, unit_rows

FARS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
DET_POINTS = 200
HISTOGRAM_BINS = 200

Progress = Callable[[int, int], None]


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

    far: npt.NDArray[np.float64]
    frr: npt.NDArray[np.float64]
    threshold: npt.NDArray[np.float64]


@dataclass(frozen=True)
class ScoreHistogram:
    """How many genuine and impostor scores lie between each two `edges` over -1..1."""

    edges: npt.NDArray[np.float64]
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
    embeddings: Floats,
    owners: npt.ArrayLike,
    fars: Sequence[float] = FARS,
    *,
    probe: Floats | None = None,
    progress: Progress | None = None,
) -> Separation:
    """Compare every two images; embeddings [N, D], `owners` whole numbers [N] that say whose each image is.

    With a `probe`, embeddings of the same images by another model, every ordered pair counts: image i by the gallery's
    model against image j by the probe's. `progress` is told how many scores are done, of how many; each pair counts
    twice there, since it is looked at twice.

    Raises:
        MeasurementError: if an embedding is zero or not finite, or there are no pairs of both kinds.
    """
    marks = check_owners(owners, len(embeddings))
    order = np.argsort(marks, kind="stable")
    counts = count_owned(marks, 1 if probe is None else 2)
    gallery = unit_rows(embeddings)[order]
    sides = (gallery, gallery if probe is None else unit_rows(probe)[order])
    comparison = _Comparison(sides, marks[order], counts, progress)
    first = comparison.look()
    wanted = _wanted_ranks(counts, fars)
    kept = comparison.look_closely(_wanted_bins(first.kinds, wanted))
    plain, balanced = (
        _rates(kind, kept, columns, ranks)
        for kind, columns, ranks in zip(first.kinds, ((0, 1), (2, 3)), wanted, strict=True)
    )
    mates = counts.images[marks] > 1
    return Separation(
        images=len(marks),
        people=int((counts.images > 0).sum()),
        genuine=counts.genuine,
        impostors=counts.impostors,
        rates=plain,
        balanced=balanced,
        rank1=float(np.mean((first.mate > first.stranger)[mates[order]])),
        probes=int(mates.sum()),
        det=_det(first.kinds[0]),
        histogram=_histogram(first.kinds[0]),
    )


@dataclass(frozen=True)
class _Look:
    """Both kinds of counts, and each probe's best score with its own person and with others."""

    kinds: tuple[Kind, Kind]
    mate: Scores
    stranger: Scores


class _Comparison:
    """Two passes over the same blocks."""

    def __init__(
        self, sides: tuple[Scores, Scores], owners: Owners, counts: PairCounts, progress: Progress | None
    ) -> None:
        self.sides, self.owners, self.orders = sides, owners, counts.orders
        images = counts.images[owners].astype(np.float64)
        self.share = 1 / images
        with np.errstate(divide="ignore"):
            # Whoever has one image has no genuine pair to weigh.
            self.genuine_share = 2 / (images * (images - 1)) / counts.orders
        self.progress, self.done = progress, 0
        self.total = 2 * sum(block.size for block in every_block(owners, counts.orders))

    def look(self) -> _Look:
        sums = np.zeros((4, len(edges())))
        best = np.full((2, len(self.owners)), -np.inf)
        for block in every_block(self.owners, self.orders):
            scores = block.scores(*self.sides)
            at = bins(scores)
            weights = self.share[block.rows, None] * self.share[block.columns] / self.orders
            if block.genuine is None or block.impostor is None:
                sums[1] += tally(at)
                sums[3] += tally(at, weights)
                self._nearest(best[1], block, scores)
            else:
                owned = np.broadcast_to(self.genuine_share[block.rows, None], scores.shape)
                sums[0] += tally(at[block.genuine])
                sums[1] += tally(at[block.impostor])
                sums[2] += tally(at[block.genuine], owned[block.genuine])
                sums[3] += tally(at[block.impostor], weights[block.impostor])
                for row, mask in zip(best, (block.genuine, block.impostor), strict=True):
                    self._nearest(row, block, np.where(mask, scores, -np.inf))
            self._tell(block)
        genuine, impostor, owned_sum, weighted = map(from_above, sums)
        return _Look((Kind(genuine, impostor), Kind(owned_sum, weighted)), best[0], best[1])

    def look_closely(self, wanted: Sequence[int]) -> Keeper:
        keeper = Keeper(wanted)
        for block in every_block(self.owners, self.orders):
            scores = block.scores(*self.sides)
            found = keeper.find(scores)
            genuine, impostor = _masks(block, found)
            rows, columns = np.divmod(found, scores.shape[1])
            down, across = rows + block.rows.start, columns + block.columns.start
            owned = np.where(genuine, self.genuine_share[down], 0.0)
            shared = np.where(impostor, self.share[down] * self.share[across] / self.orders, 0.0)
            compared = genuine | impostor
            keeper.add(scores.ravel()[found][compared], np.column_stack([genuine, impostor, owned, shared])[compared])
            self._tell(block)
        return keeper

    def _nearest(self, best: Scores, block: Block, scores: Scores) -> None:
        best[block.columns] = np.maximum(best[block.columns], scores.max(axis=0))
        if self.orders == 1:
            best[block.rows] = np.maximum(best[block.rows], scores.max(axis=1))

    def _tell(self, block: Block) -> None:
        self.done += block.size
        if self.progress is not None:
            self.progress(self.done, self.total)


def _masks(block: Block, found: npt.NDArray[np.intp]) -> tuple[Mask, Mask]:
    if block.genuine is None or block.impostor is None:
        return np.zeros(len(found), dtype=np.bool_), np.ones(len(found), dtype=np.bool_)
    return block.genuine.ravel()[found], block.impostor.ravel()[found]


_Ranks = dict[str, int]


def _wanted_ranks(counts: PairCounts, fars: Sequence[float]) -> tuple[_Ranks, _Ranks]:
    """Return the rank of each rate's threshold, or 0, for pairs that count alike and for weighted ones."""
    plain, balanced = (
        {far_key(far): rank_of(far, total) for far in fars} for total in (counts.impostors, counts.people_pairs)
    )
    return plain, balanced


def _wanted_bins(kinds: tuple[Kind, Kind], ranks: tuple[_Ranks, _Ranks]) -> list[int]:
    thresholds = (
        [kind.rank_bin(rank) for rank in wanted.values() if rank] for kind, wanted in zip(kinds, ranks, strict=True)
    )
    return sorted({*chain.from_iterable(thresholds), *(kind.crossing_bin() for kind in kinds)})


def _rates(kind: Kind, keeper: Keeper, columns: tuple[int, int], ranks: _Ranks) -> Rates:
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


_ROUNDING = 1e-12


def _histogram(kind: Kind) -> ScoreHistogram:
    counts = []
    for reach in (kind.genuine, kind.impostor):
        fine = -np.diff(reach, append=0.0)
        fine[-2] += fine[-1]
        counts.append(np.rint(fine[:-1].reshape(HISTOGRAM_BINS, -1).sum(axis=1)).astype(np.int64))
    return ScoreHistogram(np.linspace(-1, 1, HISTOGRAM_BINS + 1), counts[0], counts[1])
