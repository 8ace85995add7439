"""Bounds for running a file that anybody may have written: where its data may lie, how much memory, how long."""

import contextlib
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnxruntime

from qface_toolkit._disk import disk_errors
from qface_toolkit.errors import ArtifactError, QFaceError
from qface_toolkit.models._onnx_wire import check_wire

LARGEST_BYTES = 1 << 30
MOST_NODES = 20_000
MEMORY_BYTES = 4 << 30
LONGEST_RUN_S = 60.0


def read_onnx(path: Path) -> onnx.ModelProto:
    """Return the model in a file with all its data inside, external data from beside the file included.

    Raises:
        QFaceError: if the file is missing, too large, damaged, or wants data from outside its folder.
    """
    with disk_errors(path):
        if not path.is_file():
            raise ArtifactError("there is no such file", where=str(path), fix="check the path")
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            raise ArtifactError(f"the file has {size} bytes, more than any face network", where=str(path))
        data = path.read_bytes()
    try:
        check_wire(data)
        model: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except QFaceError as error:
        raise type(error)(error.what, where=str(path), fix=error.fix) from error
    if len(model.graph.node) > MOST_NODES:
        raise ArtifactError(f"the graph has {len(model.graph.node)} nodes, more than any face network", where=str(path))
    _load_external(model, path, size)
    return model


def _load_external(model: onnx.ModelProto, path: Path, size: int) -> None:
    """Read tensors that stand in other files, once it is sure that these lie in the same folder."""
    external = [tensor for tensor in stored_tensors(model) if tensor.data_location == onnx.TensorProto.EXTERNAL]
    for tensor in external:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        size += _external_bytes(path, entries.get("location", ""), entries.get("length"))
        if size > LARGEST_BYTES:
            raise ArtifactError(f"its external data has more than {LARGEST_BYTES} bytes", where=str(path))
    try:
        for tensor in external:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ArtifactError(f"its external data cannot be read: {error}", where=str(path)) from error


def stored_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors of a model that may stand in other files, where they are checked and read."""
    yield from model.graph.initializer
    for attribute in (attribute for node in model.graph.node for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)


def _external_bytes(path: Path, location: str, length: str | None) -> int:
    """Return how many bytes a tensor takes from a file beside the model."""
    folder = path.parent.resolve()
    with contextlib.suppress(OSError, ValueError):
        file = (folder / location).resolve()
        if location and folder in file.parents and file.is_file():
            return min(int(length), file.stat().st_size) if length is not None else file.stat().st_size
    what = f"its external data {location[:80]!r} is not a file in the model's folder"
    raise ArtifactError(what, where=str(path), fix="put the data file beside the model; nothing else is read")


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
