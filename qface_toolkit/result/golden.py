"""Golden vectors: a few images and what each file must make of them, so that any machine can tell whether it does."""

import io
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qface_toolkit.backends import BACKENDS, Backend
from qface_toolkit.environment import machine_here
from qface_toolkit.errors import ArtifactError
from qface_toolkit.framing import STANDARD, Frame
from qface_toolkit.models import FloatModel
from qface_toolkit.quantize.model import embed
from qface_toolkit.result.made import Arrays, Floats, Made, elsewhere
from qface_toolkit.sources import Crop, draw
from qface_toolkit.untrusted.reading import read_file, stored_records

HELD_OUT = "drawings-heldout"
GOLDEN_IMAGES = 8

LARGEST_GOLDEN_BYTES = 1 << 26
MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    re.escape(MAGIC) + rb"(..)\{'descr': '(<f4|\|u1)', 'fortran_order': False, 'shape': \(([\d, ]{1,80})\), \} *\n",
    re.DOTALL,
)
"""Of the two kinds of arrays in golden vectors; numpy's own reader hands headers to the parser of Python."""
INPUTS, FLOAT, IMAGE = "inputs", "float", "image"


def held_out(count: int, frame: Frame = STANDARD) -> Crop:
    """Return drawings that nothing was calibrated or trained on, in a frame, uint8 [count, H, W, 3]."""
    return draw(HELD_OUT, count, frame)


def golden_vectors(source: FloatModel, made: Made, backends: Sequence[str]) -> bytes:
    """Return golden.npz: "inputs" [8, C, H, W], "float" and, for each artifact, the embeddings that it must give.

    They come from the simulation of its arithmetic alone, before any runtime runs (see Made.golden for the names).
    Where files take pixels, "image" uint8 [8, H, W, C] holds those of the inputs.
    """
    inputs = source.spec.preprocess(held_out(GOLDEN_IMAGES, source.spec.frame))
    arrays: Arrays = {"inputs": inputs, "float": embed(source.network, inputs)}
    for name in backends:
        arrays |= made.golden(BACKENDS.get(name), inputs)
    return _npz(arrays)


def with_artifact(golden: Path, made: Made, artifact: str, backend: Backend) -> bytes:
    """Return golden.npz with what one more artifact of a backend must give, whatever it is called.

    What it said of a file of that name is replaced.

    Raises:
        ArtifactError: if the file is damaged.
    """
    arrays = read_golden(golden)
    expected = made.golden(backend, arrays[INPUTS])
    return _npz(arrays | {_called(name, backend.artifact, artifact): one for name, one in expected.items()})


def _called(name: str, artifact: str, new: str) -> str:
    """Return the name of golden vectors of an artifact that is called something else."""
    return name.replace(artifact, new, 1) if name.startswith(artifact) else name


def _npz(arrays: Mapping[str, npt.NDArray[np.generic]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # newer stubs see allow_pickle among the arrays' names
    return buffer.getvalue()


def golden_of(golden: Mapping[str, Floats], name: str) -> Floats:
    """Return what an artifact that the vectors know must give on this machine.

    Vectors that were written before ARM's arithmetic was followed have one array an artifact.
    """
    return golden.get(elsewhere(name, machine_here()), golden[name])


def read_golden(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the golden vectors: "inputs" [N, C, height, width], "float" and each artifact's embeddings [N, D].

    Where files take pixels, "image" uint8 [N, height, width, 3] is there too. The file may come from anybody.

    Raises:
        ArtifactError: if the file is damaged, too large or holds anything but finite float32 arrays of N images.
    """
    try:
        data = read_file(path, 2 * LARGEST_GOLDEN_BYTES, noun="file of golden vectors")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            records = stored_records(archive, LARGEST_GOLDEN_BYTES)
            arrays = {record.filename.removesuffix(".npy"): _array(archive, record) for record in records}
        _check_golden({name: array for name, array in arrays.items() if name != IMAGE})
        if IMAGE in arrays and arrays[IMAGE].dtype != np.uint8:
            raise ValueError(f"pixels of type {arrays[IMAGE].dtype}")
    except (zipfile.BadZipFile, ValueError, TypeError, EOFError, RuntimeError) as error:
        what = f"these golden vectors cannot be used: {str(error)[:200]}"
        raise ArtifactError(what, where=str(path), fix="copy the folder again, or make it again") from error
    return arrays


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """Return an array as numpy.save writes it, once it is sure that its header tells the truth about its size."""
    data = archive.read(entry)
    header = _HEADER.match(data)
    if header is None or header.end() != len(MAGIC) + 2 + int.from_bytes(header[1], "little"):
        raise ValueError(f"{entry.filename} is no array of float32 or uint8")
    shape, dtype = [int(number) for number in re.findall(rb"\d+", header[3])], np.dtype(header[2].decode())
    if math.prod(shape) * dtype.itemsize != len(data) - header.end():
        raise ValueError(f"{entry.filename} is not as large as it says")
    return np.frombuffer(data, dtype, offset=header.end()).reshape(shape).copy()


def _check_golden(arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    if missing := {INPUTS, FLOAT} - arrays.keys():
        raise ValueError(f"no {' and no '.join(sorted(missing))}")
    count = len(arrays[FLOAT])
    for name, array in arrays.items():
        axes = 4 if name == INPUTS else 2
        if array.dtype != np.float32 or array.ndim != axes or len(array) != count or array.size == 0:
            raise ValueError(f"{name} is {array.dtype} {list(array.shape)[:8]}")
        if not np.isfinite(array).all() or not array.reshape(count, -1).any(axis=1).all():
            raise ValueError(f"{name} holds rows of zeros, or no numbers")
