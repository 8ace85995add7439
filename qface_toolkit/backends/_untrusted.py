"""Bounds for running a file that anybody may have written: where its data may lie, how much memory, how long."""

import contextlib
import hashlib
import resource
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime

from qface_toolkit._reading import read_file
from qface_toolkit.errors import ArtifactError, QFaceError
from qface_toolkit.models._onnx_read import decoded
from qface_toolkit.models._onnx_tensors import place_of, read_beside, sha256_beside

LARGEST_BYTES = 1 << 30
MOST_NODES = 20_000
MEMORY_BYTES = 4 << 30
LONGEST_RUN_S = 60.0


@dataclass(frozen=True)
class OnnxContent:
    """A model with all its data inside, parsed and as bytes, and the SHA-256 of the files that it was read from.

    Whoever looked at one of the two runs the other, and not what the path leads to by then.
    """

    model: onnx.ModelProto
    data: bytes
    sha256: str


def read_onnx(path: Path) -> OnnxContent:
    """Return the model in a file, external data from beside the file included.

    Raises:
        QFaceError: if the file is missing, too large, damaged, or wants data from outside its folder.
    """
    data = read_file(path, LARGEST_BYTES, noun="model", fix="check the path")
    try:
        model = decoded(data)
        if len(model.graph.node) > MOST_NODES:
            raise ArtifactError(f"the graph has {len(model.graph.node)} nodes, more than any face network")
        beside = _take_in(model, path.parent, LARGEST_BYTES - len(data))
        hashes = [hashlib.sha256(data).hexdigest(), *(sha256_beside(path.parent, name) for name in beside)]
    except QFaceError as error:
        raise type(error)(error.what, where=str(path), fix=error.fix or "give another model") from error
    if not beside:
        return OnnxContent(model, data, hashes[0])
    return OnnxContent(model, model.SerializeToString(), hashlib.sha256("".join(hashes).encode()).hexdigest())


def _take_in(model: onnx.ModelProto, folder: Path, left: int) -> list[str]:
    """Read tensors that stand in other files of the folder, `left` bytes at most, and return those files' names."""
    names: set[str] = set()
    for tensor in stored_tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        place = place_of(tensor)
        names.add(place.location)
        tensor.raw_data = read_beside(folder, place, left)
        left -= len(tensor.raw_data)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    return sorted(names)


def stored_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors of a model that may stand in other files."""
    yield from model.graph.initializer
    for attribute in (attribute for node in model.graph.node for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)


@contextlib.contextmanager
def limited_memory(path: Path, extra_bytes: int = MEMORY_BYTES) -> Iterator[None]:
    """Let the block have this much more memory; asking for more is an ArtifactError and not the end of the machine."""
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    wanted = pages * resource.getpagesize() + extra_bytes
    lowest = min(limit for limit in (wanted, before, hard) if limit != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_AS, (lowest, hard))
    try:
        yield
    except MemoryError as error:
        what = f"it wants more than {extra_bytes >> 30} GiB of memory"
        raise ArtifactError(what, where=str(path), fix="no face network does; do not trust the file") from error
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


@contextlib.contextmanager
def limited_time() -> Iterator[onnxruntime.RunOptions]:
    """Give options under which runs end after LONGEST_RUN_S, with an error of the runtime's."""
    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    timer = threading.Timer(LONGEST_RUN_S, _end, [options])
    timer.start()
    try:
        yield options
    finally:
        timer.cancel()


def _end(options: onnxruntime.RunOptions) -> None:
    options.terminate = True
