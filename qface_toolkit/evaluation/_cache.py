"""Embeddings that were computed before, so that a second question about a model costs no second run of it.

A folder holds one folder for each model file, release of the runtime, preprocessing, flip and processor. In it, each
file is a piece of at most PIECE rows: the digest of each image and its embedding. A file is written aside and
renamed, and is named after the SHA-256 of its content: one that was damaged does not fit its name and is removed, and
its rows are computed again. Rows are found by image, so any subset or mixture of sets reuses what is there.
"""

import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qface_toolkit._disk import file_sha256
from qface_toolkit.environment import read_cpu
from qface_toolkit.errors import MeasurementError
from qface_toolkit.evaluation._base import Embedder, Rows

PIECE = 1024
_FORM = 1
_DIGEST_BYTES = 32


class EmbeddingCache:
    """The embeddings of one model; reading is safe from several threads, adding from one."""

    def __init__(self, folder: Path, embedder: Embedder, *, flip: bool) -> None:
        """Open the model's part of a cache folder, which is made if it is missing.

        Raises:
            MeasurementError: if the folder cannot be made or read.
        """
        self._folder = folder / _key(embedder, flip)
        self._digests: list[bytes] = []
        self._rows: list[Rows] = []
        with _disk_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._pieces = _one_width([piece for path in sorted(self._folder.glob("*.npy")) for piece in _read(path)])
        starts = [_starts(piece["digest"]) for piece in self._pieces]
        self._ends = np.cumsum([len(piece) for piece in self._pieces], dtype=np.intp)
        every = np.concatenate(starts) if starts else np.empty(0, np.uint64)
        self._order = np.argsort(every, kind="stable")
        self._sorted = every[self._order]

    def find(self, digest: str) -> Rows | None:
        """Return the embedding of the image with this digest, float32 [D], or None."""
        wanted = bytes.fromhex(digest)
        start = _starts(np.frombuffer(wanted, np.uint8)[None])[0]
        for place in range(*(int(self._sorted.searchsorted(start, side)) for side in ("left", "right"))):
            entry = self._entry(int(self._order[place]))
            if entry["digest"].tobytes() == wanted:
                row: Rows = np.array(entry["row"], np.float32)
                return row
        return None

    def add(self, digest: str, row: Rows) -> None:
        """Keep the embedding of an image; it is on the disk after PIECE of them, or after `flush`."""
        self._digests.append(bytes.fromhex(digest))
        # A copy, since the caller may go on to change what was given out.
        self._rows.append(row.copy())
        if len(self._rows) >= PIECE:
            self.flush()

    def flush(self) -> None:
        """Write what was added since the last time.

        Raises:
            MeasurementError: if the disk refuses.
        """
        if not self._rows:
            return
        width = len(self._rows[0])
        piece = np.empty(len(self._rows), [("digest", "u1", (_DIGEST_BYTES,)), ("row", "<f4", (width,))])
        piece["digest"] = np.frombuffer(b"".join(self._digests), np.uint8).reshape(-1, _DIGEST_BYTES)
        piece["row"] = self._rows
        self._digests, self._rows = [], []
        with _disk_errors(self._folder):
            _write(self._folder, piece)

    def _entry(self, place: int) -> np.void:
        number = int(np.searchsorted(self._ends, place, side="right"))
        # Counted from the end of its piece, so below zero.
        entry: np.void = self._pieces[number][place - int(self._ends[number])]
        return entry


def _key(embedder: Embedder, flip: bool) -> str:
    # Processors of other features run other integer kernels, whose sums may saturate.
    facts = (_FORM, embedder.sha256, embedder.runtime, sorted(asdict(embedder.spec).items()), flip, read_cpu())
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def _starts(digests: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Return the first eight bytes of each digest, uint8 [N, 32], as a number."""
    return np.ascontiguousarray(digests[:, :8]).view("<u8")[:, 0].astype(np.uint64)


def _read(path: Path) -> Iterator[npt.NDArray[np.void]]:
    """Give the piece that a file holds, left on the disk until it is looked at; nothing if the file is damaged."""
    try:
        if file_sha256(path) != path.stem:
            raise ValueError
        piece = np.load(path, mmap_mode="r", allow_pickle=False)
        if piece.dtype.names != ("digest", "row") or piece["digest"].shape[1:] != (_DIGEST_BYTES,):
            raise ValueError
    except (ValueError, EOFError, FileNotFoundError):
        # Another process may have removed it first.
        path.unlink(missing_ok=True)
        return
    yield piece


def _one_width(pieces: list[npt.NDArray[np.void]]) -> list[npt.NDArray[np.void]]:
    return [piece for piece in pieces if piece["row"].shape[1:] == pieces[0]["row"].shape[1:]]


def _write(folder: Path, piece: npt.NDArray[np.void]) -> None:
    stream = io.BytesIO()
    np.save(stream, piece, allow_pickle=False)
    data = stream.getvalue()
    descriptor, name = tempfile.mkstemp(prefix=".writing-", dir=folder)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / f"{hashlib.sha256(data).hexdigest()}.npy")
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"the cache of embeddings cannot be used: {error.strerror or error}"
        raise MeasurementError(what, where=str(folder), fix="give another folder, or none") from error
