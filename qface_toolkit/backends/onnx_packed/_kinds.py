"""What kinds of constants a QDQ graph has, and how each is made again of small codes at load.

Every kind first says which codes it wants stored, then, once the prelude has them, adds the nodes behind them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from qface_toolkit.backends.onnx_packed._planes import WHOLE, Codes, width_of
from qface_toolkit.backends.onnx_packed._prelude import Prelude
from qface_toolkit.quantize.scheme import SLOPE_SCALE

Constants = Mapping[str, npt.NDArray[Any]]

FEWEST = 8
"""Constants of fewer elements stay as they are: what names them weighs more."""
_SLOPE_MAX = 127
_MOST_VALUES = 256
_BYTE = 256


@dataclass(frozen=True)
class Vector:
    """Codes, and what the graph is to call them; in one row, unless any shape with so many elements will do."""

    name: str
    codes: Codes
    any_shape: bool = False


class Kind(Protocol):
    """Constants of one kind; `made` are their names."""

    made: list[str]
    vectors: list[Vector]

    def finish(self, prelude: Prelude) -> None:
        """Make the constants of the vectors, which are there now."""
        ...


class Weights:
    """int8 codes that fit fewer bits."""

    def __init__(self, constants: Constants, prelude: Prelude) -> None:
        found = {name: array for name, array in constants.items() if _is_weight(array)}
        self.made = list(found)
        self._shapes = {name: array.shape for name, array in found.items()}
        self.vectors = [
            Vector(name, array) if array.ndim == 1 else Vector(prelude.fresh(), array.reshape(-1), any_shape=True)
            for name, array in found.items()
        ]

    def finish(self, prelude: Prelude) -> None:
        """Give each its shape."""
        for name, vector in zip(self.made, self.vectors, strict=True):
            if vector.name != name:
                reshape(prelude, vector.name, self._shapes[name], name)


class Biases:
    """int32 codes of at most 16 bits: a low byte, and as many high bits as the largest needs."""

    def __init__(self, constants: Constants, prelude: Prelude) -> None:
        found = {name: array for name, array in constants.items() if _is_bias(array)}
        high = {name: _halves(array)[0] for name, array in found.items()}
        self.made = sorted(found, key=lambda name: width_of(high[name]))
        self._sizes = [len(found[name]) for name in self.made]
        by_width: dict[int, list[str]] = {}
        for name in self.made:
            by_width.setdefault(width_of(high[name]), []).append(name)
        self._high = [Vector(prelude.fresh(), _joined([high[n] for n in names])) for names in by_width.values()]
        low = _joined([_halves(found[name])[1] for name in self.made])
        self._low = [Vector(prelude.fresh(), low)] if self.made else []
        self.vectors = [*self._high, *self._low]

    def finish(self, prelude: Prelude) -> None:
        """Put the halves together."""
        if not self.made:
            return
        high = [vector.name for vector in self._high]
        whole = prelude.node("Concat", high, axis=0) if len(high) > 1 else high[0]
        whole = prelude.node("Mul", [_cast(prelude, whole, TensorProto.INT32), prelude.constant(_BYTE, np.int32)])
        whole = prelude.node("Add", [whole, _cast(prelude, self._low[0].name, TensorProto.INT32)])
        prelude.split(whole, self._sizes, self.made)


class Slopes:
    """float32 slopes that are whole 127ths."""

    def __init__(self, constants: Constants, prelude: Prelude) -> None:
        found = {name: codes for name, array in constants.items() if (codes := _slope_codes(array)) is not None}
        self.made = list(found)
        self._sizes = [len(codes) for codes in found.values()]
        self.vectors = [Vector(prelude.fresh(), _joined(list(found.values())))] if found else []

    def finish(self, prelude: Prelude) -> None:
        """Divide by 127, as the slopes were."""
        if self.made:
            codes = _cast(prelude, self.vectors[0].name, TensorProto.FLOAT)
            whole = prelude.node("Mul", [codes, prelude.constant(SLOPE_SCALE, np.float32)])
            prelude.split(whole, self._sizes, self.made)


class Scales:
    """float32 vectors that share few values: a table of these, and each element's place in it."""

    def __init__(self, constants: Constants, prelude: Prelude) -> None:
        found = _with_few_values({name: array for name, array in constants.items() if _is_float_vector(array)})
        self.made = list(found)
        self._sizes = [len(array) for array in found.values()]
        # Compared by their bits, zeros of either sign stay apart.
        table, places = np.unique(_joined([array.view(np.int32) for array in found.values()]), return_inverse=True)
        self._table = table.view(np.float32) if found else np.empty(0, np.float32)
        # Places behind the middle count from the table's end: as signed codes they need the fewest bits.
        signed = np.where(places < (len(table) + 1) // 2, places, places - len(table)).astype(np.int8)
        self.vectors = [Vector(prelude.fresh(), signed)] if found else []

    def finish(self, prelude: Prelude) -> None:
        """Look the values up."""
        if self.made:
            places = _cast(prelude, self.vectors[0].name, TensorProto.INT32)
            whole = prelude.node("Gather", [prelude.constant(self._table, np.float32), places])
            prelude.split(whole, self._sizes, self.made)


def reshape(prelude: Prelude, tensor: str, shape: Sequence[int], name: str | None = None) -> str:
    """Give a tensor a shape, whose first axis is left to the runtime so that more tensors share the constant."""
    return prelude.node("Reshape", [tensor, prelude.constant([-1, *shape[1:]], np.int64)], name)


def _cast(prelude: Prelude, tensor: str, dtype: int) -> str:
    return prelude.node("Cast", [tensor], to=dtype)


def _joined(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.empty(0, np.int8)


def _is_weight(array: npt.NDArray[Any]) -> bool:
    return array.dtype == np.int8 and array.size >= FEWEST and width_of(array) < WHOLE


def _is_bias(array: npt.NDArray[Any]) -> bool:
    if array.dtype != np.int32 or array.ndim != 1 or array.size < FEWEST:
        return False
    high = array.astype(np.int64) + _BYTE // 2 >> 8
    return bool(high.min() >= -128 and high.max() <= 127)


def _halves(bias: npt.NDArray[np.int32]) -> tuple[Codes, Codes]:
    """Return signed bytes (high, low) with bias = 256 high + low."""
    high = bias + _BYTE // 2 >> 8
    return high.astype(np.int8), (bias - _BYTE * high).astype(np.int8)


def _is_float_vector(array: npt.NDArray[Any]) -> bool:
    return array.dtype == np.float32 and array.ndim == 1 and array.size >= FEWEST and _slope_codes(array) is None


def _slope_codes(array: npt.NDArray[Any]) -> Codes | None:
    """Return a vector's codes on the grid of slopes, or None if it is not on it to the bit."""
    if array.dtype != np.float32 or array.ndim != 1 or array.size < FEWEST or not np.all(np.abs(array) <= 1.01):
        return None
    step = np.float32(SLOPE_SCALE)
    codes = np.rint(array / step).astype(np.int16)
    same = (codes.astype(np.float32) * step).tobytes() == array.tobytes()
    return codes.astype(np.int8) if same and np.abs(codes).max() <= _SLOPE_MAX else None


def _with_few_values(vectors: dict[str, npt.NDArray[np.float32]]) -> dict[str, npt.NDArray[np.float32]]:
    """Return vectors whose different values together fit a table, those with the fewest first."""
    values = {name: set(array.view(np.int32).tolist()) for name, array in vectors.items()}
    found, table = list[str](), set[int]()
    for name in sorted(vectors, key=lambda name: len(values[name]) / vectors[name].size):
        if len(table | values[name]) <= _MOST_VALUES and len(values[name]) < vectors[name].size:
            found.append(name)
            table |= values[name]
    return {name: array for name, array in vectors.items() if name in found}
