"""What must be known of a face model beside its weights; it travels with the model so that it is never guessed.

A file says it in words: in an ONNX file's metadata, or beside a TorchScript program.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import CheckpointError, RecipeError
from qface_toolkit.untrusted.reading import printable

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


_VALUES = {"mean": "model.mean=MEAN", "std": "model.std=STD", "color": "model.color=rgb|bgr"}
_USUAL = """
  mean 127.5, std 127.5 or 128, rgb: most that were trained for faces (ArcFace, InsightFace); AdaFace likewise, bgr
  mean [123.675, 116.28, 103.53], std [58.395, 57.12, 57.375], rgb: with the constants of ImageNet
  mean 0, std 255: pixels brought to 0..1 and nothing else; mean 0, std 1: pixels as they are"""
_LONGEST_FACT = 300
_LONGEST_NAME = 60


def stated_facts(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the preprocessing and provenance that texts under our own keys say, as `ModelSpec.override` takes them."""
    facts: dict[str, Any] = {}
    for key in (*PREPROCESSING, *PROVENANCE):
        text = metadata.get(f"qface.{key}")
        if text is None or len(text) > _LONGEST_FACT:
            continue
        facts[key] = _numbers(text) if key in ("mean", "std") else printable(text, _LONGEST_FACT)
    return facts


def stated_name(metadata: Mapping[str, str]) -> str:
    """Return the model's name that a file says, which may be empty."""
    return printable(metadata.get("qface.model", ""), _LONGEST_NAME)


def missing_facts(*known: Mapping[str, Any]) -> list[str]:
    """Return which of mean, std and color, the facts of how images are prepared, is in none of these."""
    return [key for key in PREPROCESSING if not any(key in facts for facts in known)]


def how_to_give(missing: Sequence[str]) -> str:
    """Return how to give facts of the preprocessing, what they usually are, and what becomes of wrong ones."""
    settings = " ".join(f"--set {_VALUES[key]}" for key in missing)
    return (
        f"give those of the training, which the model's authors state: {settings}. Do not guess; usual ones "
        f"are:{_USUAL}\nWrong ones give a network that knows people worse or not at all: see how well it does with "
        "`qface evaluate --faces`, which raises an alarm where it hardly does"
    )


def with_facts(
    spec: ModelSpec, *, given: Mapping[str, Any], stated: Mapping[str, Any], otherwise: Mapping[str, Any]
) -> ModelSpec:
    """Return the spec with what the caller gives, before what the file states, before what is known otherwise.

    Raises:
        CheckpointError: if what the file states makes no sense.
        RecipeError: listing what is wrong of what is given.
    """
    try:
        spec = spec.override({**otherwise, **stated})
    except RecipeError as error:
        what = f"the file's metadata are wrong: {error.what}"
        raise CheckpointError(what, fix="give the facts with --set") from error
    return spec.override(given)


def _numbers(text: str) -> object:
    """Return what a metadata text holds as JSON; a text that is none is refused later, by its name."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return printable(text)
