"""The few things that every file of ours needs: writes that survive a power cut, bounded JSON, and errors in words."""

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from qface_toolkit.errors import ArtifactError

_WORDS = {
    errno.ENOSPC: ("the disk is full", "free some space and run the same command again with --resume"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and run the same command again with --resume"),
    errno.EROFS: ("this place is read-only", "choose an --out that you may write to"),
    errno.EACCES: ("this place may not be written or read", "choose an --out that you may write to"),
    errno.EPERM: ("this place may not be written or read", "choose an --out that you may write to"),
    errno.ENOTDIR: ("a part of this path is a file and not a folder", "choose another --out"),
    errno.ENAMETOOLONG: ("this name is too long", "choose another --out"),
}


@contextlib.contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Turn an OSError inside the block into an ArtifactError that says what to do."""
    try:
        yield
    except OSError as error:
        what, fix = _WORDS.get(error.errno or 0, (f"the disk says: {error.strerror or error}", "look at the disk"))
        raise ArtifactError(what, where=str(error.filename or where), fix=fix) from error


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the block a file beside `path` to write to; `path` becomes that file, or stays as it was if the block fails.

    The file keeps its ending, because some writers add one where it is missing.
    """
    temporary = path.with_name(f".writing-{path.name}")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network disks cannot sync a folder; that is their own affair.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def write_json(path: Path, values: object) -> None:
    """Write plain values as JSON, whole or not at all; NaN is a ValueError."""
    data = json_bytes(values)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def json_bytes(values: object) -> bytes:
    """Return plain values as the JSON that files of ours hold; NaN is a ValueError."""
    return (json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def read_json(path: Path, largest_bytes: int) -> dict[str, object]:
    """Return the JSON object in a file that somebody else may have made.

    Raises:
        ArtifactError: if the file is missing, too large, not a JSON object or holds NaN or infinity.
    """
    with disk_errors(path):
        if not path.is_file():
            raise ArtifactError("there is no such file", where=str(path), fix="give the folder that `compress` wrote")
        with path.open("rb") as file:
            data = file.read(largest_bytes + 1)
    if len(data) > largest_bytes:
        raise ArtifactError(f"the file is larger than {largest_bytes} bytes", where=str(path), fix="make it again")
    try:
        values = json.loads(data, parse_constant=_not_a_number, parse_float=_finite)
    # RecursionError: brackets nested a thousand deep.
    except (ValueError, RecursionError) as error:
        raise ArtifactError(
            f"this is not JSON that can be used: {error}", where=str(path), fix="make it again"
        ) from error
    if not isinstance(values, dict):
        raise ArtifactError("this is not a JSON object", where=str(path), fix="make it again")
    return values


def _not_a_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a figure")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _not_a_number(text)
    return number


def lock_folder(folder: Path) -> int:
    """Keep other processes out of a folder until the returned file descriptor is closed.

    Raises:
        ArtifactError: if another process is in it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        fix = "wait for it, or choose another --out"
        raise ArtifactError("another process is at work here", where=str(folder), fix=fix) from error
    except OSError:
        # Some network disks know no locks; there the user must take care not to start two jobs.
        return descriptor
    return descriptor


def remove_all_but(folder: Path, kept: set[str]) -> None:
    """Remove everything from a folder except the files of these names, relative to it."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if str(path.relative_to(folder)) in kept:
            continue
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):
                path.rmdir()
        else:
            path.unlink()
