"""Headers of a tar shard and the samples they make, by webdataset's rules; nothing of it is ever written to a disk.

A sample is members that follow each other and share a key: the name up to the first dot of its last part.
"""

import contextlib
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

from qface_toolkit.datasets._labels import MOST_IDENTITIES
from qface_toolkit.datasets._pixels import LARGEST_BYTES, SUFFIXES
from qface_toolkit.errors import CalibrationError
from qface_toolkit.untrusted.reading import printable

IMAGES = tuple(suffix.removeprefix(".") for suffix in SUFFIXES)
PICKLED = ("pickle", "pkl", "pth", "pt", "pyd")
"""What webdataset, or whoever opens such a member, would hand to pickle, which runs what stands in it."""

_NAME = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)
_META = re.compile(r"__[^/]*__($|/)")
_LABEL = re.compile(rb"\s*([0-9]{1,10})\s*")
_BLOCK = 512
_MOST_HEADERS = 1 << 14
_MOST_FACTS = 64
_LARGEST_LABEL, _LARGEST_JSON = 64, 1 << 16
_AGAIN = "copy or download the shard again"
# All of these come out of tarfile for headers that are damaged.
_BROKEN = (tarfile.TarError, ValueError, LookupError, ArithmeticError, RecursionError, TypeError)


@dataclass
class Sample:
    """An image of a shard: its place and size in bytes, and its label, if it has one."""

    key: str
    offset: int = 0
    size: int = 0
    label: int | None = None
    suffixes: set[str] = field(default_factory=set)


def read_samples(file: BufferedReader, path: Path) -> Iterator[Sample]:
    """Give the samples of a shard, in order; members that are no image and no label are passed over.

    Raises:
        CalibrationError: if it is no uncompressed tar, is damaged, holds a link, a device or a pickled member, or a
            label is none or without an image.
    """
    sample = Sample("")
    for member in _members(file, path):
        matched = _NAME.fullmatch(member.name)
        if matched is None or _META.match(member.name):
            continue
        key, suffix = matched[1], matched[2].lower()
        if key != sample.key:
            yield from _whole(sample, path)
            sample = Sample(key)
        if suffix in sample.suffixes:
            raise refused(path, member.name, "is there twice in one sample")
        sample.suffixes.add(suffix)
        _take(sample, suffix, member, file, path)
    yield from _whole(sample, path)


def refused(path: Path, name: str, why: str, fix: str = "take it out of the shard") -> CalibrationError:
    """Return the error for a member of a shard."""
    where = f"{path}, member {printable(name)}"
    return CalibrationError(f"the member {printable(name)!r} {why}", where=where, fix=fix)


def _take(sample: Sample, suffix: str, member: tarfile.TarInfo, file: BufferedReader, path: Path) -> None:
    """Add what a member says to its sample."""
    if not set(PICKLED).isdisjoint(suffix.split(".")):
        raise refused(path, member.name, "is of a kind that is read by pickle, which runs what stands in it")
    if suffix in IMAGES:
        if sample.size:
            raise refused(path, member.name, "is a second image in one sample")
        if not 0 < member.size <= LARGEST_BYTES:
            raise refused(path, member.name, f"has {member.size} bytes, which no crop has")
        sample.offset, sample.size = member.offset_data, member.size
    elif suffix == "cls":
        sample.label = _label(_content(file, member, _LARGEST_LABEL, path), member, path)
    elif suffix == "json" and "cls" not in sample.suffixes:
        sample.label = _label_in_json(_content(file, member, _LARGEST_JSON, path), member, path)


def _whole(sample: Sample, path: Path) -> Iterator[Sample]:
    if sample.size:
        yield sample
    elif sample.label is not None:
        why = "is a label without an image; members of one sample must follow each other"
        raise refused(path, sample.key, why, "write the shard sorted by name")


def _content(file: BufferedReader, member: tarfile.TarInfo, most: int, path: Path) -> bytes:
    if member.size > most:
        raise refused(path, member.name, f"has {member.size} bytes, more than a label needs")
    return os.pread(file.fileno(), member.size, member.offset_data)


def _label(text: bytes, member: tarfile.TarInfo, path: Path) -> int:
    found = _LABEL.fullmatch(text)
    if found is None or int(found[1]) >= MOST_IDENTITIES:
        raise refused(path, member.name, f"is no number of an identity: {printable(text)!r}", "number them from 0")
    return int(found[1])


def _label_in_json(text: bytes, member: tarfile.TarInfo, path: Path) -> int | None:
    """Return the number that JSON calls label, or None where it has nothing of that name."""
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refused(path, member.name, f"is no JSON: {printable(str(error))}") from error
    label = facts.get("label") if isinstance(facts, dict) else None
    if label is None:
        return None
    if type(label) is not int or not 0 <= label < MOST_IDENTITIES:
        why = f"has a label that is no number of an identity: {printable(repr(label))}"
        raise refused(path, member.name, why, "number them from 0")
    return label


def _members(file: BufferedReader, path: Path) -> Iterator[tarfile.TarInfo]:
    """Give the regular members of a shard, each within the file."""
    size = os.fstat(file.fileno()).st_size
    headers = _Headers(file)
    with _damage(path):
        archive = tarfile.open(fileobj=headers, mode="r:")  # type: ignore[call-overload]  # noqa: SIM115 - holds nothing
    while (member := _next(archive, headers, path)) is not None:
        if member.isreg() and not member.issparse():
            if not 0 <= member.size <= size - member.offset_data:
                raise refused(path, member.name, f"announces {member.size} bytes, more than the file has", _AGAIN)
            yield member
        elif not member.isdir():
            raise refused(path, member.name, "is a link, a device or another thing than a plain file")
    _check_end(os.pread(file.fileno(), _BLOCK, archive.offset), archive.offset, path)


def _next(archive: tarfile.TarFile, headers: "_Headers", path: Path) -> tarfile.TarInfo | None:
    """Return the next member; those that were are forgotten, or a shard of millions would be in memory."""
    headers.left = _MOST_HEADERS
    with _damage(path):
        before = archive.offset
        member = archive.next()
        archive.members = []  # type: ignore[attr-defined]  # as webdataset does
        facts = 0 if member is None else len(member.pax_headers)
        if max(facts, len(archive.pax_headers)) > _MOST_FACTS or archive.offset < before:
            raise ValueError("a header says more than any that is of use")
    return member


def _check_end(block: bytes, offset: int, path: Path) -> None:
    """Tell the end mark, zeros, from what tarfile takes for an end too: a damaged header, and the end of the file."""
    if len(block) < _BLOCK:
        raise CalibrationError("the shard is cut short: it has no end mark", where=str(path), fix=_AGAIN)
    if any(block):
        raise CalibrationError(f"the header at byte {offset} of the shard is damaged", where=str(path), fix=_AGAIN)


@contextlib.contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        what = f"this is no uncompressed tar file, or a damaged one: {printable(str(error))}"
        raise CalibrationError(what, where=str(path), fix="write it with tar, without compression") from error
    except OSError as error:
        what = f"the shard cannot be read: {error.strerror or error}"
        raise CalibrationError(what, where=str(path), fix="look at the disk") from error


class _Headers:
    """A file of which tarfile reads no more than `left` bytes a member: headers that claim more fill no memory."""

    def __init__(self, file: BufferedReader) -> None:
        self._file = file
        self.left = _MOST_HEADERS

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self.left:
            raise ValueError("a header is larger than any that is of use")
        self.left -= size
        return self._file.read(size)

    def seek(self, place: int) -> int:
        return self._file.seek(place)

    def tell(self) -> int:
        return self._file.tell()
