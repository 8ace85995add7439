"""A folder with a folder of aligned crops for each person: who is on which image, and which group each belongs to."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import MeasurementError
from qface_toolkit.evaluation._base import FaceImages, set_sha256, shown_name
from qface_toolkit.framing import CROP_SIZE, STANDARD, Frame
from qface_toolkit.sources import Crop
from qface_toolkit.untrusted.images import decode, image_size, read_bytes

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
FORMATS = ("BMP", "JPEG", "PNG", "WEBP")
_LAYOUT = "give a folder that holds one folder for each person, with the aligned crops of that person"


@dataclass(frozen=True)
class PeopleSet:
    """Images of people: `owners` [N] says by a number from 0 who is on each, `people` are the names by that number.

    `paths` are the images' names, with "/" between folders; `left_out` are those that the cap on images a person left
    out. `description` goes into reports; `notes` are one line each.
    """

    images: FaceImages
    owners: npt.NDArray[np.intp]
    people: tuple[str, ...]
    paths: tuple[str, ...]
    description: dict[str, Any]
    left_out: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def read_people(folder: Path, per_identity: int | None = None) -> PeopleSet:
    """Read PEOPLE/NAME/*.jpg (or png, bmp, webp): aligned crops, sorted by person and file name, hidden ones ignored.

    Crops are square; those of another side than 112 are resized, to what a model eats. `per_identity` caps the images a
    person, the first by name. A link is followed only to a place inside the folder.

    Raises:
        MeasurementError: if the folder cannot be read, shows fewer than two people or no person twice, or an image is
            damaged or not square.
    """
    if per_identity is not None and per_identity < 1:
        raise MeasurementError(f"{per_identity} images a person were asked for", fix="ask for one at least")
    found = {person: files for person, files in _folders(folder) if files}
    kept = {person: files[:per_identity] for person, files in found.items()}
    _check_people(folder, kept)
    paths = [f"{person}/{file}" for person, files in kept.items() for file in files]
    images = _FolderImages(folder, paths)
    owners = np.repeat(np.arange(len(kept)), [len(files) for files in kept.values()])
    left_out = {f"{person}/{file}" for person, files in found.items() for file in files} - set(paths)
    description = describe_people("people", shown_name(folder), images, len(kept), per_identity)
    twice = _twice([images.digest(index) for index in range(len(images))], owners)
    notes = _notes(folder, len(left_out), twice, sum(side != CROP_SIZE for side in images.sides))
    return PeopleSet(images, owners, tuple(kept), tuple(paths), description, frozenset(left_out), notes)


def _twice(digests: list[str], owners: npt.NDArray[np.intp]) -> int:
    """Return how many different images stand under several people, of whom no model can tell them apart."""
    whose: dict[str, set[int]] = {}
    for digest, owner in zip(digests, owners.tolist(), strict=True):
        whose.setdefault(digest, set()).add(owner)
    return sum(len(people) > 1 for people in whose.values())


def describe_people(
    kind: str, name: str, images: FaceImages, people: int, per_identity: int | None = None
) -> dict[str, Any]:
    """Return what a report says of a set of people; `name` is a folder's own name, not the way to it."""
    return {
        "kind": kind,
        "name": name,
        "images": len(images),
        "people": people,
        "pairs": None,
        "per_identity": per_identity,
        "sha256": set_sha256(images),
    }


def _folders(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Give each person's name and the names of their images, both sorted."""
    try:
        # Unlike Path.resolve, this raises nothing but an OSError for links that lead in a circle.
        inside = Path(os.path.realpath(folder, strict=True))
        for person in sorted(folder.iterdir()):
            if not person.name.startswith(".") and person.is_dir() and person.resolve().is_relative_to(inside):
                yield person.name, sorted(file.name for file in person.iterdir() if _is_image(file, inside))
    except OSError as error:
        what = f"the folder of people cannot be read: {error.strerror or error}"
        raise MeasurementError(what, where=str(error.filename or folder), fix="check the path") from error


def _is_image(file: Path, inside: Path) -> bool:
    named = file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    return named and file.is_file() and file.resolve().is_relative_to(inside)


def _check_people(folder: Path, kept: dict[str, list[str]]) -> None:
    where = str(folder)
    if not kept:
        raise MeasurementError("there are no images of people in this folder", where=where, fix=_LAYOUT)
    if len(kept) == 1:
        what = f"there is one person only, {next(iter(kept))!r}, so nobody to tell them from"
        raise MeasurementError(what, where=where, fix=_LAYOUT)
    if max(map(len, kept.values())) < 2:
        what = "there is one image of each person only, so no pair shows the same person"
        raise MeasurementError(what, where=where, fix="give two images of some people at least, or a higher cap")


def _notes(folder: Path, left_out: int, twice: int, resized: int) -> tuple[str, ...]:
    people = [entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink()]
    entries = [*folder.iterdir(), *(file for person in people for file in person.iterdir())]
    inside = Path(os.path.realpath(folder))
    led_out = sum(one.is_symlink() and not Path(os.path.realpath(one)).is_relative_to(inside) for one in entries)
    found = {
        "images beside the people's folders, which were not used": sum(
            1 for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file()
        ),
        "links that lead out of the folder, which were not followed": led_out,
        "images that the cap on images a person left out": left_out,
        "images that stand under several people, each a false accept of any model": twice,
        f"images that are not {CROP_SIZE}x{CROP_SIZE} and were resized": resized,
    }
    return tuple(f"{what}: {count}" for what, count in found.items() if count)


class _FolderImages:
    """Files of a folder as crops; see FaceImages.

    Every file is read once to begin with: one whose header announces no square is refused, and what each holds is
    remembered by its hash.
    """

    def __init__(self, folder: Path, paths: list[str]) -> None:
        self._folder = folder
        self._paths = paths
        looked_at = [_looked_at(folder / path) for path in paths]
        self._digests = [digest for digest, _ in looked_at]
        self.sides = [side for _, side in looked_at]

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, index: int) -> str:
        return self._paths[index]

    def digest(self, index: int) -> str:
        return self._digests[index]

    def crop(self, index: int, frame: Frame = STANDARD) -> Crop:
        path = self._folder / self._paths[index]
        content = read_bytes(path)
        if hashlib.sha256(content).hexdigest() != self._digests[index]:
            # Its embedding would be kept, and found again, as that of the image it was.
            raise MeasurementError("an image has changed since the folder was read", where=str(path), fix="try again")
        pixels = decode(content, FORMATS, str(path))
        return frame.take(pixels)


def _looked_at(path: Path) -> tuple[str, int]:
    """Return a file's hash and the side of its image in pixels, without decoding it."""
    content = read_bytes(path)
    width, height = image_size(content, FORMATS, str(path))
    if width != height:
        what = f"an image is {width}x{height} pixels, not square"
        fix = f"align the faces to {CROP_SIZE}x{CROP_SIZE} on the usual five-point template, or remove the file"
        raise MeasurementError(what, where=str(path), fix=fix)
    return hashlib.sha256(content).hexdigest(), width
