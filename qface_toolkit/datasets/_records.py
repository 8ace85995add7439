"""Records of a RecordIO file, as MXNet writes them and insightface packs faces, read without MXNet.

A record is the magic number, a word whose upper three bits say which part it is and whose others how long, and that
many bytes, padded to four. Where the magic number itself stood in a body, on a multiple of four, the writer has cut
there and left it out. A body is a header (flag, label, two ids), as many more labels as the flag says, and an encoded
image.
"""

import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from qface_toolkit.datasets._files import PlacedFile
from qface_toolkit.datasets._index import Keys, Numbers
from qface_toolkit.datasets._pixels import LARGEST_BYTES
from qface_toolkit.errors import CalibrationError

Floats = npt.NDArray[np.float32]

MAGIC = 0xCED7230A
_WORDS = struct.Struct("<II")
_HEADER = struct.Struct("<IfQQ")
SMALLEST = _WORDS.size + _HEADER.size
"""Bytes of a record without further labels and image."""

_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_LENGTH = (1 << 29) - 1
_CHUNK = 4096
_GUESS = 1 << 13
"""Bytes that are read at once: nearly every crop is whole in them."""
_MOST_PARTS = 64
"""A body is cut where the magic number stands in it: once in a hundred thousand images."""
_HEAD = np.dtype([("magic", "<u4"), ("length", "<u4"), ("flag", "<u4"), ("label", "<f4"), ("ids", "<u8", 2)])
_FIX = "copy or download the .rec and the .idx again"


class Records:
    """A file of records, read at the offsets of its index; each is called by its key in errors."""

    def __init__(self, file: PlacedFile) -> None:
        self.file = file

    def labels_and_image(self, offset: int, key: int) -> tuple[Floats, bytes]:
        """Return a record's labels, one at least, and the bytes of its image, which may be none.

        Raises:
            CalibrationError: naming the record, if it is damaged.
        """
        body = self._body(offset, key)
        end, label = self._header(body, key)
        listed = np.frombuffer(body[_HEADER.size : end], "<f4")
        return listed if len(listed) else np.array([label], "<f4"), body[end:]

    def image(self, offset: int, key: int) -> bytes:
        """Return the bytes of a record's image, which may be none.

        Raises:
            CalibrationError: naming the record, if it is damaged.
        """
        body = self._body(offset, key)
        return body[self._header(body, key)[0] :]

    def _header(self, body: bytes, key: int) -> tuple[int, float]:
        """Return where a record's labels end, and the one in its header."""
        if len(body) < _HEADER.size:
            raise self.broken(key, f"has {len(body)} bytes, fewer than its header")
        flag, label, _, _ = _HEADER.unpack_from(body)
        end = _HEADER.size + 4 * flag
        if end > len(body):
            raise self.broken(key, f"announces {flag} labels and has {len(body)} bytes")
        return end, label

    def first_labels(self, offsets: Numbers, keys: Keys, count: int) -> Iterator[Floats]:
        """Give the first `count` labels of each record, float32 [n, count], in chunks, with NaN where one has less.

        Images are not read.

        Raises:
            CalibrationError: naming a record that is damaged.
        """
        head = np.dtype([*((name, _HEAD[name]) for name in _HEAD.names or ()), ("more", "<f4", (count,))])
        for start in range(0, len(offsets), _CHUNK):
            places = offsets[start : start + _CHUNK]
            heads = np.frombuffer(self.file.read_each(places.tolist(), head.itemsize), head)
            labels = np.full((len(places), count), np.nan, np.float32)
            labels[:, 0] = heads["label"]
            listed = heads["flag"] > 0
            more = np.arange(count) < heads["flag"][:, None]
            labels[listed] = np.where(more, heads["more"], np.nan)[listed]
            for place in np.flatnonzero(~self._plain(heads, places)).tolist():
                found, _ = self.labels_and_image(int(places[place]), int(keys[start + place]))
                labels[place] = np.pad(found[:count], (0, max(count - len(found), 0)), constant_values=np.nan)
            yield labels

    def broken(self, key: int, what: str) -> CalibrationError:
        """Return the error for a record."""
        return CalibrationError(f"record {key} {what}", where=f"{self.file.path}, record {key}", fix=_FIX)

    def _plain(self, heads: npt.NDArray[np.void], offsets: Numbers) -> npt.NDArray[np.bool_]:
        """Tell which records are whole and hold their labels, as all but a few do."""
        length = heads["length"].astype(np.int64)
        needed = _HEADER.size + 4 * heads["flag"].astype(np.int64)
        # A part other than the whole has bits above the length, and so is longer than any of these.
        fits = (length >= needed) & (length <= np.minimum(self.file.size - _WORDS.size - offsets, _LENGTH))
        plain: npt.NDArray[np.bool_] = (heads["magic"] == MAGIC) & fits
        return plain

    def _body(self, offset: int, key: int) -> bytes:
        """Return the bytes of a record, its parts joined."""
        part, body, offset = self._part(offset, key)
        if part not in (_WHOLE, _FIRST):
            raise self.broken(key, f"begins with part {part} of another")
        parts, total = [body], len(body)
        while part not in (_WHOLE, _LAST):
            part, body, offset = self._part(offset, key)
            if part not in (_MIDDLE, _LAST):
                raise self.broken(key, "is cut into parts that do not follow each other")
            parts.append(body)
            total += 4 + len(body)
            if len(parts) > _MOST_PARTS:
                raise self.broken(key, f"has more than {_MOST_PARTS} parts, as no image has")
            if total > LARGEST_BYTES:
                raise self.broken(key, f"has more than {LARGEST_BYTES} bytes in its parts, more than any crop")
        return MAGIC.to_bytes(4, "little").join(parts)

    def _part(self, offset: int, key: int) -> tuple[int, bytes, int]:
        """Return which part of a record stands at an offset, its bytes, and where the next part begins."""
        left = self.file.size - offset - _WORDS.size
        if left < 0:
            raise self.broken(key, "is cut short: the file ends in it")
        begun = self.file.read_up_to(offset, _GUESS)
        magic, word = _WORDS.unpack_from(begun.ljust(_WORDS.size, b"\0"))
        if magic != MAGIC:
            raise self.broken(key, f"does not begin with RecordIO's magic number at byte {offset}")
        length = word & _LENGTH
        if length > left:
            raise self.broken(key, f"announces {length} bytes where the file has {left} more")
        if length > LARGEST_BYTES:
            raise self.broken(key, f"announces {length} bytes, more than any crop has")
        body = begun[_WORDS.size : _WORDS.size + length]
        if len(body) < length:
            body = self.file.read(offset + _WORDS.size, length)
        return word >> 29, body, offset + _WORDS.size + -(-length // 4) * 4
