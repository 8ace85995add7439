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
from PIL import Image, UnidentifiedImageError

from qface_toolkit.errors import MeasurementError, QFaceError
from qface_toolkit.untrusted.reading import read_file

LARGEST_BYTES = 1 << 28

MOST_PIXELS = 1 << 26
"""The largest photograph that is decoded, 67 million pixels: 200 MB of them."""

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow's readers raise all of these for files that are cut short or damaged.
_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    NotImplementedError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def read_bytes(path: Path, *, noun: str = "image", kind: type[QFaceError] = MeasurementError) -> bytes:
    """Return a file's bytes, LARGEST_BYTES at most; `noun` is what it should hold.

    Raises:
        QFaceError: of this kind, if it cannot be read.
    """
    return read_file(path, LARGEST_BYTES, noun=noun, fix="put the file there or take it out of the set", kind=kind)


def decode(
    data: bytes,
    formats: tuple[str, ...],
    where: str,
    *,
    noun: str = "an image",
    kind: type[QFaceError] = MeasurementError,
) -> npt.NDArray[np.uint8]:
    """Return the pixels of an encoded image, uint8 [height, width, 3], RGB.

    Raises:
        QFaceError: of this kind, naming `where`, if it is no whole image of these formats, or of more than MOST_PIXELS.
    """
    with _named(where, noun, kind), Image.open(io.BytesIO(data), formats=formats) as image:
        _check_size(image.size)
        return _rgb(_upright(image))


def image_size(
    data: bytes,
    formats: tuple[str, ...],
    where: str,
    *,
    noun: str = "an image",
    kind: type[QFaceError] = MeasurementError,
) -> tuple[int, int]:
    """Return width and height that an encoded image announces; nothing is decoded. See `decode` for what is raised."""
    with _named(where, noun, kind), Image.open(io.BytesIO(data), formats=formats) as image:
        _check_size(image.size)
        return image.size


def _upright(image: Image.Image) -> Image.Image:
    """Return an image as its EXIF orientation says it is to be seen; so does OpenCV, with which the field reads."""
    turn = _TURNS.get(_orientation(image.info.get("exif", b"")))
    return image if turn is None else image.transpose(turn)


def _orientation(exif: bytes) -> int:
    """Return the orientation in the first directory of EXIF data, or 1; Pillow's own reader warns of damaged ones."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}L", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        entries = [struct.unpack_from(f"{order}HHLH", tiff, start + 2 + 12 * at) for at in range(count)]
    except struct.error:
        return 1
    return next((int(value) for tag, _, _, value in entries if tag == _ORIENTATION), 1)


def _rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion makes everything above 255 white.
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are not of 8 or 16 bits (Pillow's mode {image.mode})")
    return np.array(image.convert("RGB"))


def _check_size(size: tuple[int, int]) -> None:
    if size[0] * size[1] > MOST_PIXELS:
        raise ValueError(f"it announces {size[0]}x{size[1]} pixels")


@contextmanager
def _named(where: str, noun: str, kind: type[QFaceError]) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        unknown = isinstance(error, UnidentifiedImageError)
        why = "it is no image, or of a kind that is not read here" if unknown else error or type(error).__name__
        what = f"{noun} cannot be decoded: {why}"
        raise kind(what, where=where, fix="replace the image or take it out of the set") from error
