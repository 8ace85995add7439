"""Crops in folders, listed lean: names of millions of files are one text with the places where each ends."""

import contextlib
import hashlib
import os
from array import array
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qface_toolkit.datasets._base import UNKNOWN, Example
from qface_toolkit.datasets._labels import Labels, read_only
from qface_toolkit.datasets._pixels import SUFFIXES, crop_of
from qface_toolkit.errors import CalibrationError
from qface_toolkit.untrusted.images import read_bytes
from qface_toolkit.untrusted.reading import printable

_SUFFIXES = tuple(suffix.encode() for suffix in SUFFIXES)


class NameList:
    """Names of files, in order: about fifteen bytes each where a list of texts takes seventy."""

    def __init__(self) -> None:
        self.text = bytearray()
        self._ends = array("q", [0])

    def add(self, names: list[bytes]) -> None:
        """Append names."""
        for name in names:
            self.text += name
            self._ends.append(len(self.text))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> bytes:
        return bytes(self.text[self._ends[index] : self._ends[index + 1]])


class FolderData:
    """Crops in a folder, or in folders inside it that stand for an identity each; see FaceData.

    `people` are those folders' names, or one empty name where it is not said who is on an image; `counts` says how many
    of `names` belong to each.
    """

    contains_no_real_face_data: bool | None = None

    def __init__(self, kind: str, folder: Path, people: list[bytes], counts: list[int], names: NameList) -> None:
        self.kind = kind
        self.name = data_name(folder)
        self.identities = len(people) if people != [b""] else 0
        self._folder, self._people, self._counts, self._names = os.fsencode(folder), people, counts, names
        self._owners = read_only(np.repeat(np.arange(len(people), dtype=np.int32), counts))

    def __len__(self) -> int:
        return len(self._names)

    def example(self, index: int) -> Example:
        path = Path(os.fsdecode(self._path(index)))
        crop = crop_of(read_bytes(path, kind=CalibrationError), str(path))
        return Example(crop, int(self._owners[index]) if self.identities else UNKNOWN)

    def labels(self) -> Labels | None:
        return self._owners if self.identities else None

    def traits(self) -> npt.NDArray[np.float32] | None:
        return None

    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(self.kind.encode())
        digest.update(b"/".join(self._people) + np.array(self._counts, "<i8").tobytes())
        sizes = array("q")
        with listing(Path(os.fsdecode(self._folder))):
            # Bytes all the way: a Path for each of millions of files takes longer than asking the disk.
            sizes.extend(os.stat(self._path(index)).st_size for index in range(len(self)))  # noqa: PTH116
        digest.update(self._names.text)
        digest.update(np.array(sizes, "<i8").tobytes())
        return digest.hexdigest()

    def _path(self, index: int) -> bytes:
        # The name of no one, as of a flat folder, leaves a second slash, which means nothing.
        return b"/".join((self._folder, self._people[self._owners[index]], self._names[index]))


def data_name(source: Path) -> str:
    """Return the last part of a path, made fit for a report."""
    return printable(Path(os.path.realpath(source)).name or str(source))


def image_names(folder: bytes, inside: bytes) -> Iterator[bytes]:
    """Give the names of the images in a folder, in any order: hidden ones and links out of `inside` left out."""
    with os.scandir(folder) as entries:
        for entry in entries:
            named = entry.name.lower().endswith(_SUFFIXES) and not entry.name.startswith(b".")
            if named and entry.is_file() and _stays(entry, inside):
                yield entry.name


def folder_names(folder: bytes, inside: bytes) -> Iterator[bytes]:
    """Give the names of the folders in a folder: hidden ones and links out of `inside` left out."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(b".") and entry.is_dir() and _stays(entry, inside):
                yield entry.name


def _stays(entry: os.DirEntry[bytes], inside: bytes) -> bool:
    """Tell whether an entry is no link, or one to a place inside."""
    return not entry.is_symlink() or os.path.realpath(entry.path).startswith(inside.rstrip(b"/") + b"/")


@contextlib.contextmanager
def listing(folder: Path) -> Iterator[bytes]:
    """Give the real place of a folder, and say in words what the disk has against reading it."""
    try:
        yield os.path.realpath(os.fsencode(folder), strict=True)
    except OSError as error:
        where = os.fsdecode(error.filename) if error.filename else str(folder)
        what = f"the folder cannot be read: {error.strerror or error}"
        raise CalibrationError(what, where=where, fix="check the path") from error
