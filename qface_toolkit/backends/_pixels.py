"""What an ONNX file says of its input: preprocessed floats, or pixels together with the preprocessing it absorbed."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qface_toolkit.errors import ArtifactError, CheckpointError
from qface_toolkit.framing import STANDARD
from qface_toolkit.models import COLORS, Color, ModelSpec

INPUT_KEY = "qface.input"
IMAGE = "image"
"""Name of the input of files that take pixels; the others call it "input"."""
FLOATS = "float32 NCHW, (pixel - mean) / std"
PIXELS, GRAY_PIXELS = "uint8 NHWC RGB 0..255", "uint8 NHWC gray 0..255"

_COLORS: Mapping[str, Color] = {color: color for color in COLORS}

PixelsOf = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.uint8]]


def pixel_facts(spec: ModelSpec) -> dict[str, str]:
    """Return the metadata of a file that takes pixels: that it does, and the preprocessing that it absorbed."""
    absorbed = {"qface.mean": json.dumps(spec.mean), "qface.std": json.dumps(spec.std), "qface.color": spec.color}
    return absorbed | {INPUT_KEY: GRAY_PIXELS if spec.color == "gray" else PIXELS}


def read_pixels_of(facts: Mapping[str, str], artifact: Path) -> PixelsOf:
    """Return what undoes the preprocessing that a file says it absorbed.

    Raises:
        ArtifactError: if the file does not say it.
    """
    try:
        mean, std = (_finite_numbers(facts[f"qface.{fact}"]) for fact in ("mean", "std"))
        color = _COLORS[facts["qface.color"]]
        spec = ModelSpec(artifact.name, STANDARD.size, 1, mean, std, color)
    except (LookupError, ValueError, TypeError, RecursionError, CheckpointError) as error:
        what = f"the file takes pixels and does not say which preprocessing it absorbed: {error!r}"
        raise ArtifactError(what, where=str(artifact), fix="feed it pixels yourself") from error
    return spec.pixels_of


def _finite_numbers(text: str) -> tuple[float, ...]:
    numbers = tuple(map(float, json.loads(text)))
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{text} are no finite numbers")
    return numbers
