"""What every kind of training data delivers: crops by number, whose each is, and a manifest that says what they are."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from qface_toolkit.registry import Registry
from qface_toolkit.sources import Crop

if TYPE_CHECKING:
    from collections.abc import Callable

UNKNOWN = -1
"""The label of an image of which it is not said whose it is."""


@dataclass(frozen=True)
class Example:
    """One aligned crop, uint8 [112, 112, 3], RGB, and the number of the identity on it, or UNKNOWN."""

    crop: Crop
    label: int


class FaceData(Protocol):
    """Training images by number: any order, any number of times, from several threads; nothing is kept in memory.

    `kind` is the entry of this folder that opened it, `name` a name without a path. `identities` is how many people
    there are, numbered from 0 without a hole, or 0 where it is not said who is on an image.
    `contains_no_real_face_data` is None where it is unknown.
    """

    kind: str
    name: str
    identities: int
    contains_no_real_face_data: bool | None

    def __len__(self) -> int:
        """Return how many images there are, at least one."""
        ...

    def example(self, index: int) -> Example:
        """Return an image and its label.

        Raises:
            CalibrationError: naming the image, if it is broken; others can still be read.
        """
        ...

    def labels(self) -> npt.NDArray[np.int32] | None:
        """Return the label of every image, int32 [images], read-only, or None where it is not said who is on them."""
        ...

    def traits(self) -> npt.NDArray[np.float32] | None:
        """Return what is known of how each identity looks, float32 [identities, K] in -1..1, where it is known."""
        ...

    def fingerprint(self) -> str:
        """Return a SHA-256 in hexadecimal that differs where data differ, taken of names, sizes and labels.

        It is cheap: the pixels of millions of images are not read for it.
        """
        ...


@dataclass(frozen=True)
class Opening:
    """What opening may need: `count` and `seed` for sets that are made, a folder to keep what was made, and a listener.

    `model` is the teacher, for sets that are made for one. `identities` says how many people are drawn, with
    `images_per_identity` pictures each.
    """

    count: int | None = None
    seed: int | None = None
    images_per_identity: int | None = None
    cache: Path | None = None
    threads: int = 1
    model: Any = None
    progress: "Callable[[int, int], None]" = lambda done, total: None


class Dataset(Protocol):
    """One kind of training data: what a file of this folder puts into `ENTRIES`."""

    def recognises(self, source: str) -> bool:
        """Tell, by name and what is on the disk, whether this source is of this kind."""
        ...

    def open(self, source: str, opening: Opening) -> FaceData:
        """Return the data.

        Raises:
            CalibrationError: if they cannot be read, labels have a hole, or a file is damaged.
        """
        ...


DATASETS: Registry[Dataset] = Registry("kind of training data", __package__)
