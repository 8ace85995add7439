"""Golden vectors: a few images and what each file must make of them, so that any machine can tell whether it does."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qface_toolkit.backends import BACKENDS
from qface_toolkit.errors import ArtifactError
from qface_toolkit.models import FloatModel
from qface_toolkit.quantize.image_input import embed_as_deployed, takes_pixels
from qface_toolkit.quantize.model import QuantizedModel, embed
from qface_toolkit.quantize.plan import Target
from qface_toolkit.sources import Crop
from qface_toolkit.sources._sets import find_set

GOLDEN = "golden.npz"
HELD_OUT = "drawings-heldout"
GOLDEN_IMAGES = 8

Arrays = dict[str, npt.NDArray[np.generic]]


def held_out(count: int) -> Crop:
    """Return drawings that nothing was calibrated or trained on, uint8 [count, 112, 112, 3]."""
    images = find_set(HELD_OUT).open(count=count)
    return np.stack([images.crop(index) for index in range(count)])


def golden_vectors(source: FloatModel, model: QuantizedModel, backends: Sequence[str]) -> bytes:
    """Return golden.npz: "inputs" [8, 3, H, W], "float" and, for each artifact, the embeddings that it must give.

    Where files take pixels, "image" uint8 [8, H, W, 3] holds those of the inputs.
    """
    inputs = source.spec.preprocess(held_out(GOLDEN_IMAGES))
    arrays: Arrays = {"inputs": inputs, "float": embed(source.network, inputs)}
    for name in backends:
        backend = BACKENDS.get(name)
        arrays |= _expected(model, backend.artifact, backend.target, inputs)
    return _npz(arrays)


def with_artifact(golden: Path, model: QuantizedModel, artifact: str, target: Target) -> bytes:
    """Return golden.npz with what one more artifact must give; what it said of a file of that name is replaced.

    Raises:
        ArtifactError: if the file is damaged.
    """
    try:
        with np.load(golden, allow_pickle=False) as stored:
            arrays: Arrays = dict(stored)
        return _npz(arrays | _expected(model, artifact, target, arrays["inputs"].astype(np.float32)))
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile) as error:
        what = f"this file of golden vectors cannot be used: {error}"
        raise ArtifactError(what, where=str(golden), fix="compress again") from error


def _expected(model: QuantizedModel, artifact: str, target: Target, inputs: npt.NDArray[np.float32]) -> Arrays:
    arrays: Arrays = {artifact: embed_as_deployed(model, target, inputs)}
    return arrays | {"image": model.spec.pixels_of(inputs)} if takes_pixels(model, target) else arrays


def _npz(arrays: Mapping[str, npt.NDArray[np.generic]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # newer stubs see allow_pickle among the arrays' names
    return buffer.getvalue()
