"""What an ONNX graph declares that it eats and returns: the image, whichever axis its channels are, and outputs."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from qface_toolkit.errors import CheckpointError
from qface_toolkit.models._spec import SIDES, is_size
from qface_toolkit.models.onnx.tensors import FLOAT_TYPES, Array
from qface_toolkit.untrusted.reading import printable

_Proto = Any  # onnx ships no types
_CHANNELS = (3, 1)
GIVEN_TO_THE_READER = ("input_size", "output")
"""The facts that say how to read the file, not how the network is used."""

_OF_BYTES = (
    "export with such an input, NCHW and float, or let bytes enter as floats, which a Cast leaves as they are: "
    "model = onnx.load(FILE); "
    "model.graph.input[0].type.tensor_type.elem_type = 1; onnx.save(model, 'floats.onnx'); and give mean 0 and std 1"
)
_EXAMPLE = "--set model.input_size=[112, 112]"


@dataclass(frozen=True)
class Image:
    """The input of a graph; `batch` is None where any number of images may enter."""

    name: str
    size: tuple[int, int]
    channels: int = 3
    channels_last: bool = False
    batch: int | None = None


def without_switches(values: Sequence[_Proto], read: Container[str]) -> tuple[list[_Proto], dict[str, _Proto]]:
    """Return the inputs that may be the image, and for others what to take in their place: whether this is training.

    `read` are the names of what nodes read; an input that nothing reads changes nothing.
    """
    needed = [value for value in values if value.name in read] if len(values) > 1 else list(values)
    switches = [value for value in needed if _is_switch(value.type.tensor_type)]
    no = {value.name: onnx.numpy_helper.from_array(_no(value.type.tensor_type), value.name) for value in switches}
    return [value for value in needed if value.name not in no], no


def _is_switch(kind: _Proto) -> bool:
    sizes = [dim.dim_value for dim in kind.shape.dim]
    return bool(kind.elem_type == onnx.TensorProto.BOOL and sizes in ([], [1]))


def _no(kind: _Proto) -> Array:
    return np.zeros([1] * len(kind.shape.dim), bool)


def read_image(values: Sequence[_Proto], given: Mapping[str, Any]) -> Image:
    """Return the only input of a graph; `given` are the facts that a user gives, such as a size that the file leaves.

    Raises:
        CheckpointError: if there is no such image, or its size is not known or supported.
    """
    if len(values) != 1:
        names = ", ".join(repr(printable(value.name, 40)) for value in values[:8])
        raise CheckpointError(
            f"the graph has {len(values)} inputs ({names}); a face network has one, the image",
            fix="export the network with the image as its only input",
        )
    kind = values[0].type.tensor_type
    dims = _sizes(kind) if kind.HasField("shape") else [None] * 4
    shown = [("?" if size is None else size) for size in dims[:8]]
    channels_last = is_channels_last(dims)
    sizes, channels = (dims[1:3], dims[-1:]) if channels_last else (dims[2:], dims[1:2])
    gray = 1 if given.get("color") == "gray" else 3
    count = next((size for size in channels if size is not None), gray)
    if kind.elem_type not in FLOAT_TYPES or len(dims) != 4 or count not in _CHANNELS:
        raise _no_image(values[0], shown)
    size = _size(sizes, given.get("input_size"), printable(values[0].name, 40), shown)
    return Image(values[0].name, size, count, channels_last, dims[0])


def _sizes(kind: _Proto) -> list[int | None]:
    """Return an input's sizes, None where one is a word, left out, zero or below: any is meant."""
    return [int(dim.dim_value) if dim.dim_value > 0 else None for dim in kind.shape.dim]


def is_channels_last(dims: Sequence[object]) -> bool:
    """Tell whether the channels of images are their last axis."""
    return len(dims) == 4 and dims[3] in _CHANNELS and dims[1] not in _CHANNELS


def _no_image(value: _Proto, shown: Sequence[object]) -> CheckpointError:
    bytes_enter = value.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    return CheckpointError(
        f"the input {printable(value.name, 40)!r} has the shape {list(shown)} and ONNX element type "
        f"{value.type.tensor_type.elem_type}; images enter as float [N, 3, height, width] or [N, height, width, 3], "
        f"one channel if they are gray, of {SIDES} pixels",
        fix=_OF_BYTES if bytes_enter else "export with such an input: NCHW, float, height and width as numbers",
    )


def _size(fixed: Sequence[int | None], given: object, name: str, shown: Sequence[object]) -> tuple[int, int]:  # noqa: E501 - one line of arguments
    """Return (height, width): the file's, or what is given where it leaves them open."""
    wanted = list(given) if is_size(given) else [None, None]
    if any(own is not None and want not in (None, own) for own, want in zip(fixed, wanted, strict=True)):
        raise CheckpointError(
            f"the file takes images of the shape {list(shown)} and no other, and model.input_size is {wanted}",
            fix="leave out model.input_size",
        )
    sizes = [want if own is None else own for own, want in zip(fixed, wanted, strict=True)]
    if None in sizes:
        raise CheckpointError(
            f"the input {name!r} has the shape {list(shown)}: the file leaves open how large images are",
            fix=f"give the height and width that the network was trained with: {_EXAMPLE}",
        )
    if not is_size(sizes):
        raise CheckpointError(
            f"the input {name!r} has the shape {list(shown)}; images of {SIDES} pixels are supported",
            fix="give a network that takes images of faces of that size",
        )
    return sizes[0], sizes[1]


def output_names(values: Sequence[_Proto], made: Sequence[str], wanted: object) -> tuple[str, ...]:
    """Return the outputs to look at: all of the graph's, or the one that the user names, which may stand inside.

    Raises:
        CheckpointError: if the graph has none, or nothing in it has the name wanted.
    """
    names = tuple(value.name for value in values)
    if wanted is None:
        return names
    if not isinstance(wanted, str) or wanted not in (*names, *made):
        known = ", ".join(repr(printable(name, 40)) for name in names[:8])
        raise CheckpointError(
            f"model.output is {wanted!r}, and nothing in the graph is called so", fix=f"the graph's outputs are {known}"
        )
    return (wanted,)
