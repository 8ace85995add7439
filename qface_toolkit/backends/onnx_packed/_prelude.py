"""The part of a packed graph that the runtime runs once, at load: it makes constants out of smaller ones.

Standard operators alone, each of which ONNX Runtime's constant folding takes; without folding they run with the rest.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from qface_toolkit.backends.onnx_packed._planes import (
    PLANES,
    WHOLE,
    Codes,
    Word,
    padded,
    places,
    plane_words,
    shifts,
    table_shape,
)
from qface_toolkit.backends.onnx_qdq._builder import Constants, letters


class Prelude:
    """Collects nodes and constants; `taken` are names that the graph has already."""

    def __init__(self, taken: Iterable[str]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._constants = Constants(self.fresh)
        self._tables: dict[_Table, str] = {}
        self._names = _unused(set(taken))

    def constant(self, value: npt.ArrayLike, dtype: Any) -> str:  # noqa: ANN401 - whatever numpy takes for a dtype
        """Store an array unless an equal one is there, and return its name."""
        return self._constants.named(value, dtype)

    @property
    def initializers(self) -> list[onnx.TensorProto]:
        """Return the constants that are stored."""
        return self._constants.tensors

    def fresh(self) -> str:
        """Return a name that nothing has."""
        return next(self._names)

    def node(self, operator: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:  # noqa: ANN401 - ONNX attributes
        """Add a node with one output and return the output's name."""
        name = output or self.fresh()
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def rename(self, tensor: str, name: str) -> None:
        """Call what the last node made by another name."""
        assert self.nodes[-1].output[0] == tensor
        self.nodes[-1].output[0] = name

    def split(self, whole: str, sizes: Sequence[int], names: Sequence[str | None], rest: int = 0) -> list[str]:
        """Cut a vector into pieces of these sizes, drop `rest` elements behind them, and return the pieces' names."""
        outputs = [name or self.fresh() for name in names]
        dropped = [self.fresh()] if rest else []
        largest = max([*sizes, rest])
        stored = self.constant([*sizes, *([rest] if rest else [])], np.uint16 if largest < 1 << 16 else np.int32)
        lengths = self.node("Cast", [stored], to=TensorProto.INT64)
        self.nodes.append(helper.make_node("Split", [whole, lengths], [*outputs, *dropped]))
        return outputs

    def unpacked(self, codes: Codes, bits: int, word: Word) -> str:
        """Store codes at a width and return the name of what holds them as int8, in some shape, padding included."""
        if bits == WHOLE:
            return self.constant(codes, np.int8)
        filled, whole = padded(codes), ""
        for place, plane in enumerate(PLANES[bits]):
            words = plane_words(filled, bits, place, word)
            index = self.node("Cast", [self.constant(words, words.dtype)], to=TensorProto.INT32)
            digits = self.node("Gather", [self._table(_Table(plane, shifts(bits)[place], word, place == 0)), index])
            whole = self.node("BitwiseOr", [whole, digits]) if whole else digits
        return whole

    def _table(self, table: "_Table") -> str:
        """Return the name of the table from a word to its codes, int8 [2 ** word, ...]."""
        if table not in self._tables:
            self._tables[table] = self._new_table(table)
        return self._tables[table]

    def _new_table(self, table: "_Table") -> str:
        plane, shift, shape = table.plane, table.shift, table_shape(table.plane, table.word)
        ends = [self.constant(value, np.int32) for value in (0, 1 << table.word + shift, 1 << shift)]
        words = self.node("Cast", [self.node("Range", ends)], to=TensorProto.UINT32)
        words = self.node("Reshape", [words, self.constant([-1, *[1] * len(shape)], np.int64)])
        each = self.constant(places(plane, table.word).reshape(shape), np.uint32)
        digits = self.node("Cast", [self.node("BitShift", [words, each], direction="RIGHT")], to=TensorProto.INT32)
        digits = self.node("BitwiseAnd", [digits, self.constant((1 << plane) - 1 << shift, np.int32)])
        if table.signed:
            digits = self.node("Sub", [digits, self.constant(1 << plane - 1 + shift, np.int32)])
        return self.node("Cast", [digits], to=TensorProto.INT8)


@dataclass(frozen=True)
class _Table:
    """Digits of `plane` bits, `shift` bits above a code's lowest, in a word; the signed ones are a code's highest."""

    plane: int
    shift: int
    word: Word
    signed: bool


def _unused(taken: set[str]) -> Iterator[str]:
    return (name for name in map(letters, count(1)) if name not in taken)
