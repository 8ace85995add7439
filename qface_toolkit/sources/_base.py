"""What every calibration source delivers: aligned crops, one by one, and a manifest that says what they are."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from qface_toolkit.framing import STANDARD, Frame
from qface_toolkit.registry import Registry

if TYPE_CHECKING:
    from qface_toolkit.models import FloatModel

Crop = npt.NDArray[np.uint8]
"""One RGB picture of a face in some frame, uint8 [H, W, 3]; an aligned crop, [112, 112, 3], where none is named."""


class ImageSet(Protocol):
    """A fixed, ordered set of crops; asking twice for the same index gives the same pixels."""

    def __len__(self) -> int:
        """Return how many crops there are."""
        ...

    def crop(self, index: int) -> Crop:
        """Return the crop of this index, uint8 [H, W, 3], RGB."""
        ...


@dataclass(frozen=True)
class CropsByIndex:
    """A set of `count` crops, each made by a function of its index when it is asked for; see ImageSet."""

    count: int
    make: Callable[[int], Crop]

    def __len__(self) -> int:
        """Return how many crops there are."""
        return self.count

    def crop(self, index: int) -> Crop:
        """Return the crop of this index, uint8 [H, W, 3], RGB."""
        return self.make(index)


@dataclass(frozen=True)
class Provenance:
    """What a source knows of its images before it makes one: where they come from and what to be wary of.

    `contains_no_real_face_data` is None where that is unknown; `warnings` are one line each; `parameters` are what
    fixes the pixels beside the source's own options.
    """

    contains_no_real_face_data: bool | None
    warnings: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """What a set of calibration images is, so that anybody can make it again or see that it is another.

    `sha256` is taken over the decoded pixels in order. `contains_no_real_face_data` is True for drawings and noise
    alone, and None (unknown) for a user's own images and for drawings that a float model has moved.
    """

    kind: str
    parameters: dict[str, Any]
    seed: int
    count: int
    sha256: str
    contains_no_real_face_data: bool | None
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return asdict(self)


def load_crops(images: ImageSet, indices: range | None = None) -> Crop:
    """Return the crops of `indices` (all by default) as one array, uint8 [N, H, W, 3]."""
    return np.stack([images.crop(index) for index in (range(len(images)) if indices is None else indices)])


def pixel_sha256(crops: Crop) -> str:
    """Return the SHA-256 of the pixels, in order, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(crops).tobytes()).hexdigest()


class Source(Protocol):
    """One kind of calibration images: what a file of this folder puts into `ENTRIES`."""

    options: type[BaseModel]

    # Each source has options of its own; they were read by its own schema.
    def provenance(
        self,
        options: Any,  # noqa: ANN401
        *,
        count: int,
        model: "FloatModel | None" = None,
    ) -> Provenance:
        """Return what the reader of a manifest must know of `count` images."""
        ...

    def open(
        self,
        options: Any,  # noqa: ANN401
        *,
        count: int,
        seed: int,
        model: "FloatModel | None" = None,
        frame: Frame = STANDARD,
    ) -> ImageSet:
        """Return a set of `count` pictures in a frame; `model` is the one that they are for, where it is known.

        A source of aligned crops gives `frame.take(crop)`.

        Raises:
            CalibrationError: if the images cannot be had, or only with a model.
        """
        ...


SOURCES: Registry[Source] = Registry("calibration source", __package__)
