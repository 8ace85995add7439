"""The .bin verification sets that the field passes around, read as files of a stranger: no code of theirs is run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError
from qface_toolkit.scoring.pairs import Pairs
from qface_toolkit.untrusted.pickles import Array, read_plain_pickle
from qface_toolkit.untrusted.reading import open_file

LARGEST_BYTES = 1 << 30
_FIX = "give a pickle of (list of JPEG bytes, list of bool), two images a pair, as insightface's verification sets are"

Image = bytes | npt.NDArray[np.uint8]
"""An image as the file has it: encoded, or its pixels [height, width] or [height, width, 3]."""


@dataclass(frozen=True)
class PairsFile:
    """A verification set: its different images, which two of them each pair shows, and whether of one person."""

    images: tuple[Image, ...]
    first: npt.NDArray[np.intp]
    second: npt.NDArray[np.intp]
    same: npt.NDArray[np.bool_]

    def pairs(self, folds: int) -> Pairs:
        """Return the pairs, cut into this many contiguous folds."""
        return Pairs(self.first, self.second, self.same, folds)


def read_pairs_file(path: Path) -> PairsFile:
    """Read a .bin verification set (a pickle, never executed) of at most 1 GiB.

    Raises:
        MeasurementError: if the file cannot be read or is anything else than images and flags.
    """
    with open_file(path, LARGEST_BYTES, noun="verification set", kind=MeasurementError) as stream:
        try:
            return _checked(read_plain_pickle(stream))
        except ValueError as error:
            raise MeasurementError(f"this is no pairs file: {error}", where=str(path), fix=_FIX) from error


def _checked(content: object) -> PairsFile:
    images, flags = _two_lists(content)
    if any(not isinstance(flag, int) or flag not in (0, 1) for flag in flags):
        raise ValueError("a flag is not true or false")
    if not flags or len(images) != 2 * len(flags):
        raise ValueError(f"it has {len(images)} images for {len(flags)} pairs")
    places: dict[_Key, int] = {}
    rows = np.array([places.setdefault(_key(image), len(places)) for image in images], dtype=np.intp)
    return PairsFile(tuple(map(_image, places)), rows[0::2], rows[1::2], np.array(flags, dtype=np.bool_))


def _two_lists(content: object) -> tuple[Sequence[object], Sequence[object]]:
    if isinstance(content, (tuple, list)) and len(content) == 2:
        images, flags = content
        if isinstance(images, (tuple, list)) and isinstance(flags, (tuple, list)):
            return images, flags
    raise ValueError("it does not hold two lists")


class _Key(NamedTuple):
    """What tells an image from the others, without a copy of it; encoded ones have no shape."""

    data: bytes
    shape: tuple[int, ...] = ()
    order: str = "C"


def _key(image: object) -> _Key:
    if isinstance(image, bytes):
        return _Key(image)
    if isinstance(image, Array) and image.data is not None:
        # An array of one dimension holds an encoded file too.
        return _Key(image.data) if len(image.shape) == 1 else _Key(image.data, image.shape, image.order)
    raise ValueError("an image is neither bytes nor an array")


def _image(key: _Key) -> Image:
    if not key.shape:
        return key.data
    return np.frombuffer(key.data, np.uint8).reshape(key.shape, order="F" if key.order == "F" else "C")
