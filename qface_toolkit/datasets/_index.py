"""The .idx file beside a RecordIO file: lines of a key and an offset, read into two arrays without a list of texts."""

import re
from array import array
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import CalibrationError
from qface_toolkit.untrusted.reading import open_file, printable

Numbers = npt.NDArray[np.int64]
Keys = Numbers | range

LARGEST_BYTES = 1 << 33
_BLOCK = 1 << 20
# Eighteen digits always fit into 64 bits.
_LINES = re.compile(rb"(?:[0-9]{1,18}+\t[0-9]{1,18}+\r?\n)*+")
_FIX = "copy the .idx and the .rec again, or make the index anew (mxnet's tools/rec2idx.py)"


def read_index(path: Path, record_bytes: int, smallest: int) -> tuple[Numbers, Numbers]:
    """Return keys, ascending, and their offsets in the file of `record_bytes`; no record is below `smallest` bytes.

    Raises:
        CalibrationError: if a line is not a key and an offset, a key is there twice, or an offset is not one of this
            file's.
    """
    keys, offsets = array("q"), array("q")
    with open_file(path, LARGEST_BYTES, noun="index", fix="put it beside the .rec file", kind=CalibrationError) as file:
        for block in _whole_lines(file, path):
            numbers = np.fromiter(map(int, block.split()), np.int64)
            keys.frombytes(numbers[::2].tobytes())
            offsets.frombytes(numbers[1::2].tobytes())
            if len(keys) > record_bytes // smallest:
                raise CalibrationError("the index names more records than the file can hold", where=str(path), fix=_FIX)
    sorted_keys, places = _ascending(np.frombuffer(keys, np.int64), np.frombuffer(offsets, np.int64))
    twice = np.flatnonzero(sorted_keys[1:] == sorted_keys[:-1])
    if len(twice):
        raise CalibrationError(f"the key {sorted_keys[twice[0]]} is there twice", where=str(path), fix=_FIX)
    _check_offsets(sorted_keys, places, record_bytes - smallest, path)
    _check_apart(sorted_keys, places, path)
    return sorted_keys, places


def _whole_lines(file: BufferedReader, path: Path) -> Iterator[bytes]:
    """Give the file in blocks of whole lines, each a key and an offset."""
    rest = b""
    while block := file.read(_BLOCK):
        lines, end, rest = (rest + block).rpartition(b"\n")
        if len(rest) > _BLOCK:
            raise _no_line(rest, path)
        yield _checked(lines + end, path)
    yield _checked(rest + b"\n" if rest else b"", path)


def _checked(lines: bytes, path: Path) -> bytes:
    matched = _LINES.match(lines)
    if matched is None or matched.end() != len(lines):
        raise _no_line(lines[matched.end() if matched else 0 :], path)
    return lines


def _no_line(text: bytes, path: Path) -> CalibrationError:
    line = printable(text.partition(b"\n")[0])
    return CalibrationError(f"a line of the index is no key and offset: {line!r}", where=str(path), fix=_FIX)


def _ascending(keys: Numbers, offsets: Numbers) -> tuple[Numbers, Numbers]:
    if not (keys[1:] < keys[:-1]).any():
        return keys, offsets
    order = np.argsort(keys, kind="stable")
    return keys[order], offsets[order]


def _check_offsets(keys: Numbers, offsets: Numbers, last: int, path: Path) -> None:
    if offsets.max() <= last and not np.bitwise_or.reduce(offsets) & 3:
        return
    wrong = int(np.flatnonzero((offsets > last) | (offsets & 3 != 0))[0])
    what = f"the offset of record {keys[wrong]}, {offsets[wrong]}, "
    what += "lies outside the file" if offsets[wrong] > last else "is not a multiple of 4"
    raise CalibrationError(what, where=str(path), fix=_FIX)


def _check_apart(keys: Numbers, offsets: Numbers, path: Path) -> None:
    """Refuse an index in which two records begin at one byte, which no writer makes."""
    order = np.arange(len(offsets)) if (offsets[1:] >= offsets[:-1]).all() else np.argsort(offsets, kind="stable")
    twice = np.flatnonzero(offsets[order[1:]] == offsets[order[:-1]])
    if len(twice):
        one, other = keys[order[twice[0] : twice[0] + 2]].tolist()
        raise CalibrationError(f"the records {one} and {other} begin at the same byte", where=str(path), fix=_FIX)
