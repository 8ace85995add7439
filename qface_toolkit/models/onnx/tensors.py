"""Read the tensors of an ONNX file: what one declares is held against the bytes it carries before any is copied."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import CheckpointError

Array = npt.NDArray[Any]

_FLOAT, _INT32, _INT64, _BOOL, _HALF, _DOUBLE, _BRAIN = 1, 6, 7, 9, 10, 11, 16
_TYPES: Mapping[int, tuple[str, str]] = {
    _FLOAT: ("<f4", "float_data"),
    _INT32: ("<i4", "int32_data"),
    _INT64: ("<i8", "int64_data"),
    _BOOL: ("|b1", "int32_data"),
    _HALF: ("<f2", "int32_data"),
    _DOUBLE: ("<f8", "double_data"),
    _BRAIN: ("<u2", "int32_data"),
}
"""ONNX element type -> its bytes as numpy names them, and the field that holds it where there is no raw data."""

FLOAT_TYPES: Mapping[int, str] = {_FLOAT: "float32", _HALF: "float16", _DOUBLE: "float64", _BRAIN: "bfloat16"}

_MOST_AXES = 8


@dataclass
class TensorReader:
    """Reads tensors, and notes of which floating-point types they were."""

    float_types: set[str] = field(default_factory=set)

    def read(self, tensor: Any) -> Array:  # noqa: ANN401 - onnx ships no types
        """Return a TensorProto's numbers: floating point as float32, integers as int64.

        Raises:
            CheckpointError: if it is of a type that a float network does not have, or declares what it does not hold.
        """
        dims = tuple(int(size) for size in tensor.dims[: _MOST_AXES + 1])
        if len(dims) > _MOST_AXES or any(size < 0 for size in dims):
            raise CheckpointError(f"a tensor declares the shape {list(dims)}, which none can have")
        if tensor.data_type not in _TYPES:
            raise CheckpointError(
                f"a tensor is of ONNX element type {tensor.data_type}, which a float network's weights are not",
                fix="export the float network; a quantized file cannot be compressed again",
            )
        if tensor.data_type in FLOAT_TYPES:
            self.float_types.add(FLOAT_TYPES[tensor.data_type])
        values = self._values(tensor, math.prod(dims)).reshape(dims)
        if tensor.data_type == _BRAIN:
            return (values.astype(np.uint32) << 16).view(np.float32)
        with np.errstate(over="ignore"):
            return values.astype(np.float32 if tensor.data_type in FLOAT_TYPES else np.int64, copy=False)

    def _values(self, tensor: Any, count: int) -> Array:  # noqa: ANN401 - onnx ships no types
        dtype = np.dtype(_TYPES[tensor.data_type][0])
        if tensor.HasField("raw_data"):
            data = tensor.raw_data
            _check_bytes(count * dtype.itemsize, len(data))
            return np.frombuffer(data, dtype)
        numbers = getattr(tensor, _TYPES[tensor.data_type][1])
        _check_bytes(count * dtype.itemsize, len(numbers) * dtype.itemsize)
        if tensor.data_type in (_HALF, _BRAIN):
            return np.fromiter(numbers, np.int64, count).astype(np.uint16).view(dtype)
        return np.fromiter(numbers, dtype, count)  # np.array would make a list of Python numbers first


def _check_bytes(needed: int, held: int) -> None:
    if needed != held:
        raise CheckpointError(
            f"a tensor's shape needs {needed} bytes and it carries {held}",
            fix="copy, download or export the file again",
        )
