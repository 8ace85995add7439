"""Golden vectors: a few images and what each file must make of them, so that any machine can tell whether it does."""

import contextlib
import copy
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from qface_toolkit import verifier
from qface_toolkit.backends import BACKENDS, Backend
from qface_toolkit.environment import machine_here
from qface_toolkit.errors import ArtifactError
from qface_toolkit.framing import STANDARD, Frame
from qface_toolkit.models import FloatModel
from qface_toolkit.quantize.model import embed
from qface_toolkit.result.made import Arrays, Floats, Made
from qface_toolkit.sources import Crop, draw
from qface_toolkit.untrusted.reading import read_file
from qface_toolkit.verifier import DOUBLE, FLOAT, INPUTS, LARGEST_GOLDEN, read_arrays, row_of

HELD_OUT = "drawings-heldout"
GOLDEN_IMAGES = 8


def held_out(count: int, frame: Frame = STANDARD) -> Crop:
    """Return drawings that nothing was calibrated or trained on, in a frame, uint8 [count, H, W, 3]."""
    return draw(HELD_OUT, count, frame)


def golden_vectors(source: FloatModel, made: Made, backends: Sequence[str]) -> bytes:
    """Return golden.npz: the inputs, what the float model makes of them and, for each artifact, what it must.

    That comes from the simulation of its arithmetic alone, before any runtime runs (see Made.golden for the names).
    """
    inputs = source.spec.preprocess(held_out(GOLDEN_IMAGES, source.spec.frame))
    arrays: Arrays = {INPUTS: inputs, FLOAT: embed(source.network, inputs), **_in_double(source.network, inputs)}
    for name in backends:
        arrays |= made.golden(BACKENDS.get(name), inputs)
    return _npz(arrays)


def _in_double(network: nn.Module, inputs: Floats) -> Arrays:
    """Return what the float model gives in double precision, unless some of it insists on single."""
    with contextlib.suppress(RuntimeError):
        return {DOUBLE: embed(copy.deepcopy(network).double(), inputs.astype(np.float64)).astype(np.float32)}
    return {}


def with_artifact(golden: Path, made: Made, artifact: str, backend: Backend) -> bytes:
    """Return golden.npz with what one more artifact of a backend must give, whatever it is called.

    What it said of a file of that name is replaced.

    Raises:
        ArtifactError: if the file is damaged.
    """
    arrays = read_golden(golden)
    expected = made.golden(backend, arrays[INPUTS])
    return _npz(arrays | {_called(name, backend.artifact, artifact): one for name, one in expected.items()})


def verifier_source() -> bytes:
    """Return the program that judges files by golden vectors of this version, as it lies in the package."""
    return Path(verifier.__file__).read_bytes()


def _called(name: str, artifact: str, new: str) -> str:
    """Return the name of golden vectors of an artifact that is called something else."""
    return name.replace(artifact, new, 1) if name.startswith(artifact) else name


def _npz(arrays: Mapping[str, npt.NDArray[np.generic]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # newer stubs see allow_pickle among the arrays' names
    return buffer.getvalue()


def golden_of(golden: Mapping[str, Floats], name: str) -> Floats:
    """Return what an artifact that the vectors know must give on this machine."""
    return golden[row_of(golden, name, machine_here())]


def read_golden(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return golden vectors (see verifier.read_arrays); the file may come from anybody.

    Raises:
        ArtifactError: if the file is damaged, too large or holds anything else.
    """
    try:
        return read_arrays(read_file(path, 2 * LARGEST_GOLDEN, noun="file of golden vectors"))
    except ValueError as error:
        what = f"these golden vectors cannot be used: {str(error)[:200]}"
        raise ArtifactError(what, where=str(path), fix="copy the folder again, or make it again") from error
