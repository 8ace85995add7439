"""How large are the files somebody ships: bytes on the disk, in a package, and how much of them is the network itself.

What papers give, and what a simulation would take, is counted in `evidence.counted_sizes`, and never stands for a file.
"""

import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from qface_toolkit.errors import MeasurementError

_CHUNK_BYTES = 1 << 20
_DEFLATE_LEVEL = 9
_RAW_WINDOW = -15
"""Without a header of its own, as members of a zip file are written."""
_SMALL_BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
"""Types that stand several in a byte; all others have a whole number of bytes in numpy."""
_ARCHIVED = ("constants", "data")
"""Folders of a torch archive that hold tensors; the rest is program text."""


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


def compressed_bytes(file: Path) -> int:
    """Return the bytes that a file takes in an application's package, a zip file: deflated, or as it is if smaller.

    The zip's own entries (some 100 bytes a file) do not count. Another zlib may give a few bytes more or less.
    """
    deflate = zlib.compressobj(_DEFLATE_LEVEL, zlib.DEFLATED, _RAW_WINDOW)
    deflated = 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            deflated += len(deflate.compress(chunk))
    return min(deflated + len(deflate.flush()), file.stat().st_size)


def onnx_payload_bytes(graph: onnx.GraphProto) -> int:
    """Return the bytes of a graph's constants: codes, scales, biases, slopes and shapes, without names and operators.

    Numbers count at the width they are stored with, whichever field of the file holds them.
    """
    held = [attribute.t for node in graph.node if node.op_type == "Constant" for attribute in node.attribute]
    return sum(_tensor_bytes(tensor) for tensor in (*graph.initializer, *held))


def payload_bytes(file: Path) -> int | None:
    """Return the bytes of the tensors in an ONNX file, a safetensors file or a torch archive; None for another kind."""
    if file.suffix == ".onnx":
        return onnx_payload_bytes(onnx.load(file, load_external_data=False).graph)
    if file.suffix == ".safetensors":
        with file.open("rb") as stream:
            return file.stat().st_size - 8 - int.from_bytes(stream.read(8), "little")
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            return sum(member.file_size for member in archive.infolist() if _holds_tensor(member.filename))
    return None


def weigh(file: Path, float_file: Path) -> dict[str, Any]:
    """Return the bytes of a file on the disk, in a package and without its graph, as a report has them."""
    size = measure_size(file)
    return {
        "size_bytes": size.size_bytes,
        "size_ratio": size_ratio(measure_size(float_file), size),
        "payload_bytes": payload_bytes(file),
        "compressed_bytes": compressed_bytes(file),
    }


def _tensor_bytes(tensor: onnx.TensorProto) -> int:
    if tensor.string_data:
        return sum(map(len, tensor.string_data))
    # By name: an older onnx does not know the smallest types.
    bits: int | None = _SMALL_BITS.get(onnx.TensorProto.DataType.Name(tensor.data_type))
    if bits is None:
        bits = 8 * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    return math.ceil(int(math.prod(tensor.dims)) * bits / 8)


def _holds_tensor(member: str) -> bool:
    return member.split("/")[1:2] in [[folder] for folder in _ARCHIVED]
