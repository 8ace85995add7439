"""What an ONNX file says of its input: preprocessed floats, or pixels together with the preprocessing it absorbed."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import ArtifactError
from qface_toolkit.models import CROP_SIZE, ModelSpec

INPUT_KEY = "qface.input"
IMAGE = "image"
"""Name of the input of files that take pixels; the others call it "input"."""
FLOATS = "float32 NCHW, (pixel - mean) / std"
PIXELS = "uint8 NHWC RGB 0..255"

_COLORS: Mapping[str, Literal["rgb", "bgr"]] = {"rgb": "rgb", "bgr": "bgr"}

PixelsOf = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.uint8]]


def pixel_facts(spec: ModelSpec) -> dict[str, str]:
    """Return the metadata of a file that takes pixels: that it does, and the preprocessing that it absorbed."""
    absorbed = {"qface.mean": json.dumps(spec.mean), "qface.std": json.dumps(spec.std), "qface.color": spec.color}
    return absorbed | {INPUT_KEY: PIXELS}


def read_pixels_of(facts: Mapping[str, str], artifact: Path) -> PixelsOf:
    """Return what undoes the preprocessing that a file says it absorbed.

    Raises:
        ArtifactError: if the file does not say it.
    """
    try:
        mean, std = (_three_numbers(facts[f"qface.{fact}"]) for fact in ("mean", "std"))
        color = _COLORS[facts["qface.color"]]
    except (LookupError, ValueError, TypeError, RecursionError) as error:
        what = f"the file takes pixels and does not say which preprocessing it absorbed: {error!r}"
        raise ArtifactError(what, where=str(artifact), fix="feed it pixels yourself") from error
    return ModelSpec(artifact.name, (CROP_SIZE, CROP_SIZE), 1, mean, std, color).pixels_of


def _three_numbers(text: str) -> tuple[float, float, float]:
    first, second, third = map(float, json.loads(text))
    if not all(map(math.isfinite, (first, second, third))):
        raise ValueError(f"{text} are not three numbers")
    return first, second, third
