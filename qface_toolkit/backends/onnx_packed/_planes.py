"""Integer codes at their true width: planes of 4, 2 and 1 bits, each stored sixteen bits at a time.

The runtime's constant folding is single-threaded and knows no vector form of most operators on bytes, but it looks up a
word of 16 bits in a table at the cost of one copy. A width is therefore a sum of planes that divide a word.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int8]
Words = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

PLANES: Mapping[int, tuple[int, ...]] = {2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1)}
"""Width -> the bits of its planes, the most significant first; eight bits need no packing."""
WHOLE = 8
UNIT = 16
"""Codes are padded to a multiple of so many, which fill whole words in every plane."""
Word = Literal[8, 16]
"""Bits of a stored word: a longer one needs fewer look-ups and a larger table."""


def word_shape(plane: int) -> tuple[int, ...]:
    """Return the trailing shape of a plane's words; with `table_shape` behind it, all planes have one shape."""
    return {4: (2, 2), 2: (2,), 1: ()}[plane]


def table_shape(plane: int, word: Word) -> tuple[int, ...]:
    """Return the shape of the codes of one word of a plane."""
    return (*{4: (), 2: (2,), 1: (2, 2)}[plane], word // 4)


def width_of(codes: Codes) -> int:
    """Return the fewest bits, 2 to 8, whose two's complement holds every code; what is empty fits two bits."""
    low, high = (int(codes.min()), int(codes.max())) if codes.size else (0, 0)
    return next(bits for bits in (*PLANES, WHOLE) if -(1 << bits - 1) <= low and high < 1 << bits - 1)


def padded(codes: Codes) -> Codes:
    """Return codes with zeros behind them that fill the last word of every plane."""
    return np.pad(codes, (0, -codes.size % UNIT))


def shifts(bits: int) -> tuple[int, ...]:
    """Return how far above the lowest bit each plane of a width begins."""
    planes = PLANES[bits]
    return tuple(sum(planes[place + 1 :]) for place in range(len(planes)))


def plane_words(codes: Codes, bits: int, place: int, word: Word) -> Words:
    """Return one plane of codes of this width, as words with the first code in the highest bits.

    The number of codes is a multiple of UNIT. The first plane counts from its smallest digit, so that the others add.
    """
    plane = PLANES[bits][place]
    unsigned = codes.astype(np.int16) + (1 << bits - 1)
    dtype = np.uint8 if word == 8 else np.uint16
    digits = ((unsigned >> shifts(bits)[place]) & ((1 << plane) - 1)).astype(dtype).reshape(-1, word // plane)
    words: Words = np.bitwise_or.reduce(digits << places(plane, word).astype(dtype), axis=1, dtype=dtype)
    return words.reshape(-1, *word_shape(plane))


def places(plane: int, word: Word) -> npt.NDArray[np.uint32]:
    """Return how far above the lowest bit of a word each of its digits begins, the first one highest."""
    return np.arange(word - plane, -1, -plane).astype(np.uint32)
