"""How the bytes of one image become an aligned crop, whichever kind of training data they come from."""

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import CalibrationError
from qface_toolkit.framing import CROP_SIZE, STANDARD
from qface_toolkit.sources import Crop
from qface_toolkit.untrusted.images import decode

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
"""In the order in which they are tried."""

LARGEST_BYTES = 1 << 25
"""Of one encoded crop inside a larger file; uncompressed, one of 112x112 pixels has 38 thousand."""

_ALIGN = (
    f"align the faces to {CROP_SIZE}x{CROP_SIZE} on the usual five-point template, or take the image out of the data"
)


def crop_of(data: bytes, where: str) -> Crop:
    """Return an encoded image as a crop, uint8 [112, 112, 3], RGB; a square one of another side is resized.

    Raises:
        CalibrationError: naming `where`, if it cannot be decoded or is not square.
    """
    pixels = decode(data, FORMATS, where, kind=CalibrationError)
    return STANDARD.take(_square(pixels, where))


def _square(pixels: npt.NDArray[np.uint8], where: str) -> npt.NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    if height != width:
        raise CalibrationError(f"an image is {width}x{height} pixels, not square", where=where, fix=_ALIGN)
    return pixels
