"""Crops that are in memory already, as training images: those that a job was calibrated with."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qface_toolkit.datasets._base import UNKNOWN, Example
from qface_toolkit.sources import Crop, pixel_sha256


@dataclass
class MemoryData:
    """Crops uint8 [N, 112, 112, 3] of nobody in particular; see FaceData."""

    crops: Crop
    name: str
    contains_no_real_face_data: bool | None = None
    kind: str = "memory"
    identities: int = 0

    def __len__(self) -> int:
        """Return how many crops there are."""
        return len(self.crops)

    def example(self, index: int) -> Example:
        """Return a crop."""
        return Example(self.crops[index], UNKNOWN)

    def labels(self) -> npt.NDArray[np.int32] | None:
        """Return that it is not said who is on a crop."""
        return None

    def traits(self) -> npt.NDArray[np.float32] | None:
        """Return that nothing is known of how people look."""
        return None

    def fingerprint(self) -> str:
        """Return the SHA-256 of the pixels."""
        return pixel_sha256(self.crops)

    def split(self, held_out: int) -> tuple["MemoryData", "MemoryData"]:
        """Return all but the last `held_out` crops, and those."""
        cut = len(self.crops) - held_out
        parts = (self.crops[:cut], self.crops[cut:])
        one, other = (MemoryData(part, self.name, self.contains_no_real_face_data) for part in parts)
        return one, other
