"""What must be known of a face model beside its weights; it travels with the model so that nobody has to guess."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import CheckpointError

CROP_SIZE = 112
"""Height and width in pixels of the aligned crop that every source delivers (the usual five-point template)."""


SHORTEST_EMBEDDING = 4
"""Of numbers; fewer are an age, a sex or a score, and tell nobody from anybody."""


@dataclass(frozen=True)
class ModelSpec:
    """The facts of a face model: what it eats, what it returns and where it comes from.

    `input_size` is (height, width) in pixels; `mean` and `std` are per channel, in the order of `color`, on the
    scale 0..255, so that the network is fed (pixel - mean) / std.
    """

    name: str
    input_size: tuple[int, int]
    embedding_size: int
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)
    color: Literal["rgb", "bgr"] = "rgb"
    license: str = "unknown"
    origin: str = "unknown"

    def __post_init__(self) -> None:
        """Refuse what no crop can fill.

        Raises:
            CheckpointError: if height or width is not within the crop's.
        """
        height, width = self.input_size
        if not (0 < height <= CROP_SIZE and 0 < width <= CROP_SIZE):
            what = (
                f"the network takes images of {height}x{width} pixels, and aligned crops have {CROP_SIZE}x{CROP_SIZE}"
            )
            fix = f"give a network for at most {CROP_SIZE}x{CROP_SIZE}; larger inputs are not supported"
            raise CheckpointError(what, where=self.name, fix=fix)

    def preprocess(self, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Turn aligned RGB crops, uint8 [N, 112, 112, 3], into the network's input, float32 [N, 3, height, width].

        A network that eats less than the whole crop gets the middle of it.
        """
        pixels = self.middle(crops)
        if self.color == "bgr":
            pixels = pixels[..., ::-1]
        # Planes are laid out before the arithmetic: fifteen times as fast as the other order, the same numbers.
        scaled = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32)
        scaled -= np.asarray(self.mean, np.float32)[:, None, None]
        scaled /= np.asarray(self.std, np.float32)[:, None, None]
        return scaled

    def middle(self, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the part of aligned crops, uint8 [N, 112, 112, 3], that the network eats: [N, height, width, 3]."""
        height, width = self.input_size
        top, left = (CROP_SIZE - height) // 2, (CROP_SIZE - width) // 2
        return crops[:, top : top + height, left : left + width, :]

    def pixels_of(self, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Return the RGB pixels, uint8 [N, height, width, 3], that preprocessing made these inputs from."""
        scaled = inputs.transpose(0, 2, 3, 1) * np.asarray(self.std, np.float32) + np.asarray(self.mean, np.float32)
        pixels = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(pixels[..., ::-1] if self.color == "bgr" else pixels)
