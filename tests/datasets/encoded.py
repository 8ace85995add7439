"""Small crops as files hold them, each told from the others by its colour."""

import io

import numpy as np
from PIL import Image


def crop(number, size=(112, 112)):
    """Return pixels of one colour, uint8 [H, W, 3]."""
    return np.full((*size, 3), (number * 40 % 256, 255 - number * 30 % 256, 90), np.uint8)


def encoded(number, form="PNG", size=(112, 112)):
    """Return a crop as the bytes of a file."""
    stream = io.BytesIO()
    Image.fromarray(crop(number, size)).save(stream, form)
    return stream.getvalue()


def shown(data):
    """Return the numbers of the crops of data, which must be kept without loss, and their labels."""
    known = {tuple(crop(number)[0, 0]): number for number in range(6)}
    examples = [data.example(index) for index in range(len(data))]
    return [known[tuple(one.crop[5, 5])] for one in examples], [one.label for one in examples]
