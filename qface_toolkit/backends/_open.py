"""Open a file that anybody may have written, of any backend or of none, for running."""

from pathlib import Path

import onnxruntime

from qface_toolkit.backends import BACKENDS
from qface_toolkit.backends._base import Backend, Embed
from qface_toolkit.backends._onnxruntime import open_onnx
from qface_toolkit.backends._torch_archive import read_archive
from qface_toolkit.backends.torch_int8 import EXTRA_FILE
from qface_toolkit.untrusted.onnx import read_onnx


def open_untrusted(
    file: Path, threads: int, backend: Backend | None = None, limits: onnxruntime.RunOptions | None = None
) -> Embed:
    """Return what runs an .onnx file, or an archive or simulation of ours, as the backend that wrote it does, if any.

    Raises:
        QFaceError: if the file is damaged, refused or not to be trusted, or this machine cannot run it.
    """
    if file.suffix == ".ts":
        archive = read_archive(file, EXTRA_FILE)
        return BACKENDS.get(f"torch-{archive.facts['engine']}").open(file, threads, archive.data)
    if file.suffix == ".safetensors":
        return BACKENDS.get("simulation").open(file, threads)
    return open_content(file, read_onnx(file).data, threads, backend, limits)


def open_content(
    file: Path, content: bytes, threads: int, backend: Backend | None, limits: onnxruntime.RunOptions | None = None
) -> Embed:
    """Return what runs an .onnx file of which these bytes were read by `read_onnx`; see `open_untrusted`."""
    if backend is not None and backend.runtime != "onnxruntime":
        return backend.open(file, threads, content)
    signed = backend is not None and backend.engine == "arm"
    return open_onnx(file, threads, content=content, signed_allowed=signed, limits=limits)


def backend_of(name: str) -> Backend | None:
    """Return the backend whose artifacts have this file name."""
    return next((entry for entry in BACKENDS.entries().values() if entry.artifact == name), None)
