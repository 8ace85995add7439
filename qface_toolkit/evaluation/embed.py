"""From images to embeddings: decoded ahead in the background, run in batches, cached, never all in memory at once."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError
from qface_toolkit.evaluation._base import Embedder, FaceImages, Rows
from qface_toolkit.evaluation._cache import EmbeddingCache
from qface_toolkit.framing import Frame
from qface_toolkit.ranks import ALONE, Ranks
from qface_toolkit.sources import Crop

BATCH = 8
"""Images a run; on CPUs, small batches keep activations near (benchmarks/embedding_throughput.py)."""
_PORTION = 16
"""Images that are loaded, and given to the caller, at once; more if a batch is larger."""

Progress = Callable[[int, int], None]
"""Told how many images are done, and of how many."""


def embed_images(
    embedder: Embedder,
    images: FaceImages,
    *,
    flip: bool = True,
    batch: int = BATCH,
    threads: int = 1,
    cache: Path | None = None,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> Rows:
    """Return the embeddings of all images, float32 [N, D], in their order; see `stream_embeddings`."""
    parts = stream_embeddings(
        embedder, images, flip=flip, batch=batch, threads=threads, cache=cache, progress=progress, ranks=ranks
    )
    rows: Rows = np.empty((0, 0), np.float32)
    for start, part in parts:
        if not len(rows):
            rows = np.empty((len(images), part.shape[1]), np.float32)
        rows[start : start + len(part)] = part
    return rows


def stream_embeddings(
    embedder: Embedder,
    images: FaceImages,
    *,
    flip: bool = True,
    batch: int = BATCH,
    threads: int = 1,
    cache: Path | None = None,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> Iterator[tuple[int, Rows]]:
    """Give the embeddings a few at a time, in order: the first row's index, and float32 [n, D], not normalised.

    With `flip` the mirrored image's embedding is added to each (insightface's verification protocol). The model gets at
    most `batch` images at once. `threads` threads decode and preprocess ahead of it; `progress` is called in the
    caller's own thread. `cache` is a folder to find and keep embeddings in. Of several ranks each embeds its part, and
    is given all.

    Raises:
        MeasurementError: if there are no images, one cannot be read, the model returns anything else than one row of
            finite numbers for each image, of one width, or the cache cannot be written.
    """
    if not len(images):
        raise MeasurementError("there are no images to embed", fix="give a set that holds some")
    model = _Checked(embedder, images, flip, batch)
    store = None if cache is None else EmbeddingCache(cache, embedder, flip=flip)
    step = batch * -(-_PORTION // batch)
    portions = [range(at, min(at + step, len(images))) for at in range(0, len(images), step)]
    loaded = _ahead(lambda portion: _load(model, images, portion, store), portions[ranks.rank :: ranks.size], threads)
    try:
        with closing(loaded):
            for at in range(0, len(portions), ranks.size):
                one = next(loaded, None)
                rows = np.empty((0, 0), np.float32) if one is None else model.complete(one)
                if one is not None:
                    _keep(store, one, rows)
                together = portions[at : at + ranks.size]
                for indices, part in zip(together, _of_all_ranks(rows, together, ranks), strict=True):
                    yield indices.start, part
                    if progress is not None:
                        progress(indices.stop, len(images))
    finally:
        # What was computed before an error, or before the caller stopped, need not be computed again.
        if store is not None:
            store.close()


def _of_all_ranks(rows: Rows, portions: list[range], ranks: Ranks) -> list[Rows]:
    """Return the rows of portions that lie beside each other, of which each rank has embedded one, or the last none."""
    if ranks.size == 1:
        return [rows]
    import torch

    width = int(ranks.max(torch.tensor(rows.shape[1])))
    padded = torch.zeros(len(portions[0]), width)
    padded[: len(rows), : rows.shape[1]] = torch.from_numpy(rows)
    told = ranks.gather(padded).numpy()
    return [told[place, : len(indices)] for place, indices in enumerate(portions)]


@dataclass(frozen=True)
class _Portion:
    """Some images on their way to the model: the inputs of those that are not known yet, and the rows of the others.

    `mirrored` are the inputs of the flipped images; `places` says which images the inputs are of, counted from the
    portion's first; `digests` are theirs, where there is a cache.
    """

    indices: range
    inputs: npt.NDArray[Any] | None
    mirrored: npt.NDArray[Any] | None
    places: list[int]
    digests: list[str]
    known: dict[int, Rows]


def _load(model: "_Checked", images: FaceImages, indices: range, store: EmbeddingCache | None) -> _Portion:
    digests = [] if store is None else [images.digest(index) for index in indices]
    found = {} if store is None else {place: store.find(digest) for place, digest in enumerate(digests)}
    known = {place: row for place, row in found.items() if row is not None}
    places = [place for place in range(len(indices)) if place not in known]
    if not places:
        return _Portion(indices, None, None, places, [], known)
    crops = np.stack([_crop(images, indices[place], model.frame) for place in places])
    inputs, mirrored = model.inputs(crops)
    return _Portion(indices, inputs, mirrored, places, [digests[place] for place in places if digests], known)


def _crop(images: FaceImages, index: int, frame: Frame) -> Crop:
    crop = images.crop(index, frame)
    wanted = *frame.size, 3
    if crop.shape != wanted or crop.dtype != np.uint8:
        what = f"a crop is {crop.dtype} {crop.shape} where uint8 {wanted} is needed"
        raise MeasurementError(what, where=images.name(index), fix="align the faces first")
    return crop


def _keep(store: EmbeddingCache | None, portion: _Portion, rows: Rows) -> None:
    if store is not None:
        for place, digest in zip(portion.places, portion.digests, strict=True):
            store.add(digest, rows[place])


class _Checked:
    """A model whose every answer is looked at before it is believed."""

    def __init__(self, embedder: Embedder, images: FaceImages, flip: bool, batch: int) -> None:
        self._embedder = embedder
        self._images = images
        self._flip = flip
        self._batch = batch
        self._width: int | None = None

    @property
    def frame(self) -> Frame:
        """Where faces must stand in what the model is given."""
        return self._embedder.spec.frame

    def inputs(self, crops: Crop) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
        """Return what the model eats for crops, and for their mirrored selves if those are wanted too."""
        inputs = self._embedder.inputs(crops)
        return inputs, self._embedder.inputs(crops[:, :, ::-1]) if self._flip else None

    def complete(self, portion: _Portion) -> Rows:
        """Return the rows of a whole portion, those that were known and those that are computed now."""
        computed = self._computed(portion)
        if not portion.known:
            return computed
        rows = np.empty((len(portion.indices), self._one_width(next(iter(portion.known.values())))), np.float32)
        if portion.places:
            rows[portion.places] = computed
        for place, row in portion.known.items():
            rows[place] = row
        return rows

    def _computed(self, portion: _Portion) -> Rows:
        if portion.inputs is None:
            return np.empty((0, 0), np.float32)
        rows = self._in_batches(portion.inputs)
        if portion.mirrored is not None:
            # A sum that overflows is found below, and named.
            with np.errstate(over="ignore", invalid="ignore"):
                rows += self._in_batches(portion.mirrored)
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if bad.size:
            name = self._images.name(portion.indices[portion.places[int(bad[0])]])
            raise self._mistake("an embedding is not finite", f"{name}, model {self._embedder.name}")
        return rows

    def _in_batches(self, inputs: npt.NDArray[Any]) -> Rows:
        parts = [self._run(inputs[at : at + self._batch]) for at in range(0, len(inputs), self._batch)]
        return np.concatenate(parts).astype(np.float32, copy=False)

    def _run(self, inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        count, rows = len(inputs), np.asarray(self._embedder.run(inputs))
        if rows.ndim != 2 or len(rows) != count or not rows.shape[1] or rows.dtype.kind != "f":
            what = f"the model returns {rows.dtype} {rows.shape} for {count} images; needed are {count} rows of floats"
            raise self._mistake(what, self._embedder.name)
        self._one_width(rows[0])
        return rows

    def _one_width(self, row: npt.NDArray[Any]) -> int:
        self._width = self._width or len(row)
        if len(row) != self._width:
            what = f"the model returns embeddings of {len(row)} numbers after embeddings of {self._width}"
            raise self._mistake(what, self._embedder.name)
        return self._width

    @staticmethod
    def _mistake(what: str, where: str) -> MeasurementError:
        fix = "give a face model with one output, the embedding, and look at its weights"
        return MeasurementError(what, where=where, fix=fix)


def _ahead(load: Callable[[range], _Portion], portions: list[range], threads: int) -> Generator[_Portion, None, None]:
    """Give what `load` returns for each portion, in order, while threads load the next few."""
    with ThreadPoolExecutor(threads, "decode") as pool:
        waiting: deque[Future[_Portion]] = deque()
        try:
            for portion in portions:
                waiting.append(pool.submit(load, portion))
                if len(waiting) > threads + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
