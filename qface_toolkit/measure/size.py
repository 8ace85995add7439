"""How large are the files somebody ships: bytes on the disk, never a figure computed from parameter counts."""

from dataclasses import dataclass
from pathlib import Path

from qface_toolkit.errors import MeasurementError


@dataclass(frozen=True)
class FileSize:
    """The bytes of a file, or of all files of a folder."""

    size_bytes: int


def measure_size(path: Path) -> FileSize:
    """Return the size of a file, or of all regular files in a folder, in bytes.

    Raises:
        MeasurementError: if there is nothing there, or nothing in it.
    """
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    if size == 0:
        raise MeasurementError(
            "there is nothing to weigh", where=str(path), fix="give a file or folder that holds data"
        )
    return FileSize(size)


def size_ratio(reference: FileSize, other: FileSize) -> float:
    """Return the bytes of `other` as a share of those of `reference`; smaller is better."""
    return other.size_bytes / reference.size_bytes
