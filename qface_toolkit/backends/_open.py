"""Open a file that anybody may have written, of any backend or of none, for running."""

from pathlib import Path

import onnxruntime

from qface_toolkit.backends import BACKENDS
from qface_toolkit.backends._base import Backend, Embed
from qface_toolkit.backends._onnxruntime import open_onnx
from qface_toolkit.backends._torch_archive import engine_of
from qface_toolkit.backends._untrusted import read_onnx
from qface_toolkit.backends.torch_int8 import EXTRA_FILE


def open_untrusted(
    file: Path, threads: int, backend: Backend | None = None, limits: onnxruntime.RunOptions | None = None
) -> Embed:
    """Return what runs an .onnx file, or an archive or simulation of ours, as the backend that wrote it does, if any.

    Raises:
        QFaceError: if the file is damaged, refused or not to be trusted, or this machine cannot run it.
    """
    if file.suffix == ".ts":
        return BACKENDS.get(f"torch-{engine_of(file, EXTRA_FILE)}").open(file, threads)
    if file.suffix == ".safetensors":
        return BACKENDS.get("simulation").open(file, threads)
    read_onnx(file)
    if backend is not None and backend.runtime != "onnxruntime":
        return backend.open(file, threads)
    signed = backend is not None and backend.engine == "arm"
    return open_onnx(file, threads, signed_allowed=signed, limits=limits)


def backend_of(name: str) -> Backend | None:
    """Return the backend whose artifacts have this file name."""
    return next((entry for entry in BACKENDS.entries().values() if entry.artifact == name), None)
