"""The integer constants of a convolution or linear layer, as small as they can be stored."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from qface_toolkit.backends.onnx_qdq._builder import GraphBuilder
from qface_toolkit.integer.program import Constants, Window
from qface_toolkit.quantize.scheme import SMALLEST_SCALE


@dataclass(frozen=True)
class StoredLayer:
    """The names of a layer's codes and scales in the graph: weight int8, bias int32, one scale a channel each.

    `extra_inputs` is how many input channels of zero weights the codes have beyond the layer's own. `matrix` tells a
    linear layer's weight from a convolution's.
    """

    weight_codes: str
    weight_scales: str
    bias_codes: str
    bias_scales: str
    channels: int
    extra_inputs: int
    matrix: bool = False


def stored(graph: GraphBuilder, layer: Constants, extra_inputs: int = 0, window: Window = Window()) -> StoredLayer:  # noqa: B008 - a value
    """Store a layer's constants. The bias scale is made in the graph: the runtime folds the product at load."""
    scales = graph.constant(layer.scales, np.float32)
    wider = ((0, 0), (0, extra_inputs)) + ((0, 0),) * (layer.codes.ndim - 2)
    codes = graph.constant(np.pad(layer.codes, wider), np.int8)
    return StoredLayer(
        weight_codes=spread(graph, codes, window, layer.codes.shape, TensorProto.INT32, TensorProto.INT8),
        weight_scales=scales,
        bias_codes=graph.constant(layer.bias_codes, np.int32),
        bias_scales=_times_input_scale(graph, scales, layer.input_scale),
        channels=len(layer.codes),
        extra_inputs=extra_inputs,
        matrix=layer.codes.ndim == 2,
    )


def spread(graph: GraphBuilder, weight: str, window: Window, shape: tuple[int, ...], wide: int, dtype: int) -> str:
    """Return a weight whose groups are written together: zeros for the other groups' channels, made in the graph.

    `wide` is the type that is multiplied in, `dtype` the weight's. The file grows by a few numbers, and the runtime
    folds it all at load.
    """
    if window.together == 1:
        return weight
    outputs, inputs = shape[:2]
    own = np.arange(outputs) // (outputs // window.groups) % window.together
    places = np.arange(window.together * inputs) // inputs
    tiled = graph.node("Tile", [weight, graph.constant([1, window.together, 1, 1], np.int64)])
    mine = graph.node(
        "Equal",
        [graph.constant(own.reshape(-1, 1, 1, 1), np.int32), graph.constant(places.reshape(1, -1, 1, 1), np.int32)],
    )
    numbers = tiled if wide == dtype else graph.node("Cast", [tiled], to=wide)
    product = graph.node("Mul", [numbers, graph.node("Cast", [mine], to=wide)])
    return product if wide == dtype else graph.node("Cast", [product], to=dtype)


def scaled(
    graph: GraphBuilder, layer: StoredLayer, slopes: npt.NDArray[np.float32], input_scale: np.float32
) -> StoredLayer:
    """Return the constants of the same layer with each output channel multiplied by its slope.

    These are program.Twin's, made in the graph. Nothing is stored but the slopes: the codes of a*W are the codes of W,
    negated where a < 0, under |a| times the scale. The operators that say so have constant inputs, so the runtime folds
    them at load.
    """
    stored = graph.constant(slopes + np.float32(0), np.float32)  # a zero loses its sign, which says nothing here
    signs = graph.node("Cast", [graph.node("Sign", [stored])], to=TensorProto.INT32)
    smallest = graph.constant(SMALLEST_SCALE, np.float32)
    product = graph.node("Mul", [layer.weight_scales, graph.node("Abs", [stored])])
    scales = graph.node("Max", [product, smallest])
    by_channel = graph.node("Reshape", [signs, graph.constant([-1, 1, 1, 1], np.int64)])
    wide = graph.node("Cast", [layer.weight_codes], to=TensorProto.INT32)
    return StoredLayer(
        weight_codes=graph.node("Cast", [graph.node("Mul", [wide, by_channel])], to=TensorProto.INT8),
        weight_scales=scales,
        bias_codes=graph.node("Mul", [layer.bias_codes, signs]),
        bias_scales=_times_input_scale(graph, scales, input_scale),
        channels=layer.channels,
        extra_inputs=layer.extra_inputs,
    )


def diagonal(codes: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Return the weights [C, C, 1, 1] of the full convolution that computes a 1x1 depthwise one, [C, 1, 1, 1]."""
    full: npt.NDArray[np.int8] = np.diag(codes.reshape(-1))[:, :, None, None]
    return full


def _times_input_scale(graph: GraphBuilder, scales: str, input_scale: np.float32) -> str:
    """Return scales * input_scale: to the bit what the runtime multiplies, or it would leave the layer in float."""
    return graph.node("Mul", [scales, graph.constant(input_scale, np.float32)])


def dequantized(graph: GraphBuilder, layer: StoredLayer) -> tuple[str, str]:
    """Return the float names of a layer's weight and bias.

    A zero point of zero may be left out, but ONNX Runtime makes no QGemm of a matrix without one.
    """
    zeros = [graph.constant(np.zeros(layer.channels), np.int8)] if layer.matrix else []
    weight = graph.node("DequantizeLinear", [layer.weight_codes, layer.weight_scales, *zeros], axis=0)
    bias = graph.node("DequantizeLinear", [layer.bias_codes, layer.bias_scales], axis=0)
    return weight, bias
