"""Decoding a stranger's images: turned and deep ones show what they are meant to, and others are refused in words."""

import io

import numpy as np
import pytest
from PIL import Image

from qface_toolkit.errors import MeasurementError
from qface_toolkit.untrusted.images import decode

FORMATS = ("JPEG", "PNG", "TIFF")
# A quarter is bright, so that each way of turning it looks otherwise.
GREY = np.pad(np.full((8, 8), 200, np.uint8), ((0, 8), (0, 8)), constant_values=40)


def encoded(image, form, **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def corners(found):
    return [int(found[row, column, 0] > 120) for row, column in ((2, 2), (2, -3), (-3, 2), (-3, -3))]


@pytest.mark.parametrize(("orientation", "bright"), [(1, 0), (3, 3), (6, 1), (8, 2)])
def test_an_image_is_turned_as_its_exif_says(orientation, bright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encoded(Image.fromarray(GREY), "JPEG", exif=exif), FORMATS, "x.jpg")
    assert corners(found) == [int(at == bright) for at in range(4)]


def test_damaged_exif_costs_nothing():
    plain = decode(encoded(Image.fromarray(GREY), "PNG"), FORMATS, "x.png")
    damaged = encoded(Image.fromarray(GREY), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert np.array_equal(decode(damaged, FORMATS, "x.png"), plain)


def test_sixteen_bits_are_brought_to_eight():
    found = decode(encoded(Image.fromarray(GREY.astype(np.uint16) * 257), "PNG"), FORMATS, "x.png")
    assert np.array_equal(found, np.repeat(GREY[:, :, None], 3, axis=2))


def test_pixels_that_are_no_colours_are_refused():
    with pytest.raises(MeasurementError, match="not of 8 or 16 bits"):
        decode(encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"), FORMATS, "x.tif")


def test_what_is_no_image_is_said_without_python():
    with pytest.raises(MeasurementError, match="it is no image, or of a kind") as caught:
        decode(b"GIF87a", FORMATS, "x.png")
    assert "object at" not in str(caught.value)
