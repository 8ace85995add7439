"""The scores of every two images, a block at a time, so that no set of images is too large to compare.

Images come sorted by person: pairs of one person then stand near the diagonal, and most blocks hold strangers alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError

Scores = npt.NDArray[np.float64]
Owners = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

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


@dataclass(frozen=True)
class PairCounts:
    """How many images each person has, and what pairs that makes; `orders` is 2 where each pair counts in both."""

    images: npt.NDArray[np.intp]
    orders: int

    @property
    def genuine(self) -> int:
        """Return the number of pairs of one person."""
        return int((self.images * (self.images - 1)).sum()) // 2 * self.orders

    @property
    def impostors(self) -> int:
        """Return the number of pairs of two people."""
        return int(self.images.sum() ** 2 - (self.images**2).sum()) // 2 * self.orders

    @property
    def people_pairs(self) -> int:
        """Return the number of pairs of people who have images."""
        people = int((self.images > 0).sum())
        return people * (people - 1) // 2


def count_owned(owners: Owners, orders: int = 1) -> PairCounts:
    """Return what pairs there are.

    Raises:
        MeasurementError: if there are no genuine pairs, or no impostor pairs.
    """
    counts = PairCounts(np.bincount(owners), orders)
    if not counts.impostors:
        fix = "give pairs of both kinds: images of at least two people"
        raise MeasurementError("TAR needs genuine and impostor pairs, and all images are of one person", fix=fix)
    if not counts.genuine:
        fix = "give pairs of both kinds: at least two images of somebody"
        raise MeasurementError("TAR needs genuine and impostor pairs, and nobody has two images", fix=fix)
    return counts


def check_owners(owners: npt.ArrayLike, rows: int) -> Owners:
    """Return the owners as whole numbers [rows].

    Raises:
        MeasurementError: if they are not one whole number from 0 for each row.
    """
    marks = np.asarray(owners)
    if marks.shape != (rows,) or (rows and (marks.dtype.kind not in "iu" or marks.min() < 0)):
        what = f"{rows} embeddings came with owners of shape {list(marks.shape)} and type {marks.dtype}"
        raise MeasurementError(what, where="owners", fix="give one whole number from 0 for each embedding")
    return marks.astype(np.intp)


def every_block(owners: Owners, orders: int) -> Iterator[Block]:
    """Yield blocks that hold every pair of images once, or in both orders; `owners` ascend."""
    total = len(owners)
    for start in range(0, total, ROWS):
        stop = min(start + ROWS, total)
        low = start if orders == 1 else int(np.searchsorted(owners, owners[start], side="left"))
        high = int(np.searchsorted(owners, owners[stop - 1], side="right"))
        rows = slice(start, stop)
        yield from (Block(rows, columns) for columns in _cut(0, low) if orders == 2)
        yield from (_mixed(owners, rows, columns, orders) for columns in _cut(low, high))
        yield from (Block(rows, columns) for columns in _cut(high, total))


def _cut(start: int, stop: int) -> Iterator[slice]:
    return (slice(at, min(at + COLUMNS, stop)) for at in range(start, stop, COLUMNS))


def _mixed(owners: Owners, rows: slice, columns: slice, orders: int) -> Block:
    down, across = np.arange(rows.start, rows.stop)[:, None], np.arange(columns.start, columns.stop)
    compared = across > down if orders == 1 else across != down
    same = owners[rows][:, None] == owners[columns]
    return Block(rows, columns, compared & same, compared & ~same)
