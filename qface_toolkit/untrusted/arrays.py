"""NumPy's arrays and single numbers as a pickle describes them, taken apart without NumPy's own unpickling."""

from dataclasses import dataclass
from math import prod

import numpy as np

_CODES = ("u1", "b1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
_MOST_AXES = 4
_MOST_NUMBERS = 1 << 20
"""Flags in one array; the largest public set has a hundredth of that."""


@dataclass
class Dtype:
    """The type of an array's numbers, by NumPy's letters, or "O" where it holds objects."""

    code: str
    order: str = "<"

    def build(self, state: object) -> None:
        """Take the byte order, which is told after the letters."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.order = str(state[1])


def dtype_of(letters: object) -> Dtype:
    """Return the type of these letters.

    Raises:
        ValueError: if no image and no flag is of that type.
    """
    text = letters.decode("latin-1") if isinstance(letters, bytes) else str(letters)
    plain = text.lstrip("|<=>")
    if plain not in _CODES and plain not in ("O", "O8"):
        raise ValueError(f"an array in it is of the type {text[:20]!r}, and neither pixels nor flags")
    return Dtype("O" if plain.startswith("O") else plain, ">" if text.startswith(">") else "<")


@dataclass
class Array:
    """An array: its bytes, and the shape that they fill exactly; without bytes until they are known.

    An array of objects has `items` instead of bytes.
    """

    data: bytes | None = None
    shape: tuple[int, ...] = ()
    order: str = "C"
    dtype: Dtype | None = None
    items: list[object] | None = None

    @property
    def is_pixels(self) -> bool:
        """Whether these are 8-bit unsigned numbers."""
        return self.data is not None and self.dtype is not None and self.dtype.code == "u1"

    def fill(self, data: object, dtype: object, shape: object, order: str) -> None:
        """Take what the array holds.

        Raises:
            ValueError: if its parts do not fit each other.
        """
        if not isinstance(dtype, Dtype) or not isinstance(shape, tuple) or len(shape) > _MOST_AXES:
            raise ValueError("an array is not one of 8-bit pixels or flags")
        if any(type(size) is not int or size < 1 for size in shape):
            raise ValueError("an array's shape does not fit its bytes")
        if dtype.code == "O":
            self._fill_items(data, shape)
        else:
            raw = _as_bytes(data)
            if prod(shape) * int(dtype.code[1:]) != len(raw):
                raise ValueError("an array's shape does not fit its bytes")
            self.data = raw
        self.shape, self.order, self.dtype = shape, order, dtype

    def _fill_items(self, data: object, shape: tuple[int, ...]) -> None:
        if not isinstance(data, list) or prod(shape) != len(data):
            raise ValueError("an array's shape does not fit its objects")
        self.items = data

    def numbers(self) -> list[object]:
        """Return what a flat array holds, objects or numbers, one after the other."""
        if self.items is not None:
            return self.items
        if self.data is None or self.dtype is None or prod(self.shape) > _MOST_NUMBERS:
            raise ValueError("an array in it was never filled, or is far too long")
        found: list[object] = np.frombuffer(self.data, np.dtype(f"{self.dtype.order}{self.dtype.code}")).tolist()
        return found


def _as_bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("an array's content is not bytes")
    return value
