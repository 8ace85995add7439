"""Read a stranger's weight file without running its code and without believing what it claims.

`torch.load(weights_only=True)` runs no foreign code, but it trusts the sizes a file declares: a kilobyte can ask for
terabytes, and a zip record can be read beyond its end. So the file's claims are held against its bytes first, on the
pickle's opcodes alone. safetensors checks its own header.
"""

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import torch
from safetensors import SafetensorError, safe_open

from qface_toolkit.errors import CheckpointError
from qface_toolkit.models._opcodes import Claims, read_claims

_LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_LARGEST_BYTES = 8 << 30
_RESAVE = (
    "in the program that made the file, save the weights alone: "
    "torch.save(model.state_dict(), 'weights.pth') or safetensors.torch.save_file(model.state_dict(), ...)"
)


def read_weights(path: Path) -> tuple[object, Mapping[str, str]]:
    """Return what a file that `check_file` passed holds (tensors in nested dicts) and safetensors' text metadata.

    Raises:
        CheckpointError: if the file is no weight file, holds Python objects, or claims more than its bytes.
    """
    with path.open("rb") as stream:
        head = stream.read(16)
    if head[:2] == b"PK":
        return _read_zip(path), {}
    if head[: len(_LEGACY_MAGIC)] == _LEGACY_MAGIC:
        return _read_legacy(path), {}
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        return _read_safetensors(path)
    if head[:1] == b"\x80":
        raise CheckpointError("the file is a Python pickle, not written by torch.save", where=str(path), fix=_RESAVE)
    raise _not_a_checkpoint(path)


def check_file(path: Path) -> None:
    """Check that there is a file to read, of a size that a face network's weights can have.

    Raises:
        CheckpointError: if not.
    """
    if not path.exists():
        raise CheckpointError("there is no such checkpoint", where=str(path), fix="check the path")
    if not path.is_file():
        raise CheckpointError("a checkpoint is a file, and this is none", where=str(path), fix="name the file itself")
    size = path.stat().st_size
    if size == 0:
        raise CheckpointError("the checkpoint is empty", where=str(path), fix="copy or download it again")
    if size > _LARGEST_BYTES:
        raise CheckpointError(
            f"the checkpoint has {size} bytes, more than any face network", where=str(path), fix=_RESAVE
        )


def _not_a_checkpoint(path: Path) -> CheckpointError:
    fix = "give a state dict saved by torch.save (.pth, .pt, .ckpt), a .safetensors or an .onnx file"
    return CheckpointError("the file is not a checkpoint", where=str(path), fix=fix)


def _damaged(path: Path, why: object) -> CheckpointError:
    reason = str(why).partition("\n")[0][:300]
    return CheckpointError(
        f"the checkpoint is damaged or cut short: {reason}", where=str(path), fix="copy or download it again"
    )


def _read_safetensors(path: Path) -> tuple[object, Mapping[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118 (no mapping)
    except (SafetensorError, RuntimeError, MemoryError, OverflowError) as error:
        raise _damaged(path, error) from error


def _read_zip(path: Path) -> object:
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = _record_sizes(archive, path)
            pickles = [name for name in sizes if name.endswith("/data.pkl") or name == "data.pkl"]
            if len(pickles) != 1:
                raise _not_a_checkpoint(path)
            folder = pickles[0].removesuffix("data.pkl")
            with archive.open(pickles[0]) as stream:
                claims = _claims_of(path, stream)
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, struct.error) as error:
        raise _damaged(path, error) from error
    for storage in claims.storages:
        held = sizes.get(f"{folder}data/{storage.key}", 0)
        if storage.size_bytes > held:
            raise _overdrawn(path, storage.size_bytes, held)
    return _load(path, mmap=True)


def _record_sizes(archive: zipfile.ZipFile, path: Path) -> dict[str, int]:
    """Return the size of every record; torch stores them uncompressed, so anything else is not its work."""
    records = archive.infolist()
    if any(record.filename.endswith("constants.pkl") for record in records):
        raise CheckpointError("the file is a TorchScript program", where=str(path), fix=_RESAVE)
    sizes = {record.filename: record.file_size for record in records}
    compressed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
    claimed, held = sum(record.file_size for record in records), path.stat().st_size
    if compressed or claimed > held or len(sizes) != len(records):
        raise CheckpointError(
            f"torch.save did not write this zip archive: compressed, or {claimed} bytes claimed in a file of {held}",
            where=str(path),
            fix=_RESAVE,
        )
    return sizes


def _read_legacy(path: Path) -> object:
    """Read torch's format from before 1.6: five pickles, the fourth with the object, then the storages."""
    held = path.stat().st_size
    with path.open("rb") as stream:
        claims = [_claims_of(path, stream) for _ in range(5)][3]
    claimed = sum({storage.key: storage.size_bytes for storage in claims.storages}.values())
    if claimed > held:
        raise _overdrawn(path, claimed, held)
    return _load(path, mmap=False)


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
            fix=_RESAVE,
        )
    return claims


def _overdrawn(path: Path, claimed: int, held: int) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint claims {claimed} bytes of weights where it holds {held}",
        where=str(path),
        fix="copy or download it again; if it stays so, do not trust the file",
    )


def _load(path: Path, *, mmap: bool) -> object:
    try:
        loaded: object = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except (pickle.UnpicklingError, RuntimeError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise _damaged(path, error) from error
    except (EOFError, AssertionError, OverflowError, MemoryError, struct.error) as error:
        raise _damaged(path, error) from error
    return loaded
