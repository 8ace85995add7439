"""What must be known of a face model beside its weights; it travels with the model so that it is never guessed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import CheckpointError, RecipeError

CROP_SIZE = 112
"""Height and width in pixels of the aligned crop that every source delivers (the usual five-point template)."""

SHORTEST_EMBEDDING = 4
"""Of numbers; fewer are an age, a sex or a score, and do not tell people apart."""

Color = Literal["rgb", "bgr"]
Triple = tuple[float, float, float]

PREPROCESSING = ("mean", "std", "color")
PROVENANCE = ("license", "origin")
_ABSURD = 1e6


@dataclass(frozen=True)
class ModelSpec:
    """The facts of a face model: what it eats, what it returns and where it comes from.

    `input_size` is (height, width) in pixels; `mean` and `std` are per channel, in the order of `color`, on the
    scale 0..255, so that the network is fed (pixel - mean) / std.
    """

    name: str
    input_size: tuple[int, int]
    embedding_size: int
    mean: Triple = (127.5, 127.5, 127.5)
    std: Triple = (127.5, 127.5, 127.5)
    color: Color = "rgb"
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

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How images are prepared: mean, std and color, as `override` takes them."""
        return {key: getattr(self, key) for key in PREPROCESSING}

    def override(self, facts: Mapping[str, Any]) -> "ModelSpec":
        """Return the spec with some facts replaced; `mean` and `std` are a number or three.

        Raises:
            RecipeError: listing every mistake with its key path.
        """
        checked: dict[str, Any] = {}
        mistakes: list[str] = []
        for key, value in facts.items():
            try:
                checked[key] = _checked(key, value)
            except ValueError as error:
                mistakes.append(f"model.{key}: {error}")
        if mistakes:
            raise RecipeError(
                "\n".join(("the model's facts hold mistakes:", *mistakes)), fix="correct each of the lines above"
            )
        return replace(self, **checked)

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


def _checked(key: str, value: object) -> object:
    known = PREPROCESSING + PROVENANCE
    if key not in known:
        raise ValueError(f"there is no such fact to override; there are {', '.join(known)}")
    if key in ("mean", "std"):
        return _triple(value, positive=key == "std")
    if key == "color" and value not in get_args(Color):
        raise ValueError(f"{value!r} is not one of {', '.join(get_args(Color))}")
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    return value


def _triple(value: object, *, positive: bool) -> Triple:
    values = tuple(value) if isinstance(value, list | tuple) else (value,) * 3
    if len(values) != 3 or not all(_is_number(number) for number in values):
        raise ValueError(f"{value!r} is neither a number nor three of them")
    if positive and min(values) <= 0:
        raise ValueError(f"{value!r} is not above zero")
    return float(values[0]), float(values[1]), float(values[2])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _ABSURD
