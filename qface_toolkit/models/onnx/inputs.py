"""How an operator's handler reads its inputs: what may be left out, images, vectors, single numbers."""

from collections.abc import Callable, Sequence

from qface_toolkit.errors import CheckpointError, UnsupportedModel
from qface_toolkit.models.onnx.graph import Network
from qface_toolkit.models.onnx.reading import OnnxNode
from qface_toolkit.models.onnx.tensors import Array
from qface_toolkit.models.onnx.views import Activation, Value, activation, constant

Inputs = Sequence[Value | None]
Handler = Callable[[Network, OnnxNode, Inputs], Value | tuple[Value, ...]]

BATCH_MOVES = "it moves, cuts or joins the batch axis, so the network would not take any number of images"
BATCH_FIX = "export it for a single image, without dynamic axes; any number of images is made of that"


def batch_error() -> UnsupportedModel:
    """Return the error for what would mix images."""
    return UnsupportedModel(BATCH_MOVES, fix=BATCH_FIX)


def at(inputs: Inputs, place: int) -> Value | None:
    """Return an input, None where an optional one is left out."""
    return inputs[place] if place < len(inputs) else None


def read(inputs: Inputs, place: int = 0) -> Activation:
    """Return an input that is computed from the image."""
    return activation(at(inputs, place))


def images_first(network: Network, x: Activation) -> Activation:
    """Return a tensor with the axis of images in front, in order; a file for one image may have it elsewhere.

    Raises:
        UnsupportedModel: if images are mixed with something else.
    """
    if x.place is None and x.shape[:1] == (1,):
        x = network.reshaped(x, x.shape[1:])
    if not x.plain:
        raise batch_error()
    return network.settled(x)


def image(network: Network, value: Value | None) -> Activation:
    """Return a value that is an image [N, C, H, W], axes in order."""
    x = activation(value)
    if len(x.dims) != 4:
        raise UnsupportedModel(f"it reads a tensor of {len(x.dims)} axes, not images [N, C, H, W]")
    return images_first(network, x)


def vector(values: Array, size: int, what: str) -> Array:
    """Return a constant that must have one number for each of `size`."""
    if values.shape != (size,):
        raise CheckpointError(f"its {what} has the shape {list(values.shape)} instead of [{size}]")
    return values


def number(value: Value | None, what: str) -> float:
    """Return a constant that must be one number."""
    return float(constant(value, what).reshape(()))


def inner_axes(x: Activation, axes: Sequence[int]) -> tuple[int, ...]:
    """Return the FX node's axes of ONNX axes, none of which may be that of images.

    Raises:
        UnsupportedModel: if one is, so that images would be mixed.
    """
    found = tuple(x.axis(axis) for axis in axes)
    if 0 in found:
        raise batch_error()
    return found
