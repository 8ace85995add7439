"""The one reader of ONNX files: from bytes that are not trusted to a message with all its data inside.

What the file takes in memory is known before protobuf parses it, and data may lie in plain files beside it and nowhere
else.
"""

import functools
import hashlib
import io
import math
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no type information

from qface_toolkit.errors import CheckpointError, QFaceError
from qface_toolkit.untrusted._wire import check_names, check_wire, damaged
from qface_toolkit.untrusted.reading import as_text, is_pointer, read_file

LARGEST_BYTES = 1 << 30
"""Of the file, and of all that its tensors take from files beside it."""
_MOST_NODES = 20_000
_MOST_AXES = 8
_MANY = "more than any face network"
_ELEMENT_BYTES: Mapping[int, int] = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 16: 2}
"""ONNX element type -> the bytes of one, for the types that networks of whole and floating numbers have."""


@dataclass(frozen=True)
class OnnxContent:
    """A model with all its data inside, and of the files that it was read from: their bytes' SHA-256 and number.

    The hash is over the file itself and then those beside it, in the order of their names. Whoever looked at the model
    runs `data`, and not what the path leads to by then.
    """

    model: onnx.ModelProto
    sha256: str
    size_bytes: int
    _file: bytes | None

    @functools.cached_property
    def data(self) -> bytes:
        """The model as the bytes of one file."""
        whole: bytes = self.model.SerializeToString() if self._file is None else self._file
        return whole


def read_onnx(path: Path) -> OnnxContent:
    """Return the model in a file of at most LARGEST_BYTES, external data from beside the file included.

    Raises:
        QFaceError: if the file is missing, too large, damaged, or wants data from outside its folder.
    """
    data = read_file(path, LARGEST_BYTES, noun="model", fix="check the path")
    try:
        return read_content(io.BytesIO(data), path.parent)
    except QFaceError as error:
        raise type(error)(error.what, where=str(path), fix=error.fix or "give another model") from error


def read_content(stream: BinaryIO, folder: Path) -> OnnxContent:
    """Return the model in an open file that stands in this folder; see `read_onnx`.

    Raises:
        CheckpointError: if the file is too large, damaged, or wants data from outside the folder.
    """
    large = stream.seek(0, io.SEEK_END) > LARGEST_BYTES
    stream.seek(0)
    data = b"" if large else stream.read(LARGEST_BYTES + 1)
    if large or len(data) > LARGEST_BYTES:
        what = f"the ONNX file has more than {LARGEST_BYTES} bytes, {_MANY}"
        raise CheckpointError(what, fix="give the float network alone")
    model = _decode(data)
    beside = _Beside(folder, LARGEST_BYTES - len(data))
    _take_in(model, beside)
    digest, size = hashlib.sha256(data), len(data)
    for _, content in sorted(beside.contents.items()):
        digest.update(content)
        size += len(content)
    return OnnxContent(model, digest.hexdigest(), size, None if beside.contents else data)


def _decode(data: bytes) -> onnx.ModelProto:
    """Return the bytes of an ONNX file as a message that holds a graph, once it is known what it takes in memory.

    Raises:
        CheckpointError: if they are damaged, no ONNX file, or hold more than any face network's file.
    """
    check_wire(data)
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise damaged("protobuf cannot read it") from error
    if not model.graph.node or not model.graph.output:
        raise damaged("it holds no graph")
    if len(model.graph.node) > _MOST_NODES:
        what = f"the graph has {len(model.graph.node)} nodes, {_MANY}"
        raise CheckpointError(what, fix="export the network's inference alone, as one flat graph")
    check_names(model)
    return model


def _take_in(model: onnx.ModelProto, beside: "_Beside") -> None:
    """Give the tensors that stand in other files their bytes."""
    for tensor in _stored_tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.raw_data = beside.part(*_place_of(tensor))
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]


def _stored_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors of a model that may stand in other files."""
    yield from model.graph.initializer
    for attribute in (attribute for node in model.graph.node for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)


def _place_of(tensor: Any) -> tuple[str, int, int | None]:  # noqa: ANN401 - onnx ships no types
    """Return in which file, from where on and over how many bytes a tensor says it stands; None is all the rest."""
    entries = {as_text(entry.key): as_text(entry.value) for entry in tensor.external_data}
    length = None
    if "length" in entries:
        length = _whole(entries["length"])
    elif tensor.data_type in _ELEMENT_BYTES:
        length = max(0, math.prod(tensor.dims[:_MOST_AXES]) * _ELEMENT_BYTES[tensor.data_type])
    return entries.get("location", ""), _whole(entries.get("offset", "0")), length


def _whole(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise CheckpointError(f"a tensor's place in a file beside the ONNX file is given as {ascii(text[:40])}")
    return int(text)


class _Beside:
    """The files beside an ONNX file, of `most` bytes in all, of which tensors take as many again at most.

    Each is read once, so that what is hashed is what the tensors are given.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self.contents: dict[str, bytes] = {}
        self._folder = folder
        self._room = self._left = most

    def part(self, location: str, offset: int, length: int | None) -> bytes:
        """Return bytes of a file.

        Raises:
            CheckpointError: if there is no such file, or it holds less, or all came to too much.
        """
        if (length or 0) > self._left:
            raise _too_much()
        if location not in self.contents:
            self.contents[location] = self._read(location)
        held = len(self.contents[location])
        end = max(offset, held) if length is None else offset + length
        if end > held:
            what = f"a tensor claims bytes {offset}..{end} of {location!r}, which has {held}"
            raise CheckpointError(what, fix="copy or download both files again")
        self._left -= end - offset
        if self._left < 0:
            raise _too_much()
        return self.contents[location][offset:end]

    def _read(self, location: str) -> bytes:
        with os.fdopen(_open_beside(self._folder, location), "rb") as stream:
            content = stream.read(self._room + 1)
        if is_pointer(content):
            what = f"{location!r} beside the ONNX file, where its weights should be, is a pointer of Git LFS"
            raise CheckpointError(what, fix="run `git lfs pull` in its checkout, or download that file, too")
        self._room -= len(content)
        if self._room < 0:
            raise _too_much()
        return content


def _too_much() -> CheckpointError:
    return CheckpointError(f"the weights beside the file come to more than {LARGEST_BYTES} bytes")


def _open_beside(folder: Path, location: str) -> int:
    """Open a regular file of the folder, never through a link or a path."""
    plain = 0 < len(location) < 256 and location.isprintable() and location not in (".", "..")
    if not plain or any(sign in location for sign in "/\\:"):
        raise CheckpointError(
            f"a tensor's bytes are said to stand in {ascii(location[:80])}, which is no plain file name",
            fix="put the weights into the ONNX file, or into a file beside it",
        )
    path = folder / location
    if path.is_symlink() or not path.is_file():
        raise CheckpointError(
            f"a tensor's bytes should stand in {location!r} beside the ONNX file, where no such file is, or a link",
            fix="copy or download both files themselves into one folder",
        )
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        what = f"the weights in {location!r} beside the ONNX file cannot be read: {error.strerror}"
        raise CheckpointError(what, fix="let the user that runs the command read it") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CheckpointError(f"{location!r} beside the ONNX file is no plain file", fix="put the weights there")
    return descriptor
