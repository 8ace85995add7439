"""Verification sets of the field (.bin: LFW, CFP-FP, AgeDB-30 and others) as images to embed and pairs to compare.

The files are passed around and read as those of a stranger: no code of theirs is run.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError
from qface_toolkit.evaluation._base import FaceImages, set_sha256, shown_name
from qface_toolkit.framing import CROP_SIZE, STANDARD, Frame
from qface_toolkit.scoring.pair_list import Pairs
from qface_toolkit.sources import Crop
from qface_toolkit.untrusted.arrays import Array
from qface_toolkit.untrusted.images import decode, image_size
from qface_toolkit.untrusted.pickles import read_plain_pickle
from qface_toolkit.untrusted.reading import open_file

LARGEST_BYTES = 1 << 30
_AXES_OF_PICTURES = 4
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
        """Return the pairs, cut into this many contiguous folds, in an order in which each has both kinds.

        That is the file's own if it will do.
        """
        at = self._order(folds)
        return Pairs(self.first[at], self.second[at], self.same[at], folds)

    def dealt(self, folds: int) -> bool:
        """Tell whether `pairs` has another order than the file."""
        return bool((self._order(folds)[:-1] > self._order(folds)[1:]).any())

    def _order(self, folds: int) -> npt.NDArray[np.intp]:
        there = np.arange(len(self.same))
        if all(0 < self.same[part].sum() < len(part) for part in np.array_split(there, folds)):
            return there
        by_kind = np.argsort(~self.same, kind="stable")
        return np.concatenate([by_kind[fold::folds] for fold in range(folds)])


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
    if any(type(flag) not in (bool, int, float) or flag not in (0, 1) for flag in flags):
        raise ValueError("a flag is not true or false")
    if not flags or len(images) != 2 * len(flags):
        raise ValueError(f"it has {len(images)} images for {len(flags)} pairs")
    places: dict[_Key, int] = {}
    rows = np.array([places.setdefault(_key(image), len(places)) for image in images], dtype=np.intp)
    return PairsFile(tuple(map(_image, places)), rows[0::2], rows[1::2], np.array(flags, dtype=np.bool_))


def _two_lists(content: object) -> tuple[Sequence[object], list[object]]:
    if isinstance(content, (tuple, list)) and len(content) == 2:
        images, flags = map(_listed, content)
        if images is not None and flags is not None:
            return images, [_number(flag) for flag in flags]
    raise ValueError("it does not hold two lists")


def _listed(content: object) -> Sequence[object] | None:
    """Return the entries of a list, a tuple or an array: of objects, of numbers, or of pictures one after the other."""
    if isinstance(content, (tuple, list)):
        return content
    if not isinstance(content, Array):
        return None
    return _pictures(content) if len(content.shape) == _AXES_OF_PICTURES else content.numbers()


def _pictures(array: Array) -> list[object]:
    if not array.is_pixels or array.data is None or array.order != "C":
        raise ValueError("an array of pictures in it is not one of 8-bit pixels")
    count, *shape = array.shape
    size = len(array.data) // count
    parts = (array.data[at * size : (at + 1) * size] for at in range(count))
    return [Array(part, tuple(shape), dtype=array.dtype) for part in parts]


def _number(flag: object) -> object:
    """Return a flag that NumPy wrote, alone or in an array of its own, as the number it is."""
    if not isinstance(flag, Array):
        return flag
    found = flag.numbers()
    return found[0] if len(found) == 1 else None


class _Key(NamedTuple):
    """What tells an image from the others, without a copy of it; encoded ones have no shape."""

    data: bytes
    shape: tuple[int, ...] = ()
    order: str = "C"


def _key(image: object) -> _Key:
    if isinstance(image, bytes):
        return _Key(image)
    if isinstance(image, Array) and image.is_pixels and image.data is not None and len(image.shape) in (1, 2, 3):
        # A single row or column is no picture but an encoded file: cv2.imencode returns [N, 1] or [N].
        flat = len(image.shape) == 1 or (len(image.shape) == 2 and 1 in image.shape)
        return _Key(image.data) if flat else _Key(image.data, image.shape, image.order)
    raise ValueError("an image is neither bytes nor an array")


def _image(key: _Key) -> Image:
    if not key.shape:
        return key.data
    return np.frombuffer(key.data, np.uint8).reshape(key.shape, order="F" if key.order == "F" else "C")


FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
FOLDS = 10
_SQUARE = f"give a set of square crops, {CROP_SIZE}x{CROP_SIZE} on the usual five-point template"


@dataclass(frozen=True)
class PairSet:
    """A verification set: its different images, and which two of them each pair shows, in contiguous folds.

    `description` goes into reports; `notes` are one line each.
    """

    images: FaceImages
    pairs: Pairs
    description: dict[str, Any]
    notes: tuple[str, ...] = ()


def read_pairs(path: Path, folds: int = FOLDS) -> PairSet:
    """Read a .bin verification set; see `read_pairs_file` for what such a file may hold.

    A square image of another size is resized, to what the model eats (bicubic to 112x112; the original protocol resizes
    the shorter side to 112 when the width is not that, and can use square results only). Each different image is there
    once.

    Raises:
        MeasurementError: if the file is no such set, an image is of a kind or shape that cannot be used, or the pairs
            cannot be cut into so many folds.
    """
    file = read_pairs_file(path)
    _check_folds(len(file.same), folds, path)
    images = _PairImages(file, path.name)
    sizes = [images.check(index) for index in range(len(images))]
    others = sorted({size for size in sizes if size != CROP_SIZE})
    notes = tuple(f"{sizes.count(size)} of {len(sizes)} images are {size}x{size} and were resized" for size in others)
    if file.dealt(folds):
        notes += ("pairs of one kind stand together in the file: they are dealt to the folds in turns",)
    return PairSet(images, file.pairs(folds), _description(images, file, folds, path), notes)


def _check_folds(pairs: int, folds: int, path: Path) -> None:
    if not 2 <= folds <= pairs:
        what = f"{pairs} pairs cannot be cut into {folds} folds"
        raise MeasurementError(what, where=str(path), fix="ask for another number of folds by --folds")


def check_kinds(found: PairSet, path: Path) -> None:
    """Check that there are pairs of both kinds for each fold, before images are embedded for nothing.

    Raises:
        MeasurementError: if there are not.
    """
    genuine, pairs, folds = int(found.pairs.same.sum()), len(found.pairs.same), found.pairs.folds
    fewest = min(genuine, pairs - genuine)
    if folds <= fewest:
        return
    what = (
        f"{genuine} pairs of one person and {pairs - genuine} of two people are too few of one kind for {folds} folds"
    )
    fix = "add pairs of the other kind, or judge a folder of people by --faces"
    if fewest > 1:
        fix = f"ask for fewer folds: --folds {fewest}"
    raise MeasurementError(what, where=str(path), fix=fix)


def _description(images: "_PairImages", file: PairsFile, folds: int, path: Path) -> dict[str, Any]:
    pairs = np.stack([file.first, file.second, file.same]).astype("<i8")
    whole = hashlib.sha256(f"{set_sha256(images)}\n".encode() + pairs.tobytes())
    return {
        "kind": "pairs",
        "name": shown_name(path),
        "images": len(images),
        "people": None,
        "pairs": len(file.same),
        "genuine_pairs": int(file.same.sum()),
        "folds": folds,
        "sha256": whole.hexdigest(),
    }


class _PairImages:
    """The different images of a verification set; see FaceImages."""

    def __init__(self, file: PairsFile, name: str) -> None:
        self._images = file.images
        self._name = name
        # Messages name an image by its place in the file's own list, where two stand for each pair.
        listed = np.stack([file.first, file.second], axis=1).ravel()
        self._places = np.unique(listed, return_index=True)[1]

    def __len__(self) -> int:
        return len(self._images)

    def name(self, index: int) -> str:
        return f"image {self._places[index]} of {self._name}"

    def digest(self, index: int) -> str:
        image = self._images[index]
        if isinstance(image, bytes):
            return hashlib.sha256(image).hexdigest()
        return hashlib.sha256(f"pixels {image.shape} ".encode() + image.tobytes()).hexdigest()

    def crop(self, index: int, frame: Frame = STANDARD) -> Crop:
        image = self._images[index]
        pixels = decode(image, FORMATS, self.name(index)) if isinstance(image, bytes) else _three_channels(image)
        return frame.take(pixels)

    def check(self, index: int) -> int:
        """Return the side of an image in pixels, without decoding it."""
        image, where = self._images[index], self.name(index)
        width, height = image_size(image, FORMATS, where) if isinstance(image, bytes) else _pixel_size(image, where)
        if width != height:
            raise MeasurementError(f"an image is {width}x{height} pixels, not square", where=where, fix=_SQUARE)
        return width


def _pixel_size(image: Image, where: str) -> tuple[int, int]:
    shape = np.shape(image)
    if len(shape) == 2 or shape[2:] == (3,):
        return shape[1], shape[0]
    raise MeasurementError(f"an image is an array {shape}, not [height, width, 3]", where=where, fix=_SQUARE)


def _three_channels(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    three = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
    return np.ascontiguousarray(three)
