"""Write into folders that may come from elsewhere: whole files that follow no link, and a disk's errors in words."""

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from qface_toolkit.errors import ArtifactError

UNFINISHED = ".writing-"
"""What the name of a file begins with that is being written, or that a killed process never finished."""

_ROOM = "free some space and run the same command again with --resume"
_ELSEWHERE = "choose an --out that you may write to"
_WORDS = {
    errno.ENOSPC: ("the disk is full", _ROOM),
    errno.EDQUOT: ("the disk quota is used up", _ROOM),
    errno.EROFS: ("this place is read-only", _ELSEWHERE),
    errno.EACCES: ("this place may not be written or read", _ELSEWHERE),
    errno.EPERM: ("this place may not be written or read", _ELSEWHERE),
    errno.ENOTDIR: (
        "a part of this path is a file and not a folder",
        "choose another --out",
    ),
    errno.EISDIR: ("this is a folder and not a file", "choose another name"),
    errno.EEXIST: ("there is something of this name already", "choose another --out"),
    errno.ELOOP: (
        "there is a link where a file or folder of ours should be",
        "remove the link, or choose another place",
    ),
    errno.ENXIO: ("this is a pipe, a socket or a device and not a file", "choose another name"),
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


def write_inside(folder: Path, name: str, data: bytes) -> None:
    """Write a file into a folder that may come from elsewhere: whole or not at all, and into nothing else.

    `name` is the file's, with or without that of a folder inside before it, which is made if it is missing. Below
    `folder` no link is followed; one called `name` is replaced. Two writers never share a file.

    Raises:
        OSError: if the disk refuses, or something else than a folder stands where one should.
    """
    *inner, last = name.split("/")
    try:
        with contextlib.ExitStack() as stack:
            place = stack.enter_context(_folder_at(folder))
            for part in inner:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=place)
                place = stack.enter_context(_folder_at(part, place))
            _put(place, last, data)
    except OSError as error:
        # Names below a folder's descriptor say nothing to people.
        error.filename = str(folder / name)
        raise


@contextlib.contextmanager
def _folder_at(folder: Path | str, place: int | None = None) -> Iterator[int]:
    """Give the descriptor of a folder; below another one, given by its descriptor, a link is no folder."""
    follow = 0 if place is None else os.O_NOFOLLOW
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | follow, dir_fd=place)
    except NotADirectoryError as error:
        if place is None or not stat.S_ISLNK(os.stat(folder, dir_fd=place, follow_symlinks=False).st_mode):
            raise
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _put(place: int, name: str, data: bytes) -> None:
    temporary = f"{UNFINISHED}{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, 0o666, dir_fd=place)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, name, src_dir_fd=place, dst_dir_fd=place)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=place)
        raise
    _sync(place)


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give the block a folder of its own to fill; it becomes `out`, or is removed if the block fails."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.with_name(f"{UNFINISHED}{secrets.token_hex(8)}")
    folder.mkdir()
    try:
        yield folder
        folder.rename(out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def append_to(path: Path, data: bytes, prepare: Callable[[BinaryIO], object] | None = None) -> None:
    """Add bytes to a file, which is made if it is missing; `prepare` sees the open file before.

    Raises:
        OSError: if the disk refuses, or there is a link, also a hard one, a pipe or a device.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    with os.fdopen(os.open(path, flags, 0o666), "ab") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            number = errno.ELOOP if stat.S_ISREG(found.st_mode) else errno.ENXIO
            raise OSError(number, os.strerror(number), str(path))
        if prepare is not None:
            prepare(file)
        file.write(data)


def sync_folder(folder: Path) -> None:
    """Wait until a folder's names are on the disk."""
    with _folder_at(folder) as descriptor:
        _sync(descriptor)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network disks cannot sync a folder; that is their own affair.
        if error.errno != errno.EINVAL:
            raise


def lock_folder(folder: Path) -> int:
    """Keep other processes out of a folder until the returned file descriptor is closed.

    Raises:
        ArtifactError: if another process is in it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
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
