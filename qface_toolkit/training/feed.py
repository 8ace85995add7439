"""Batches of changed crops in an order of their own for every epoch, read and prepared ahead of the network.

What is in a batch depends on the seed, the epoch and the step alone: a run that goes on in the middle of an epoch skips
what was learnt without reading it, and each rank takes its part of every batch. Memory holds a few batches.
"""

import threading
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from qface_toolkit.datasets import Example, FaceData
from qface_toolkit.errors import CalibrationError, TrainingError
from qface_toolkit.ranks import Ranks
from qface_toolkit.training.augment import augmented
from qface_toolkit.training.recipe import Augment

_AHEAD = 3
"""Batches that are being prepared while one is learnt from."""
_NAMED = 20
"""Broken images that are named; more are counted."""
_MOST_BROKEN = 0.1
"""The share of images that may be broken before there is no use in going on, once enough were read."""
_ENOUGH = 100
_MOST_TRIES = 200


@dataclass(frozen=True)
class Batch:
    """This rank's part of a step: crops uint8 [n, 112, 112, 3], and whose they are [n]."""

    epoch: int
    step: int
    crops: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


@dataclass
class Broken:
    """The images that could not be read, by number, and why; the first of them are named."""

    reads: int = 0
    numbers: set[int] = field(default_factory=set)
    reasons: dict[int, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def hopeless(self) -> bool:
        """Whether so many are broken that there is no use in going on."""
        return self.reads > _ENOUGH and len(self.numbers) > _MOST_BROKEN * self.reads

    def note_read(self) -> None:
        """Count an image that could be read."""
        with self._lock:
            self.reads += 1

    def note(self, index: int, error: CalibrationError) -> None:
        """Remember a broken image."""
        with self._lock:
            self.reads += 1
            self.numbers.add(index)
            if len(self.reasons) < _NAMED:
                self.reasons[index] = f"{error.where}: {error.what}"


class Feed:
    """The batches of a whole training, for one rank."""

    def __init__(
        self,
        data: FaceData,
        augment: Augment,
        *,
        batch_size: int,
        seed: int,
        ranks: Ranks,
        workers: int = 2,
    ) -> None:
        """Split every batch of `batch_size` over the ranks.

        Raises:
            TrainingError: if there are fewer images than a batch holds, or a batch cannot be split evenly.
        """
        if batch_size % ranks.size:
            what = f"a batch of {batch_size} images cannot be split over {ranks.size} processes evenly"
            raise TrainingError(what, fix=f"give a batch_size that {ranks.size} divides")
        if len(data) < batch_size:
            what = f"there are {len(data)} images to learn from, and a batch takes {batch_size}"
            raise TrainingError(what, where=data.name, fix="give more images, or a smaller batch_size")
        self.data, self.augment, self.seed, self.ranks, self.workers = data, augment, seed, ranks, workers
        self.batch_size, self.steps = batch_size, len(data) // batch_size
        self.broken = Broken()

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return the numbers of all images in the order of an epoch."""
        return np.random.default_rng([self.seed, 1, epoch]).permutation(len(self.data))

    def batches(self, begin: int, end: int) -> Generator[Batch, None, None]:
        """Give the batches from step `begin` up to `end`, both counted over all epochs.

        Raises:
            TrainingError: if hardly an image can be read.
        """
        waiting: deque[tuple[int, list[Future[Example]]]] = deque()
        order, known = None, -1
        with ThreadPoolExecutor(self.workers, "feed") as pool:
            try:
                for at in range(begin, end):
                    epoch, step = divmod(at, self.steps)
                    if order is None or epoch != known:
                        order, known = self.order(epoch), epoch
                    places = self._places(step)
                    parts = [pool.submit(self._example, epoch, order, place) for place in places]
                    waiting.append((at, parts))
                    if len(waiting) > _AHEAD:
                        yield self._batch(*waiting.popleft())
                while waiting:
                    yield self._batch(*waiting.popleft())
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _places(self, step: int) -> range:
        mine = self.ranks.share(self.batch_size)
        return range(step * self.batch_size + mine.start, step * self.batch_size + mine.stop)

    def _example(self, epoch: int, order: npt.NDArray[np.int64], place: int) -> Example:
        """Read the image that stands at a place of an epoch's order, and change it."""
        rng = np.random.default_rng([self.seed, 2, epoch, place])
        blends = rng.random() < self.augment.mix
        other = self._read(int(order[int(rng.integers(len(order)))]), rng).crop if blends else None
        example = self._read(int(order[place]), rng)
        return Example(augmented(example.crop, self.augment, rng, other), example.label)

    def _read(self, index: int, rng: np.random.Generator) -> Example:
        """Return an image; in the place of a broken one any other: its neighbours may be broken as well."""
        for _ in range(_MOST_TRIES):
            try:
                example = self.data.example(index)
            except CalibrationError as error:
                self.broken.note(index, error)
                if self.broken.hopeless:
                    break
                index = int(rng.integers(len(self.data)))
            else:
                self.broken.note_read()
                return example
        what = f"{len(self.broken.numbers)} images could not be read, of {self.broken.reads} that were tried"
        first = next(iter(self.broken.reasons.values()), self.data.name)
        raise TrainingError(what, where=first, fix="look at the images, and at the way to them")

    def _batch(self, at: int, parts: list[Future[Example]]) -> Batch:
        examples = [part.result() for part in parts]
        epoch, step = divmod(at, self.steps)
        labels = np.array([example.label for example in examples], np.int64)
        return Batch(epoch, step, np.stack([example.crop for example in examples]), labels)
