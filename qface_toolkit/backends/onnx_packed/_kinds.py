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
from qface_toolkit.quantize.scheme import SCALE_TABLE, SLOPE_SCALE

Constants = Mapping[str, npt.NDArray[Any]]

FEWEST = 8
"""Constants of fewer elements stay as they are: what names them weighs more."""
_SLOPE_MAX = 127
_MOST_VALUES = 256
_BYTE = 256
_COMMON = 0.8
"""Biases are left as they are if more than a fifth of them are exceptions."""


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
    """int32 codes: a low byte, as many high bits as most of a layer need, and the few that need more by themselves."""

    def __init__(self, constants: Constants, prelude: Prelude) -> None:
        found = {name: array for name, array in constants.items() if _is_bias(array)}
        widths = {name: _cheapest_width(array) for name, array in found.items()}
        self.made = sorted(found, key=lambda name: widths[name])
        self._sizes = [len(found[name]) for name in self.made]
        self._whole = _joined([found[name] for name in self.made])
        fits = np.concatenate([_fits(found[name], widths[name]) for name in self.made]) if found else np.empty(0, bool)
        self._exceptions = np.flatnonzero(~fits)
        high = np.where(fits, _high(self._whole), 0).astype(np.int8)
        low = (self._whole.astype(np.int64) & _BYTE - 1).astype(np.uint8).view(np.int8)
        ends = np.searchsorted([widths[name] for name in self.made], np.arange(2, WHOLE + 1), side="right")
        parts = np.split(high, np.cumsum([0, *self._sizes])[ends][:-1])
        self._high = [Vector(prelude.fresh(), part) for part in parts if part.size]
        self._low = [Vector(prelude.fresh(), low)] if found else []
        self.vectors = [*self._high, *self._low]

    def finish(self, prelude: Prelude) -> None:
        """Put the halves together."""
        if not self.made:
            return
        high = [vector.name for vector in self._high]
        whole = prelude.node("Concat", high, axis=0) if len(high) > 1 else high[0]
        whole = prelude.node("Mul", [_cast(prelude, whole, TensorProto.INT32), prelude.constant(_BYTE, np.int32)])
        whole = prelude.node("Add", [whole, _cast(prelude, self._low[0].name, TensorProto.INT32)])
        if self._exceptions.size:
            places = prelude.constant(self._exceptions, np.int32)
            values = prelude.constant(self._whole[self._exceptions], np.int32)
            whole = prelude.node("ScatterElements", [whole, places, values])
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

    on_table = True
    """Whether these are the scales of a compact scheme; others have a table of their own, lest places get wider."""

    def __init__(self, constants: Constants, prelude: Prelude) -> None:
        vectors = {name: array for name, array in constants.items() if _is_float_vector(array)}
        found = _with_few_values(
            {name: array for name, array in vectors.items() if bool(np.isin(array, SCALE_TABLE).all()) == self.on_table}
        )
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


class OtherScales(Scales):
    """The same of whatever else shares few values."""

    on_table = False


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
    vector = array.dtype == np.int32 and array.ndim == 1 and array.size >= FEWEST
    return vector and bool(_fits(array, WHOLE).mean() > _COMMON)


def _high(bias: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Return h of bias = 256 h + l, where l is a signed byte: that of the bias's lowest eight bits."""
    high: npt.NDArray[np.int64] = bias.astype(np.int64) + _BYTE // 2 >> 8
    return high


def _fits(bias: npt.NDArray[np.int32], bits: int) -> npt.NDArray[np.bool_]:
    high, end = _high(bias), 1 << bits - 1
    return (-end <= high) & (high < end)


def _cheapest_width(bias: npt.NDArray[np.int32]) -> int:
    """Return the bits for the high parts of a layer that cost the least with their exceptions, two int32 each."""
    return min(range(2, WHOLE + 1), key=lambda bits: bits * len(bias) + 64 * int((~_fits(bias, bits)).sum()))


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
