"""Read a stranger's weight file without running its code and without believing what it claims.

`torch.load(weights_only=True)` runs no foreign code, but it trusts the sizes a file declares: a kilobyte can ask for
terabytes, and a zip record can be read beyond its end. So the file's claims are held against its bytes first, on the
pickle's opcodes alone. safetensors checks its own header.
"""

import io
import json
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from qface_toolkit.errors import CheckpointError
from qface_toolkit.untrusted._claims import Claims, read_claims
from qface_toolkit.untrusted._stand_ins import stand_ins
from qface_toolkit.untrusted.formats import LARGEST_BYTES, LEGACY_MAGIC, RESAVE, Form, folder_error, form_of
from qface_toolkit.untrusted.reading import open_file, stored_records

_LARGEST_HEADER_BYTES = 100_000_000
"""Of a safetensors file, as safetensors itself has it."""
_LENGTH_BYTES = 8
_DAMAGE = (
    *(pickle.UnpicklingError, RuntimeError, ValueError, TypeError, AttributeError, LookupError),
    *(EOFError, AssertionError, OverflowError, MemoryError, struct.error),
)
"""What torch raises when a damaged file asks for what cannot be."""
_LARGEST_SAFETENSORS = 2 << 30
_TENSORS = (
    "in the program that made the file, save tensors in place of arrays: "
    "torch.save({key: torch.from_numpy(values) for key, values in weights.items()}, 'weights.pth')"
)


@contextmanager
def open_checkpoint(path: Path) -> Iterator[tuple[BufferedReader, Form]]:
    """Open a float model's file of a size that a face network can have, and tell its form; see `form_of`.

    Raises:
        CheckpointError: if there is none, or it is of a form that is not read here.
    """
    if path.is_dir():
        raise folder_error(path, CheckpointError)
    with open_file(path, LARGEST_BYTES, noun="checkpoint", kind=CheckpointError) as stream:
        yield stream, form_of(stream, path, scripts=False)


def read_weights(stream: BinaryIO, path: Path) -> tuple[object, Mapping[str, str]]:
    """Return what an open file holds (tensors in nested dicts) and safetensors' text metadata; `path` is its name.

    Raises:
        CheckpointError: if the file is no weight file, holds Python objects, or claims more than its bytes.
    """
    head = stream.read(16)
    stream.seek(0)
    if head[:2] == b"PK":
        return _read_zip(stream, path), {}
    if head[: len(LEGACY_MAGIC)] == LEGACY_MAGIC:
        return _read_legacy(stream, path), {}
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        return _read_safetensors(stream, path)
    raise _not_a_checkpoint(path)


def _not_a_checkpoint(path: Path) -> CheckpointError:
    fix = "give a state dict saved by torch.save (.pth, .pt, .ckpt), a .safetensors or an .onnx file"
    return CheckpointError("the file is not a checkpoint", where=str(path), fix=fix)


def _damaged(path: Path, why: object) -> CheckpointError:
    reason = str(why).partition("\n")[0][:300]
    return CheckpointError(
        f"the checkpoint is damaged or cut short: {reason}", where=str(path), fix="copy or download it again"
    )


def _read_safetensors(stream: BinaryIO, path: Path) -> tuple[object, Mapping[str, str]]:
    data = stream.read(_LARGEST_SAFETENSORS + 1)
    if len(data) > _LARGEST_SAFETENSORS:
        what = f"the checkpoint is larger than {_LARGEST_SAFETENSORS} bytes, more than any face network"
        raise CheckpointError(what, where=str(path), fix=RESAVE)
    try:
        return tensors_of(data), metadata_of(io.BytesIO(data))
    except ValueError as error:
        raise _damaged(path, error) from error


def tensors_of(data: bytes) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        ValueError: if this is no such file, or it claims what it does not hold.
    """
    try:
        return load(data)
    except (SafetensorError, RuntimeError, MemoryError, OverflowError) as error:
        raise ValueError(str(error)) from error


def metadata_of(stream: BinaryIO) -> Mapping[str, str]:
    """Return the text metadata of an open safetensors file, of which no more than the head is read.

    safetensors itself reads it from a path alone.

    Raises:
        ValueError: if this is no such file.
    """
    length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
    text = stream.read(length) if length <= _LARGEST_HEADER_BYTES else b""
    if len(text) != length:
        raise ValueError("no head of a safetensors file")
    try:
        head = json.loads(text)
    except RecursionError as error:
        raise ValueError("brackets nested too deep") from error
    told = head.get("__metadata__", {}) if isinstance(head, dict) else None
    if not isinstance(told, dict) or not all(isinstance(text, str) for text in told.values()):
        raise ValueError("no head of a safetensors file")
    return told


def _read_zip(stream: BinaryIO, path: Path) -> object:
    try:
        with zipfile.ZipFile(stream) as archive:
            sizes = _record_sizes(archive, path, _size(stream))
            pickles = [name for name in sizes if name.endswith("/data.pkl") or name == "data.pkl"]
            if len(pickles) != 1:
                raise _not_a_checkpoint(path)
            folder = pickles[0].removesuffix("data.pkl")
            with archive.open(pickles[0]) as record:
                claims = _claims_of(path, record)
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, struct.error) as error:
        raise _damaged(path, error) from error
    for storage in claims.storages:
        held = sizes.get(f"{folder}data/{storage.key}", 0)
        if storage.size_bytes > held:
            raise _overdrawn(path, storage.size_bytes, held)
    return _load(stream, path)


def _size(stream: BinaryIO) -> int:
    return os.fstat(stream.fileno()).st_size


def _record_sizes(archive: zipfile.ZipFile, path: Path, held: int) -> dict[str, int]:
    """Return the size of every record; torch stores them uncompressed, so anything else is not its work."""
    try:
        return {record.filename: record.file_size for record in stored_records(archive, held)}
    except ValueError as error:
        what = f"torch.save did not write this zip archive: {error}"
        raise CheckpointError(what, where=str(path), fix=RESAVE) from error


def _read_legacy(stream: BinaryIO, path: Path) -> object:
    """Read torch's format from before 1.6: five pickles, the fourth with the object, then the storages."""
    held = _size(stream)
    claims = [_claims_of(path, stream) for _ in range(5)][3]
    claimed = sum({storage.key: storage.size_bytes for storage in claims.storages}.values())
    if claimed > held:
        raise _overdrawn(path, claimed, held)
    return _load(stream, path)


def _claims_of(path: Path, stream: IO[bytes]) -> Claims:
    try:
        claims = read_claims(stream)
    except (ValueError, IndexError, EOFError, struct.error) as error:
        raise _damaged(path, error) from error
    if claims.foreign:
        names = ", ".join(sorted(claims.foreign)[:6])
        raise CheckpointError(
            f"the file holds pickled Python objects, which are never loaded: {names[:300]}",
            where=str(path),
            fix=_TENSORS if all(name.startswith("numpy") for name in claims.foreign) else RESAVE,
        )
    return claims


def _overdrawn(path: Path, claimed: int, held: int) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint claims {claimed} bytes of weights where it holds {held}",
        where=str(path),
        fix="copy or download it again; if it stays so, do not trust the file",
    )


def _load(stream: BinaryIO, path: Path) -> object:
    try:
        return _unpickled(stream)
    except UnicodeDecodeError:
        pass  # the strings of Python 2 are bytes; those that are no ASCII are no keys of weights
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "pickle_load_args only works")  # which is not so of the encoding
            return _unpickled(stream, encoding="latin1")
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _unpickled(stream: BinaryIO, **options: Any) -> object:  # noqa: ANN401 - of torch.load
    stream.seek(0)
    with torch.serialization.safe_globals(stand_ins()):
        loaded: object = torch.load(stream, map_location="cpu", weights_only=True, **options)
    return loaded
