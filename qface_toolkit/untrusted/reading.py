"""Open a file that is not trusted: a folder, pipe or page is refused in words, and nothing is waited for on end.

Whatever is checked of a file is checked through the one descriptor that is read: a path may lead elsewhere later.
"""

import errno
import hashlib
import os
import stat
import zipfile
from io import BufferedReader
from pathlib import Path

from qface_toolkit.errors import ArtifactError, QFaceError

_AGAIN = "copy or download it again"
_HEAD = 512
_POINTER = b"version https://git-lfs.github.com/spec/"
_PAGES = (b"<!doctype html", b"<html", b"<head", b"<body")
_OTHERS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_WORDS = {
    errno.EACCES: ("this may not be read", "let the user that runs the command read it and the folders above it"),
    errno.EPERM: ("this may not be read", "let the user that runs the command read it and the folders above it"),
    errno.ELOOP: ("links lead in a circle here", "give the file itself"),
    errno.ENAMETOOLONG: ("this name is too long", "give the file a shorter one"),
    errno.ENOTDIR: ("a part of this path is a file and not a folder", "check the path"),
}


def open_file(
    path: Path,
    largest_bytes: int,
    *,
    noun: str = "file",
    fix: str = "check the path",
    kind: type[QFaceError] = ArtifactError,
) -> BufferedReader:
    """Open a regular file of 1 to `largest_bytes` bytes; `noun` is what it should be, `fix` what to do without it.

    Links are followed: it is the caller's own path, and models are often kept as links.

    Raises:
        QFaceError: of this kind, if there is no such file, it may not be read, or it is something else: a folder, a
            pipe, a device, a web page, a pointer of Git LFS.
    """
    try:
        _check_regular(path.stat(), path, noun, kind)
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    except (OSError, ValueError) as error:
        raise _unopened(path, error, noun, fix, kind) from error
    try:
        found = os.fstat(file.fileno())
        _check_regular(found, path, noun, kind)
        _check_size(found.st_size, largest_bytes, path, noun, kind)
        _check_head(os.pread(file.fileno(), _HEAD, 0), path, noun, kind)
    except BaseException:
        file.close()
        raise
    return file


def read_file(
    path: Path,
    largest_bytes: int,
    *,
    noun: str = "file",
    fix: str = "check the path",
    kind: type[QFaceError] = ArtifactError,
) -> bytes:
    """Return the bytes of a regular file; see `open_file`."""
    with open_file(path, largest_bytes, noun=noun, fix=fix, kind=kind) as file:
        try:
            data = file.read(largest_bytes + 1)
        except OSError as error:
            raise _unopened(path, error, noun, fix, kind) from error
    _check_size(len(data), largest_bytes, path, noun, kind)
    return data


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stored_records(archive: zipfile.ZipFile, largest_bytes: int) -> list[zipfile.ZipInfo]:
    """Return the records of a zip archive once their sizes can be believed, which must not exceed this in all.

    Neither torch nor numpy compresses anything here, so what is larger than its file is none of theirs.

    Raises:
        ValueError: if one is compressed, two have one name, or they claim more.
    """
    records = archive.infolist()
    claimed = sum(record.file_size for record in records)
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise ValueError("its records are compressed")
    if len({record.filename for record in records}) != len(records):
        raise ValueError("two of its records have one name")
    if claimed > largest_bytes:
        raise ValueError(f"its records claim {claimed} bytes where there are {largest_bytes} at most")
    return records


def is_pointer(content: bytes) -> bool:
    """Tell whether this is no file but what Git LFS leaves in its place."""
    return content.startswith(_POINTER)


def as_text(value: str | bytes) -> str:
    """Return a text of the file as one: where it is damaged, protobuf gives bytes."""
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def printable(text: str | bytes, most: int = 80) -> str:
    """Return a stranger's text cut short and free of what a terminal would obey."""
    return "".join(sign if sign.isprintable() else "?" for sign in as_text(text)[:most])


def _unopened(path: Path, error: Exception, noun: str, fix: str, kind: type[QFaceError]) -> QFaceError:
    if isinstance(error, FileNotFoundError):
        link = path.is_symlink()
        what = "this is a link to a file that is not there" if link else f"there is no such {noun}"
        return kind(what, where=str(path), fix=fix)
    number = error.errno if isinstance(error, OSError) else None
    said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    what, instead = _WORDS.get(number or 0, (f"the {noun} cannot be read: {said}", fix))
    return kind(what, where=str(path), fix=instead)


def _check_regular(found: os.stat_result, path: Path, noun: str, kind: type[QFaceError]) -> None:
    if not stat.S_ISREG(found.st_mode):
        other = next((name for is_one, name in _OTHERS if is_one(found.st_mode)), "something else")
        raise kind(f"this is {other} and no {noun}", where=str(path), fix="name the file itself")


def _check_size(size: int, largest_bytes: int, path: Path, noun: str, kind: type[QFaceError]) -> None:
    if size == 0:
        raise kind(f"the {noun} is empty", where=str(path), fix=_AGAIN)
    if size > largest_bytes:
        what = f"the {noun} is larger than {largest_bytes} bytes, more than any that is of use here"
        raise kind(what, where=str(path), fix=_AGAIN)


def _check_head(head: bytes, path: Path, noun: str, kind: type[QFaceError]) -> None:
    if is_pointer(head):
        what = f"this is a pointer of Git LFS and not the {noun} itself"
        raise kind(what, where=str(path), fix="run `git lfs pull` in its checkout, or download the file itself")
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_PAGES):
        what = f"this is a web page and no {noun}"
        raise kind(what, where=str(path), fix="download it again, by the link to the file and not to a page about it")
