"""Decoding one image of a stranger: known formats only, no absurd sizes, and an error that names the image.

Nothing here touches Python's warning filters, which are shared by all threads; images are decoded in several.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from qface_toolkit.errors import MeasurementError

MOST_PIXELS = 1 << 26
"""The largest photograph that is decoded, 67 million pixels: 200 MB of them."""

# Pillow's readers raise all of these for files that are cut short or damaged.
_BROKEN = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, ArithmeticError, NotImplementedError,
    struct.error, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        MeasurementError: if it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        what = f"an image cannot be read: {error.strerror or error}"
        raise MeasurementError(what, where=str(path), fix="put the file there or take it out of the set") from error


def decode(data: bytes, formats: tuple[str, ...], where: str) -> npt.NDArray[np.uint8]:
    """Return the pixels of an encoded image, uint8 [height, width, 3], RGB.

    Raises:
        MeasurementError: naming `where`, if it is no whole image of these formats, or one of absurd size.
    """
    with _named(where), Image.open(io.BytesIO(data), formats=formats) as image:
        _check_size(image.size)
        return np.array(image.convert("RGB"))


def image_size(data: bytes, formats: tuple[str, ...], where: str) -> tuple[int, int]:
    """Return width and height that an encoded image announces; nothing is decoded.

    Raises:
        MeasurementError: naming `where`, if it is no image of these formats, or one of absurd size.
    """
    with _named(where), Image.open(io.BytesIO(data), formats=formats) as image:
        _check_size(image.size)
        return image.size


def _check_size(size: tuple[int, int]) -> None:
    if size[0] * size[1] > MOST_PIXELS:
        raise ValueError(f"it announces {size[0]}x{size[1]} pixels")


@contextmanager
def _named(where: str) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        what = f"an image cannot be decoded: {error or type(error).__name__}"
        raise MeasurementError(what, where=where, fix="replace the image or take it out of the set") from error
