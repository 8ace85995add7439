"""Read the tensors of an ONNX file: what one declares is held against the bytes it carries before any is copied."""

import hashlib
import math
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import CheckpointError
from qface_toolkit.models._onnx_wire import as_text

Array = npt.NDArray[Any]

_FLOAT, _INT32, _INT64, _BOOL, _HALF, _DOUBLE, _BRAIN = 1, 6, 7, 9, 10, 11, 16
_TYPES: Mapping[int, tuple[str, str]] = {
    _FLOAT: ("<f4", "float_data"),
    _INT32: ("<i4", "int32_data"),
    _INT64: ("<i8", "int64_data"),
    _BOOL: ("|b1", "int32_data"),
    _HALF: ("<f2", "int32_data"),
    _DOUBLE: ("<f8", "double_data"),
    _BRAIN: ("<u2", "int32_data"),
}
"""ONNX element type -> its bytes as numpy names them, and the field that holds it where there is no raw data."""

FLOAT_TYPES: Mapping[int, str] = {_FLOAT: "float32", _HALF: "float16", _DOUBLE: "float64", _BRAIN: "bfloat16"}

_MOST_AXES = 8
_MOST_EXTERNAL_BYTES = 1 << 30
_EXTERNAL = 1


@dataclass
class TensorReader:
    """Reads tensors, from `folder` those whose bytes stand beside the file, and keeps count of what it read."""

    folder: Path
    float_types: set[str] = field(default_factory=set)
    external_files: set[str] = field(default_factory=set)
    external_bytes: int = 0

    def read(self, tensor: Any) -> Array:  # noqa: ANN401 - onnx ships no types
        """Return a TensorProto's numbers: floating point as float32, integers as int64.

        Raises:
            CheckpointError: if it is of a type that a float network does not have, or declares what it does not hold.
        """
        dims = tuple(int(size) for size in tensor.dims[: _MOST_AXES + 1])
        if len(dims) > _MOST_AXES or any(size < 0 for size in dims):
            raise CheckpointError(f"a tensor declares the shape {list(dims)}, which none can have")
        if tensor.data_type not in _TYPES:
            raise CheckpointError(
                f"a tensor is of ONNX element type {tensor.data_type}, which a float network's weights are not",
                fix="export the float network; a quantized file cannot be compressed again",
            )
        if tensor.data_type in FLOAT_TYPES:
            self.float_types.add(FLOAT_TYPES[tensor.data_type])
        values = self._values(tensor, math.prod(dims)).reshape(dims)
        if tensor.data_type == _BRAIN:
            return (values.astype(np.uint32) << 16).view(np.float32)
        with np.errstate(over="ignore"):
            return values.astype(np.float32 if tensor.data_type in FLOAT_TYPES else np.int64, copy=False)

    def _values(self, tensor: Any, count: int) -> Array:  # noqa: ANN401 - onnx ships no types
        dtype = np.dtype(_TYPES[tensor.data_type][0])
        if tensor.data_location == _EXTERNAL:
            return np.frombuffer(self._external(tensor, count * dtype.itemsize), dtype)
        if tensor.HasField("raw_data"):
            data = tensor.raw_data
            _check_bytes(count * dtype.itemsize, len(data))
            return np.frombuffer(data, dtype)
        numbers = getattr(tensor, _TYPES[tensor.data_type][1])
        _check_bytes(count * dtype.itemsize, len(numbers) * dtype.itemsize)
        if tensor.data_type in (_HALF, _BRAIN):
            return np.fromiter(numbers, np.int64, count).astype(np.uint16).view(dtype)
        return np.fromiter(numbers, dtype, count)  # np.array would make a list of Python numbers first

    def _external(self, tensor: Any, needed: int) -> bytes:  # noqa: ANN401 - onnx ships no types
        place = place_of(tensor)
        _check_bytes(needed, needed if place.length is None else place.length)
        self.external_files.add(place.location)
        self.external_bytes += needed
        return read_beside(
            self.folder, replace(place, length=needed), _MOST_EXTERNAL_BYTES - self.external_bytes + needed
        )

    def contents(self) -> Iterator[bytes]:
        """Yield the bytes of every file beside the ONNX file that a tensor was read from, in pieces."""
        for location in sorted(self.external_files):
            yield from _pieces(self.folder, location)


@dataclass(frozen=True)
class Place:
    """Where a tensor's bytes stand beside the ONNX file: all from `offset` on if no length is said."""

    location: str
    offset: int
    length: int | None


def place_of(tensor: Any) -> Place:  # noqa: ANN401 - onnx ships no types
    """Return where a TensorProto says that its bytes stand.

    Raises:
        CheckpointError: if that is no place: a length or an offset that is no whole number, or below zero.
    """
    entries = {as_text(entry.key): as_text(entry.value) for entry in tensor.external_data}
    length = _whole(entries["length"]) if "length" in entries else None
    return Place(entries.get("location", ""), _whole(entries.get("offset", "0")), length)


def read_beside(folder: Path, place: Place, most: int) -> bytes:
    """Return bytes of a regular file of the folder, never through a link or a path.

    Raises:
        CheckpointError: if there is no such file, or it holds less, or they are more than `most`.
    """
    with os.fdopen(_open_beside(folder, place.location), "rb") as stream:
        held = os.fstat(stream.fileno()).st_size
        needed = held - place.offset if place.length is None else place.length
        if needed > most:
            raise CheckpointError(f"the weights beside the file come to more than {_MOST_EXTERNAL_BYTES} bytes")
        if needed < 0 or place.offset + needed > held:
            what = f"a tensor claims bytes {place.offset}..{place.offset + max(needed, 0)} of {place.location!r}"
            raise CheckpointError(f"{what}, which has {held}", fix="copy or download both files again")
        stream.seek(place.offset)
        return stream.read(needed)


def sha256_beside(folder: Path, location: str) -> str:
    """Return the SHA-256 of a file of the folder, in hexadecimal; see `read_beside`."""
    digest = hashlib.sha256()
    for piece in _pieces(folder, location):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(folder: Path, location: str) -> Iterator[bytes]:
    with os.fdopen(_open_beside(folder, location), "rb") as stream:
        while piece := stream.read(1 << 20):
            yield piece


def _open_beside(folder: Path, location: str) -> int:
    """Open a regular file of the folder, never through a link or a path."""
    plain = 0 < len(location) < 256 and location.isprintable() and location not in (".", "..")
    if not plain or any(sign in location for sign in "/\\:"):
        raise CheckpointError(
            f"a tensor's bytes are said to stand in {ascii(location[:80])}, which is no plain file name",
            fix="put the weights into the ONNX file, or into a file beside it",
        )
    path = folder / location
    if path.is_symlink() or not path.is_file():
        raise CheckpointError(
            f"a tensor's bytes should stand in {location!r} beside the ONNX file, where no such file is, or a link",
            fix="copy or download both files themselves into one folder",
        )
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        what = f"the weights in {location!r} beside the ONNX file cannot be read: {error.strerror}"
        raise CheckpointError(what, fix="let the user that runs the command read it") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CheckpointError(f"{location!r} beside the ONNX file is no plain file", fix="put the weights there")
    return descriptor


def _whole(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise CheckpointError(f"a tensor's place in a file beside the ONNX file is given as {ascii(text[:40])}")
    return int(text)


def _check_bytes(needed: int, held: int) -> None:
    if needed != held:
        raise CheckpointError(
            f"a tensor's shape needs {needed} bytes and it carries {held}",
            fix="copy, download or export the file again",
        )
