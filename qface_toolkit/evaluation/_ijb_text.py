"""The text files of IJB-B and IJB-C, read in pieces into compact arrays: half a million images, millions of pairs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError
from qface_toolkit.untrusted.reading import open_file

LARGEST_BYTES = 1 << 33
MOST_IMAGES = 5_000_000
MOST_PAIRS = 100_000_000
LARGEST_ID = (1 << 31) - 1
_CHUNK = 4 << 20
_LONGEST_LINE = 1024
_LINES_AT_ONCE = 8192
_FARTHEST = 1e6
_FIX = "give the file as NIST's protocol package and its five-point detections have it"


@dataclass(frozen=True)
class Names:
    """Many names in one piece of memory."""

    joined: bytes
    ends: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        """Return one of them."""
        return os.fsdecode(self.joined[int(self.ends[index - 1]) if index else 0 : int(self.ends[index])])


def read_templates(path: Path) -> tuple[Names, npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return each image's name, template and medium, from lines `NAME TEMPLATE MEDIUM`."""
    names, table = _read_named(path, 2)
    fine = (table >= 0) & (table <= LARGEST_ID) & (table == np.floor(table))
    _check_rows(path, fine.all(axis=1), f"a template or medium is no whole number from 0 to {LARGEST_ID}")
    found = table.astype(np.int32)
    return names, found[:, 0].copy(), found[:, 1].copy()


def read_detections(path: Path) -> tuple[Names, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return each image's name, landmarks [N, 5, 2] and detector score, from lines `NAME x1 y1 .. x5 y5 SCORE`."""
    names, table = _read_named(path, 11)
    _check_rows(path, np.abs(table).max(axis=1) < _FARTHEST, "a number is not finite, or not of a picture")
    points = table[:, :10].astype(np.float32).reshape(-1, 5, 2)
    _check_rows(path, np.ptp(points, axis=1).max(axis=1) > 1e-3, "the landmarks are not five different points")
    return names, points, table[:, 10].astype(np.float32)


def _check_rows(path: Path, fine: npt.ArrayLike, what: str) -> None:
    bad = np.flatnonzero(~np.asarray(fine, np.bool_))
    if bad.size:
        raise _mistake(path, int(bad[0]) + 1, what)


def read_pair_list(
    path: Path, known: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Return two templates and whether they show one person, from lines `FIRST SECOND 0|1`.

    Templates are given by their places among those that are known, which are sorted.
    """
    first, second, same, line = [], [], [], 1
    for piece in _pieces(path):
        table = _three_numbers(piece, path, line)
        places = np.searchsorted(known, table[:, :2]).clip(max=len(known) - 1).astype(np.int32)
        _check_pairs(table, known[places] != table[:, :2], path, line, piece)
        first.append(places[:, 0].copy())
        second.append(places[:, 1].copy())
        same.append(table[:, 2] == 1)
        line += piece.count(b"\n")
        if line > MOST_PAIRS:
            raise _mistake(path, line, f"there are more than {MOST_PAIRS} pairs")
    if not sum(map(len, first)):
        raise MeasurementError("the file is empty", where=str(path), fix=_FIX)
    return np.concatenate(first), np.concatenate(second), np.concatenate(same)


def _check_pairs(
    table: npt.NDArray[np.int64], unknown: npt.NDArray[np.bool_], path: Path, line: int, piece: bytes
) -> None:
    bad = np.flatnonzero(unknown.any(axis=1) | (table[:, 2] > 1))
    if not bad.size:
        return
    row = int(bad[0])
    missing = table[row, :2][unknown[row]]
    what = f"template {missing[0]} has no image" if missing.size else "a label is neither 0 nor 1"
    filled = [at for at, text in enumerate(piece.split(b"\n")) if text.strip()]
    raise _mistake(path, line + filled[row], what)


def _three_numbers(piece: bytes, path: Path, line: int) -> npt.NDArray[np.int64]:
    """Return the whole numbers of a piece of a file, [n, 3]; blank lines are left out."""
    if not _has_columns(piece, 3):
        lines = piece.split(b"\n")
        bad = next(at for at, one in enumerate(lines) if not _has_columns(one + b"\n", 3))
        raise _mistake(path, line + bad, "a line is not three whole numbers")
    # NumPy finds one number in nothing but blanks.
    return np.fromstring(piece if piece.strip() else "", np.int64, sep=" ").reshape(-1, 3)


def _has_columns(piece: bytes, columns: int) -> bool:
    """Tell whether every line holds so many groups of digits and nothing else, or nothing."""
    raw = np.frombuffer(piece, np.uint8)
    digit = (raw - ord("0")) < 10
    blank = (raw == ord(" ")) | (raw == ord("\t")) | (raw == ord("\r")) | (raw == ord("\n"))
    if not (digit | blank).all():
        return False
    begins = digit.copy()
    begins[1:] &= ~digit[:-1]
    counted = np.cumsum(begins, dtype=np.int32)[raw == ord("\n")]
    each = np.diff(counted, prepend=0)
    return bool(((each == columns) | (each == 0)).all())


def _pieces(path: Path) -> Iterator[bytes]:
    """Give the file in pieces of whole lines; the last line need not end."""
    rest = b""
    with _opened(path) as stream:
        while block := stream.read(_CHUNK):
            whole, end, rest_of_block = block.rpartition(b"\n")
            if end:
                yield rest + whole + end
                rest = rest_of_block
            else:
                rest += block
            if len(rest) > _LONGEST_LINE:
                raise MeasurementError("a line of the file has no end", where=str(path), fix=_FIX)
        if rest.strip():
            yield rest + b"\n"


def _read_named(path: Path, columns: int) -> tuple[Names, npt.NDArray[np.float64]]:
    """Return the first field of every line, and the others as numbers, [N, columns]."""
    joined, lengths, tables = bytearray(), list[int](), []
    for number, lines in _lines(path):
        rows = [line.split() for line in lines]
        table = np.empty((len(rows), columns))
        for at, row in enumerate(rows):
            table[at] = _numbers(row, columns, path, number + at)
        joined += b"".join(row[0] for row in rows)
        lengths += [len(row[0]) for row in rows]
        tables.append(table)
    if not tables:
        raise MeasurementError("the file is empty", where=str(path), fix=_FIX)
    return Names(bytes(joined), np.cumsum(lengths)), np.concatenate(tables)


def _numbers(row: list[bytes], columns: int, path: Path, line: int) -> list[float]:
    """Return the fields behind the name, which must not lead out of the folder of images."""
    if len(row) != columns + 1:
        raise _mistake(path, line, f"a line has {len(row)} fields, not {columns + 1}")
    if row[0].startswith(b"/") or b".." in row[0].split(b"/") or b"\0" in row[0]:
        raise _mistake(path, line, "a name leads out of the folder of images")
    try:
        return [float(field) for field in row[1:]]
    except ValueError as error:
        raise _mistake(path, line, f"a field is no number: {error}") from error


def _lines(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Give the lines of a file, some thousand at once, with the number of the first; blank ends are left out."""
    number = 1
    with _opened(path) as stream:
        while rows := list(islice(iter(lambda: stream.readline(_LONGEST_LINE), b""), _LINES_AT_ONCE)):
            long = next((at for at, row in enumerate(rows) if len(row) == _LONGEST_LINE), None)
            if long is not None:
                raise _mistake(path, number + long, "a line is too long")
            while rows and not rows[-1].strip():
                rows.pop()
            if rows:
                yield number, rows
            number += _LINES_AT_ONCE
            if number > MOST_IMAGES:
                raise _mistake(path, number, f"there are more than {MOST_IMAGES} images")


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with open_file(path, LARGEST_BYTES, fix=_FIX, kind=MeasurementError) as stream:
        yield stream


def _mistake(path: Path, line: int, what: str) -> MeasurementError:
    return MeasurementError(what, where=f"{path}, line {line}", fix=_FIX)
