"""A made-up protocol in the layout of IJB-B and IJB-C: drawn faces, placed in bigger pictures by known transforms."""

import functools
import io
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from qface_toolkit.evaluation.align import TEMPLATE
from qface_toolkit.sources import find_set

TEMPLATES, MEDIA, PEOPLE = 6, 3, 3


@dataclass
class Line:
    """One image: what the text files say of it."""

    name: str
    template: int
    medium: int
    landmarks: np.ndarray
    score: float


def similarity_of(rng):
    """Return the 2x3 matrix of a turned, larger and shifted face."""
    angle, scale = rng.uniform(-0.5, 0.5), rng.uniform(1.1, 1.9)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([150, 140]) + rng.uniform(-8, 8, 2)
    return np.column_stack([turn, middle - turn @ [55.5, 55.5]])


def placed(crop, matrix, size=(300, 280)):
    """Return a picture of `size`, (width, height), that shows the crop moved by the matrix, by bicubic sampling."""
    inverse = np.linalg.inv(matrix[:, :2])
    # Pillow counts from the corner of the first pixel and not from its middle.
    shift = -inverse @ (matrix[:, 2] + 0.5) + 0.5
    data = (*inverse[0], shift[0], *inverse[1], shift[1])
    return Image.fromarray(crop).transform(size, Image.Transform.AFFINE, data, Image.Resampling.BICUBIC)


@functools.cache
def drawn():
    """Return the lines, the crops, and the pictures as files, drawn once for all the protocols that are written."""
    rng, drawings = np.random.default_rng(0), find_set("drawings-heldout").open()
    lines, crops, pictures = [], [], []
    for row in range(TEMPLATES * MEDIA):
        template = row // MEDIA
        crop, matrix = drawings.crop(8 * (template % PEOPLE) + row % 8), similarity_of(rng)
        placed(crop, matrix).save(picture := io.BytesIO(), "PNG")
        points = TEMPLATE @ matrix[:, :2].T + matrix[:, 2]
        # Two frames of one film, and a picture.
        lines.append(Line(f"{row + 1}.png", 10 * template + 1, 500 + row // 2, points, rng.uniform(0.5, 1)))
        crops.append(crop)
        pictures.append(picture.getvalue())
    return lines, crops, pictures


def write_protocol(folder, name="ijbc", change=lambda lines, pairs: None):
    """Write a protocol of drawn people; return its lines and the crops that its pictures were made of.

    Template t shows person t % PEOPLE; `change` may edit lines and pairs before they are written.
    """
    (folder / "meta").mkdir(parents=True)
    (folder / "loose_crop").mkdir()
    known, crops, pictures = drawn()
    lines = [replace(line, landmarks=line.landmarks.copy()) for line in known]
    for line, picture in zip(lines, pictures, strict=True):
        (folder / "loose_crop" / line.name).write_bytes(picture)
    numbers = sorted({line.template for line in lines})
    pairs = [(a, b, int(a // 10 % PEOPLE == b // 10 % PEOPLE)) for a in numbers for b in numbers if a < b]
    change(lines, pairs)
    write_lines(folder, name, lines, pairs)
    return lines, crops.copy()


def write_lines(folder, name, lines, pairs):
    """Write the three text files."""
    points = [" ".join(f"{number:.6f}" for number in np.ravel(one.landmarks)) for one in lines]
    detections = [f"{one.name} {five} {one.score:.6f}" for one, five in zip(lines, points, strict=True)]
    files = {
        "face_tid_mid": [f"{one.name} {one.template} {one.medium}" for one in lines],
        "name_5pts_score": detections,
        "template_pair_label": [" ".join(map(str, pair)) for pair in pairs],
    }
    for what, text in files.items():
        (folder / "meta" / f"{name}_{what}.txt").write_text("\n".join(text) + "\n")
