"""What must be known of a face model beside its weights; it travels with the model so that it is never guessed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeGuard, get_args

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import CheckpointError, RecipeError
from qface_toolkit.framing import CROP_NAMES, CROP_SIZE, STANDARD, CropName, Frame, luma

SMALLEST_SIDE, LARGEST_SIDE = 4, 256
"""Of an input, in pixels; what is smaller shows no face, and what is larger is no network for one."""

SHORTEST_EMBEDDING = 4
"""Of numbers; fewer are an age, a sex or a score, and do not tell people apart."""
LONGEST_EMBEDDING = 4096
"""Of a network that is built here; one that comes with its weights may have more."""

Color = Literal["rgb", "bgr", "gray"]
COLORS: tuple[Color, ...] = get_args(Color)
PerChannel = tuple[float, ...]
"""One number a channel: three, or one where the input is gray."""

PREPROCESSING = ("mean", "std", "color")
"""What is never guessed; see `missing_facts`."""
GEOMETRY = ("input_size", "crop")
PROVENANCE = ("license", "origin")
CHECKED = "checked"
"""Said beside facts by whoever knows that an unusual preprocessing is right; no fact itself."""
_ABSURD = 1e6


@dataclass(frozen=True)
class ModelSpec:
    """The facts of a face model: what it eats, what it returns and where it comes from.

    `input_size` is (height, width) in pixels; `mean` and `std` are per channel, in the order of `color`, on the
    scale 0..255, so that the network is fed (pixel - mean) / std. A `gray` network has one channel, the luma of ITU-R
    601. `crop` says where a face stands in the input; see `Frame`.
    """

    name: str
    input_size: tuple[int, int]
    embedding_size: int
    mean: PerChannel = (127.5, 127.5, 127.5)
    std: PerChannel = (127.5, 127.5, 127.5)
    color: Color = "rgb"
    license: str = "unknown"
    origin: str = "unknown"
    crop: CropName = "arcface"

    def __post_init__(self) -> None:
        """Refuse an input that no face can fill; numbers that are the same for three channels do for one.

        Raises:
            CheckpointError: if height or width is out of bounds, or colour, crop, mean and std make no sense.
        """
        if not is_size(self.input_size):
            height, width = self.input_size
            what = f"the network takes images of {height}x{width} pixels, and sides of {SIDES} pixels are supported"
            raise CheckpointError(what, where=self.name, fix="give a network that takes images of faces of that size")
        if self.color not in COLORS or self.crop not in CROP_NAMES:
            what = f"there is no colour {self.color!r} or no crop {self.crop!r}"
            raise CheckpointError(
                what, where=self.name, fix=f"{', '.join(COLORS)} and {', '.join(CROP_NAMES)} are known"
            )
        for key in ("mean", "std"):
            object.__setattr__(self, key, _fitted(getattr(self, key), self.channels))
            if len(getattr(self, key)) != self.channels:
                what = f"{key} is {getattr(self, key)}, and the network's images have {self.channels} channel(s)"
                raise CheckpointError(what, where=self.name, fix=f"give {self.channels} number(s)")

    @property
    def channels(self) -> int:
        """How many channels the input has: three, or one where it is gray."""
        return 1 if self.color == "gray" else 3

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one input."""
        return self.channels, *self.input_size

    @property
    def frame(self) -> Frame:
        """Where faces stand in the pictures that `preprocess` takes.

        A network on ArcFace's template that eats no more than the aligned crop is given all, and takes the middle.
        """
        inside = self.crop == "arcface" and max(self.input_size) <= CROP_SIZE
        return STANDARD if inside else Frame(self.crop, self.input_size)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What a caller who did not name the crop must be told: whose template it is taken to be, where it matters."""
        height, width = self.input_size
        if self.crop != "arcface" or max(self.input_size) == CROP_SIZE:
            return ()
        if self.frame == STANDARD:
            how, others = "the middle of the aligned crop", "--set model.crop=none shrinks the whole crop"
        else:
            how, others = "ArcFace's template enlarged", "others are --set model.crop=facenet, dlib or none"
        said = (
            f"it is not said how faces stand in images of {height}x{width} pixels: the network is given {how}; {others}"
        )
        return (f"{said} (arcface: leave it so)",)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How images are prepared: mean, std, color and crop, as `override` takes them."""
        return {key: getattr(self, key) for key in (*PREPROCESSING, "crop")}

    def as_plain(self) -> dict[str, Any]:
        """Return the facts as plain values for a file; the usual crop goes without saying."""
        usual = {"crop"} if self.crop == "arcface" else set()
        return {key: value for key, value in asdict(self).items() if key not in usual}

    def override(self, facts: Mapping[str, Any]) -> "ModelSpec":
        """Return the spec with some facts replaced; `mean` and `std` are a number or one a channel.

        `checked` may be said beside them and changes nothing here.

        Raises:
            RecipeError: listing every mistake with its key path.
        """
        checked: dict[str, Any] = {}
        mistakes: list[str] = []
        channels = 1 if facts.get("color", self.color) == "gray" else 3
        for key, value in facts.items():
            try:
                checked[key] = _checked(key, value, channels)
            except ValueError as error:
                mistakes.append(f"model.{key}: {error}")
        mistakes += [
            f"model.{key}: {getattr(self, key)} is there and {channels} needed: give it too"
            for key in ("mean", "std")
            if key not in facts and len(_fitted(getattr(self, key), channels)) != channels
        ]
        if mistakes:
            raise RecipeError(
                "\n".join(("the model's facts hold mistakes:", *mistakes)), fix="correct each of the lines above"
            )
        checked.pop(CHECKED, None)
        return replace(self, **checked)

    def preprocess(self, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Turn RGB pictures in this model's `frame`, uint8 [N, H, W, 3], into its input, float32 [N, C, height, width].

        Aligned crops of 112x112 are taken into the frame first where that is of another size. A network that eats less
        than the whole crop gets the middle of it.
        """
        if crops.shape[1:3] == STANDARD.size != self.frame.size:
            crops = np.stack([self.frame.take(crop) for crop in crops])
        pixels = self.in_order(self.middle(crops))
        # Planes are laid out before the arithmetic: fifteen times as fast as the other order, the same numbers.
        scaled = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32)
        scaled -= np.asarray(self.mean, np.float32)[:, None, None]
        scaled /= np.asarray(self.std, np.float32)[:, None, None]
        return scaled

    def in_order(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return RGB pixels, uint8 [..., 3], as the channels that the network eats: in its order, or their luma."""
        if self.color == "gray":
            return luma(pixels)
        return pixels[..., ::-1] if self.color == "bgr" else pixels

    def middle(self, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the part of pictures in the frame, uint8 [N, H, W, 3], that is eaten: [N, height, width, 3]."""
        height, width = self.input_size
        top, left = (crops.shape[1] - height) // 2, (crops.shape[2] - width) // 2
        return crops[:, top : top + height, left : left + width, :]

    def pixels_of(self, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Return the pixels, uint8 [N, height, width, C], that preprocessing made these inputs from: RGB or gray."""
        scaled = inputs.transpose(0, 2, 3, 1) * np.asarray(self.std, np.float32) + np.asarray(self.mean, np.float32)
        pixels = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(pixels[..., ::-1] if self.color == "bgr" else pixels)


SIDES = f"{SMALLEST_SIDE} to {LARGEST_SIDE}"


def is_size(value: object) -> TypeGuard[Sequence[int]]:
    """Tell whether this is (height, width) of an input: two whole numbers within the bounds."""
    sizes = value if isinstance(value, list | tuple) else ()
    whole = all(isinstance(side, int) and not isinstance(side, bool) for side in sizes)
    return len(sizes) == 2 and whole and all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in sizes)


def _checked(key: str, value: object, channels: int) -> object:
    known = (*PREPROCESSING, *GEOMETRY, *PROVENANCE, CHECKED)
    if key not in known:
        raise ValueError(f"there is no such fact to override; there are {', '.join(known)}")
    if key == CHECKED:
        if not isinstance(value, bool):
            raise ValueError(f"{value!r} is neither true nor false")
        return value
    if key in ("mean", "std"):
        return _numbers_of(value, channels, positive=key == "std")
    if key == "input_size":
        if not is_size(value):
            raise ValueError(f"{value!r} is not [HEIGHT, WIDTH], each of {SIDES} pixels")
        return tuple(value)
    names: tuple[str, ...] = {"color": COLORS, "crop": CROP_NAMES}.get(key, ())
    if names and value not in names:
        raise ValueError(f"{value!r} is not one of {', '.join(names)}")
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    return value


def _numbers_of(value: object, channels: int, *, positive: bool) -> PerChannel:
    values = tuple(value) if isinstance(value, list | tuple) else (value,) * channels
    numbers = _fitted(tuple(float(number) for number in values if _is_number(number)), channels)
    if not all(map(_is_number, values)) or len(numbers) != channels:
        several = "three of them" if channels == 3 else "a list of one: the input is gray"
        raise ValueError(f"{value!r} is neither a number nor {several}")
    if positive and min(numbers) <= 0:
        raise ValueError(f"{value!r} is not above zero")
    return numbers


def _fitted(values: PerChannel, channels: int) -> PerChannel:
    """Return one number a channel where what there is says so: a gray image's one, or three that are the same."""
    return values[:1] * channels if len(values) in (1, 3) and len(set(values)) == 1 else values


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _ABSURD
