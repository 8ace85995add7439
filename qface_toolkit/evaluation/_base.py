"""What a set of face images and a model look like to an evaluation, whatever files they came from."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from qface_toolkit.framing import STANDARD, Frame
from qface_toolkit.models import ModelSpec
from qface_toolkit.sources import Crop

Rows = npt.NDArray[np.float32]
"""Embeddings, float32 [N, D]."""


class FaceImages(Protocol):
    """Images of aligned faces in a fixed order, each with a name for messages and a fingerprint."""

    def __len__(self) -> int:
        """Return how many images there are."""
        ...

    def crop(self, index: int, frame: Frame = STANDARD) -> Crop:
        """Return the image of this index in a frame, uint8 [*frame.size, 3], RGB; may be called from several threads.

        Raises:
            MeasurementError: if the image cannot be read; the message names it.
        """
        ...

    def name(self, index: int) -> str:
        """Return what a message calls this image: a file's name, or "image 17 of lfw.bin"."""
        ...

    def digest(self, index: int) -> str:
        """Return the SHA-256, in hexadecimal, of all that fixes the pixels: the encoded bytes and the alignment."""
        ...


@dataclass(frozen=True)
class Embedder:
    """An opened model: what runs it, what it eats, and what tells its embeddings from those of another.

    `run` takes what `prepare` returns, for pictures in the spec's frame, uint8 [N, H, W, 3], and returns float32
    [N, D]; it is called by one thread at a time. Without `prepare` it is fed `spec.preprocess`. `runtime` is a name and
    a version; `sha256` is that of the file. `notes` are what whoever judges the model must be told, one line each.
    """

    run: Callable[[npt.NDArray[Any]], Rows]
    spec: ModelSpec
    name: str
    sha256: str
    runtime: str
    prepare: Callable[[Crop], npt.NDArray[Any]] | None = None
    notes: tuple[str, ...] = ()

    def inputs(self, crops: Crop) -> npt.NDArray[Any]:
        """Return what `run` takes for these pictures in the spec's frame, uint8 [N, H, W, 3]."""
        return self.spec.preprocess(crops) if self.prepare is None else self.prepare(crops)


def set_sha256(images: FaceImages) -> str:
    """Return the SHA-256 of a set: of its images' names and digests, in order."""
    whole = hashlib.sha256()
    for index in range(len(images)):
        whole.update(f"{images.name(index)}\0{images.digest(index)}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()


def shown_name(path: Path) -> str:
    """Return what a report calls a file or folder: its own name alone, in characters that any file takes."""
    return shown_text(Path(os.path.realpath(path)).name)


def shown_text(name: str) -> str:
    """Return a file's name in characters that any file takes: it may hold bytes that are no text."""
    return name.encode("utf-8", "replace").decode("utf-8")
