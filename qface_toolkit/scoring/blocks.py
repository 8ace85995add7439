"""The scores of every two images, a block at a time, so that no set of images is too large to compare.

Images are sorted by person first: pairs of one person then stand near the diagonal, and most blocks hold strangers
alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.embeddings import Floats, Owners, Scores, check_owners, unit_rows

Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]
Progress = Callable[[int, int], None]

ROWS = 512
COLUMNS = 8192


@dataclass(frozen=True)
class Block:
    """Which rows are compared with which columns, and which of these pairs count, [rows, columns].

    `genuine` is None where no pair is of one person, and `impostor` where every pair is of two.
    """

    rows: slice
    columns: slice
    genuine: Mask | None = None
    impostor: Mask | None = None

    @property
    def size(self) -> int:
        """Return how many scores the block has, whether they count or not."""
        return int((self.rows.stop - self.rows.start) * (self.columns.stop - self.columns.start))

    def scores(self, gallery: Scores, probe: Scores) -> Scores:
        """Return the cosines of the block, of embeddings of length one."""
        found: Scores = gallery[self.rows] @ probe[self.columns].T
        return found

    def images(self, places: Places) -> Places:
        """Return which two images the scores at these flat places are of, [2, places]."""
        width = self.columns.stop - self.columns.start
        # Several times as fast as divmod.
        down = places // width
        return np.stack([down + self.rows.start, places - down * width + self.columns.start])

    def impostors_at(self, wanted: Mask) -> Places:
        """Return the flat places of the impostor pairs among the wanted pairs."""
        return np.flatnonzero(wanted if self.impostor is None else wanted & self.impostor)


@dataclass(frozen=True)
class PairCounts:
    """How many images each person has, and what pairs that makes."""

    images: npt.NDArray[np.intp]

    @property
    def genuine(self) -> int:
        """Return the number of pairs of one person."""
        return int((self.images * (self.images - 1)).sum()) // 2

    @property
    def impostors(self) -> int:
        """Return the number of pairs of two people."""
        return int(self.impostors_drawn(np.ones(len(self.images)))[0])

    @property
    def people(self) -> int:
        """Return how many people have images."""
        return int((self.images > 0).sum())

    def impostors_drawn(self, draws: npt.NDArray[np.float64]) -> Scores:
        """Return the pairs of two people, each counted as often as its people are drawn, [draws] of [draws, people]."""
        drawn = np.atleast_2d(draws) * self.images
        pairs: Scores = (drawn.sum(axis=1) ** 2 - (drawn**2).sum(axis=1)) / 2
        return pairs


def count_owned(owners: Owners) -> PairCounts:
    """Return what pairs there are.

    Raises:
        MeasurementError: if there are no genuine pairs, or no impostor pairs.
    """
    counts = PairCounts(np.bincount(owners))
    if not counts.impostors:
        fix = "give pairs of both kinds: images of at least two people"
        raise MeasurementError("TAR needs genuine and impostor pairs, and all images are of one person", fix=fix)
    if not counts.genuine:
        fix = "give pairs of both kinds: at least two images of somebody"
        raise MeasurementError("TAR needs genuine and impostor pairs, and nobody has two images", fix=fix)
    return counts


class EveryPair:
    """Every two images of a set, each pair once, by one model or by several at a time."""

    def __init__(self, models: Sequence[Floats], owners: npt.ArrayLike, progress: Progress | None = None) -> None:
        """Sort the images of all models by person; embeddings [N, D] each, `owners` [N] whole numbers from 0.

        `progress` is told how many scores were looked at, of how many in two looks.

        Raises:
            MeasurementError: if an embedding is zero or not finite, the models have other images, or there are no
                pairs of both kinds.
        """
        lengths = [len(np.asarray(model)) for model in models]
        if len({*lengths}) > 1:
            what = f"{lengths[0]} embeddings of the one model and {lengths[1]} of the other cannot be compared"
            raise MeasurementError(what, fix="embed the same images with both models")
        marks = check_owners(owners, lengths[0])
        self.counts = count_owned(marks)
        self.order = np.argsort(marks, kind="stable")
        self.owners = marks[self.order]
        self.models = tuple(unit_rows(model)[self.order] for model in models)
        self._progress, self._done = progress, 0
        self._total = 2 * sum(block.size for block in every_block(self.owners))

    def look(self) -> Iterator[tuple[Block, tuple[Scores, ...]]]:
        """Yield each block and its scores by each model."""
        for block in every_block(self.owners):
            yield block, tuple(block.scores(model, model) for model in self.models)
            self._done += block.size
            if self._progress is not None:
                self._progress(self._done, self._total)


def every_block(owners: Owners) -> Iterator[Block]:
    """Yield blocks that hold every pair of images once; `owners` ascend."""
    total = len(owners)
    for start in range(0, total, ROWS):
        rows = slice(start, min(start + ROWS, total))
        high = int(np.searchsorted(owners, owners[rows.stop - 1], side="right"))
        yield from (_mixed(owners, rows, columns) for columns in _cut(start, high))
        yield from (Block(rows, columns) for columns in _cut(high, total))


def _cut(start: int, stop: int) -> Iterator[slice]:
    return (slice(at, min(at + COLUMNS, stop)) for at in range(start, stop, COLUMNS))


def _mixed(owners: Owners, rows: slice, columns: slice) -> Block:
    compared = np.arange(columns.start, columns.stop) > np.arange(rows.start, rows.stop)[:, None]
    same = owners[rows][:, None] == owners[columns]
    return Block(rows, columns, compared & same, compared & ~same)
