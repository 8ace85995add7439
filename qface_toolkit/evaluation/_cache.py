"""Embeddings that were computed before, so that a second question about a model costs no second run of it.

A folder holds one file for each model file, release of the runtime, preprocessing, flip and processor: a head with
the embedding's length, and behind it records of one size, each the digest of an image, its embedding and a check of
both. Records are only ever added, under a lock, so that several processes may use a cache. A record that is damaged
does not fit its check and is computed again. Rows are found by image, so any subset or mixture of sets reuses what is
there. Nothing in the file is anything but numbers, wherever the folder came from.
"""

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from qface_toolkit.environment import read_cpu
from qface_toolkit.errors import MeasurementError
from qface_toolkit.evaluation._base import Embedder, Rows
from qface_toolkit.untrusted.writing import append_to

PIECE = 1024
"""So many rows are kept in memory before they are written."""
_MAGIC = b"qface embeddings 2\n\0"
_HEAD_BYTES = len(_MAGIC) + 4
_WIDEST = 1 << 16
_MOST_ROWS = 1 << 24
_DIGEST_BYTES, _CHECK_BYTES = 32, 8


class EmbeddingCache:
    """The embeddings of one model; reading is safe from several threads, adding from one."""

    def __init__(self, folder: Path, embedder: Embedder, *, flip: bool) -> None:
        """Open the model's part of a cache folder, which is made if it is missing.

        Raises:
            MeasurementError: if the folder cannot be made or read.
        """
        self._path = folder / f"{_key(embedder, flip)}.rows"
        self._waiting: dict[bytes, Rows] = {}
        with _disk_errors(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = _opened(self._path)
            self._width = _read_width(self._file)
            every = np.concatenate([np.empty(0, np.uint64), *self._starts()])
        self._order = np.argsort(every, kind="stable")
        self._sorted = every[self._order]

    def find(self, digest: str) -> Rows | None:
        """Return the embedding of the image with this digest, float32 [D], or None."""
        wanted = bytes.fromhex(digest)
        start = int.from_bytes(wanted[:8], "little")
        for place in range(*(int(self._sorted.searchsorted(np.uint64(start), side)) for side in ("left", "right"))):
            row = self._row(int(self._order[place]), wanted)
            if row is not None:
                return row
        return None

    def add(self, digest: str, row: Rows) -> None:
        """Keep the embedding of an image; it is on the disk after PIECE of them, or after `flush`."""
        # A copy, since the caller may go on to change what was given out.
        self._waiting[bytes.fromhex(digest)] = row.astype("<f4")
        if len(self._waiting) >= PIECE:
            self.flush()

    def flush(self) -> None:
        """Write what was added since the last time.

        Raises:
            MeasurementError: if the disk refuses.
        """
        if not self._waiting:
            return
        width = len(next(iter(self._waiting.values())))
        records = [b"".join((digest, row.tobytes(), _check(digest, row))) for digest, row in self._waiting.items()]
        self._waiting = {}
        with _disk_errors(self._path):
            append_to(self._path, b"".join(records), prepare=lambda file: _make_ready(file, width))

    def close(self) -> None:
        """Write what was added, and let the file go.

        Raises:
            MeasurementError: if the disk refuses.
        """
        try:
            self.flush()
        finally:
            if self._file is not None:
                self._file.close()

    def _starts(self) -> Iterator[npt.NDArray[np.uint64]]:
        """Yield the first eight bytes of each record's digest as numbers."""
        if self._file is None or not self._width:
            return
        size, left = _record_bytes(self._width), _MOST_ROWS
        while left > 0:
            block = self._file.read(min(PIECE, left) * size)
            whole = np.frombuffer(block, np.uint8)[: len(block) // size * size].reshape(-1, size)
            if not len(whole):
                return
            yield np.ascontiguousarray(whole[:, :8]).view("<u8")[:, 0].astype(np.uint64)
            left -= len(whole)

    def _row(self, place: int, wanted: bytes) -> Rows | None:
        """Return the embedding in a record, if it is whole and of the image with this digest."""
        if self._file is None:
            return None
        size = _record_bytes(self._width)
        with _disk_errors(self._path):
            record = os.pread(self._file.fileno(), size, _HEAD_BYTES + place * size)
        row = np.frombuffer(record[_DIGEST_BYTES : size - _CHECK_BYTES], "<f4") if len(record) == size else None
        if row is None or record[:_DIGEST_BYTES] != wanted or record[-_CHECK_BYTES:] != _check(wanted, row):
            return None
        return row.astype(np.float32)


def _key(embedder: Embedder, flip: bool) -> str:
    # Processors of other features run other integer kernels, whose sums may saturate.
    facts = (embedder.sha256, embedder.runtime, sorted(embedder.spec.as_plain().items()), flip, read_cpu())
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def _record_bytes(width: int) -> int:
    return _DIGEST_BYTES + 4 * width + _CHECK_BYTES


def _check(digest: bytes, row: Rows) -> bytes:
    return hashlib.sha256(digest + row.tobytes()).digest()[:_CHECK_BYTES]


def _opened(path: Path) -> BinaryIO | None:
    """Return the cache's file for reading, None if there is none yet; whatever else has its name is an OSError."""
    with suppress(FileNotFoundError):
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
        raise OSError(errno.ENXIO, "a pipe or a device stands there")
    return None


def _read_width(file: BinaryIO | None) -> int:
    """Return how many numbers each row has, 0 if the head is missing or damaged."""
    head = b"" if file is None else file.read(_HEAD_BYTES)
    width = int.from_bytes(head[len(_MAGIC) :], "little") if len(head) == _HEAD_BYTES else 0
    return width if head.startswith(_MAGIC) and width <= _WIDEST else 0


def _make_ready(file: BinaryIO, width: int) -> None:
    """Bring the file into a state in which records of this width can be added, and keep other processes from it.

    The lock ends when the file is closed. Half a record of a process that was killed is cut off.
    """
    fcntl.flock(file, fcntl.LOCK_EX)
    head = _MAGIC + width.to_bytes(4, "little")
    if os.pread(file.fileno(), _HEAD_BYTES, 0) != head:
        file.truncate(0)
        file.write(head)
        return
    records = os.fstat(file.fileno()).st_size - _HEAD_BYTES
    file.truncate(_HEAD_BYTES + records // _record_bytes(width) * _record_bytes(width))


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"the cache of embeddings cannot be used: {error.strerror or error}"
        raise MeasurementError(what, where=str(path), fix="give another folder, or none") from error
