"""What every calibration source delivers: aligned crops, one by one, and a manifest that says what they are."""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from qface_toolkit.registry import Registry

Crop = npt.NDArray[np.uint8]
"""One aligned RGB crop, uint8 [112, 112, 3]."""


class ImageSet(Protocol):
    """A fixed, ordered set of crops; asking twice for the same index gives the same pixels."""

    def __len__(self) -> int:
        """Return how many crops there are."""
        ...

    def crop(self, index: int) -> Crop:
        """Return the crop of this index, uint8 [112, 112, 3], RGB."""
        ...


@dataclass(frozen=True)
class Manifest:
    """What a set of calibration images is, so that anybody can make it again or see that it is another.

    `sha256` is taken over the decoded pixels in order. `contains_no_real_face_data` is True for drawings only and
    None (unknown) for a user's own images.
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
    """Return the crops of `indices` (all by default) as one array, uint8 [N, 112, 112, 3]."""
    return np.stack([images.crop(index) for index in (range(len(images)) if indices is None else indices)])


def pixel_sha256(crops: Crop) -> str:
    """Return the SHA-256 of the pixels, in order, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(crops).tobytes()).hexdigest()


class Source(Protocol):
    """One kind of calibration images: what a file of this folder puts into `ENTRIES`."""

    options: type[BaseModel]
    contains_no_real_face_data: bool | None

    def warnings(self) -> tuple[str, ...]:
        """Return what the reader of a manifest must know, one line each; nothing in most cases."""
        ...

    # Each source has options of its own; they were read by its own schema.
    def open(self, options: Any, *, count: int, seed: int) -> ImageSet:  # noqa: ANN401
        """Return a set of `count` images.

        Raises:
            CalibrationError: if the images cannot be had.
        """
        ...


SOURCES: Registry[Source] = Registry("calibration source", __package__)


def describe(source: Source, kind: str, options: BaseModel, *, crops: Crop, seed: int) -> Manifest:
    """Return the manifest of the crops that `source` delivered with these options."""
    return manifest_of(source, kind, options, seed=seed, count=len(crops), sha256=pixel_sha256(crops))


def manifest_of(source: Source, kind: str, options: BaseModel, *, seed: int, count: int, sha256: str) -> Manifest:
    """Return the manifest of a set whose pixels were hashed while they went by."""
    return Manifest(
        kind=kind,
        parameters=options.model_dump(mode="json"),
        seed=seed,
        count=count,
        sha256=sha256,
        contains_no_real_face_data=source.contains_no_real_face_data,
        warnings=source.warnings(),
    )
