"""A large file that is read by place, from any thread: opened once and never mapped into memory.

Pages of a mapped file count as memory of this process, and reading them after the file was cut short ends it.
"""

import os
import weakref
from pathlib import Path

from qface_toolkit.errors import CalibrationError
from qface_toolkit.untrusted.reading import open_file

LARGEST_BYTES = 1 << 44
_AGAIN = "copy or download it again"


class PlacedFile:
    """A regular file whose bytes are asked for by their place; it is closed when the last user lets go of it."""

    def __init__(self, path: Path, noun: str, fix: str = "check the path") -> None:
        file = open_file(path, LARGEST_BYTES, noun=noun, fix=fix, kind=CalibrationError)
        self.path = path
        self.descriptor = file.fileno()
        self.size = os.fstat(self.descriptor).st_size
        weakref.finalize(self, file.close)

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes; no more than the file has is ever set aside for them.

        Raises:
            CalibrationError: if the file ends before, or the disk refuses.
        """
        if not 0 <= length <= self.size - offset:
            raise self._short(offset + length)
        data = self.read_up_to(offset, length)
        if len(data) != length:
            raise self._short(offset + length)
        return data

    def read_up_to(self, offset: int, most: int) -> bytes:
        """Return `most` bytes, or as many as there are.

        Raises:
            CalibrationError: if the disk refuses.
        """
        try:
            return os.pread(self.descriptor, most, offset)
        except OSError as error:
            what = f"the file cannot be read: {error.strerror or error}"
            raise CalibrationError(what, where=str(self.path), fix="look at the disk") from error

    def read_each(self, offsets: list[int], length: int) -> bytes:
        """Return `length` bytes from each place, one after the other, with zeros where the file ends before."""
        try:
            return b"".join([os.pread(self.descriptor, length, place).ljust(length, b"\0") for place in offsets])
        except OSError as error:
            what = f"the file cannot be read: {error.strerror or error}"
            raise CalibrationError(what, where=str(self.path), fix="look at the disk") from error

    def _short(self, end: int) -> CalibrationError:
        return CalibrationError(f"the file ends before its byte {end}", where=str(self.path), fix=_AGAIN)
