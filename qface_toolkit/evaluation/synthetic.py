"""People who do not exist: drawings with attribute values that calibration never uses, for where there are no faces."""

import hashlib

import numpy as np

from qface_toolkit.errors import MeasurementError
from qface_toolkit.evaluation.people import PeopleSet, describe_people
from qface_toolkit.framing import STANDARD, Frame
from qface_toolkit.sources import Crop, ImageSet, NamedSet, find_set
from qface_toolkit.sources.procedural import version_warnings

HELD_OUT = "drawings-heldout"
PEOPLE = 200
IMAGES_EACH = 8
SEED = 7
NOTE = "these are drawings: they show what compression changed, not how well a model tells real people apart"


def synthetic_people(people: int = PEOPLE, images_each: int = IMAGES_EACH, seed: int = SEED) -> PeopleSet:
    """Return a set of drawn people; with the default arguments, the images of the set `drawings-heldout`.

    Raises:
        MeasurementError: if there would be fewer than two people or fewer than two images of each.
    """
    if people < 2 or images_each < 2:
        what = f"{people} people with {images_each} images each cannot be compared"
        raise MeasurementError(what, fix="ask for two people at least, with two images each")
    drawn = find_set(HELD_OUT)
    parameters = drawn.parameters | {"images_per_identity": images_each}
    used = drawn.model_copy(update={"parameters": parameters, "count": people * images_each, "seed": seed})
    images = _DrawnImages(used)
    names = tuple(f"drawn-{number:05d}" for number in range(people))
    owners = np.repeat(np.arange(people), images_each)
    paths = tuple(images.name(index) for index in range(len(images)))
    description = describe_people("drawings", HELD_OUT, images, people)
    return PeopleSet(images, owners, names, paths, description, notes=(NOTE, *version_warnings()))


class _DrawnImages:
    """Drawings as crops; see FaceImages. What they are drawn from stands for their pixels: drawing them costs more.

    The named set's checksum is part of it, so that a change of the pixels is a change of the digests.
    """

    def __init__(self, drawn: NamedSet) -> None:
        self._set = drawn
        self._sets: dict[Frame, ImageSet] = {}
        self._each = int(drawn.parameters["images_per_identity"])
        parameters = sorted(drawn.parameters.items())
        # Drawing costs more than a small model does, and a comparison asks for every image twice: 60 MB by default.
        self._drawn: dict[tuple[int, Frame], Crop] = {}
        self._what = repr((drawn.kind, parameters, drawn.seed, drawn.checksum, version_warnings()))

    def __len__(self) -> int:
        return self._set.count

    def name(self, index: int) -> str:
        return f"drawn-{index // self._each:05d}/{index % self._each}"

    def digest(self, index: int) -> str:
        return hashlib.sha256(f"{self._what} {index}".encode()).hexdigest()

    def crop(self, index: int, frame: Frame = STANDARD) -> Crop:
        if frame not in self._sets:
            self._sets[frame] = self._set.open(frame=frame)
        if (index, frame) not in self._drawn:
            self._drawn[index, frame] = self._sets[frame].crop(index)
        return self._drawn[index, frame].copy()
