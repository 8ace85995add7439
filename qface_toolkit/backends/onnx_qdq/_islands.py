"""Islands and moves (see canonical.islands) as ONNX operators of the opset that is written, which older runtimes know.

Where ONNX Runtime has one kernel for several operators, they are spelled as it looks for them: GELU with erf, and the
normalisation of a last axis.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from qface_toolkit.backends.onnx_qdq._builder import GraphBuilder
from qface_toolkit.integer import program as ops

Printing = Callable[..., str]
"""Prints an operation of a module on the names of what it reads, and returns the name of its output."""


def _constant(graph: GraphBuilder, value: Any) -> str:  # noqa: ANN401 - a number or a tensor
    held = value.numpy() if isinstance(value, torch.Tensor) else value
    return graph.constant(held, np.float32)


def _numbers(graph: GraphBuilder, values: Any) -> str:  # noqa: ANN401 - whole numbers
    return graph.constant(list(values), np.int64)


def _plain(operator: str, *options: str, **fixed: float) -> Printing:
    """Return what prints one operator on what is read and the constants behind it."""

    def printed(graph: GraphBuilder, read: list[str], module: Any) -> str:  # noqa: ANN401 - an island
        constants = [_constant(graph, constant) for constant in module.constants]
        attributes = {name: module.options[name] for name in options}
        return graph.node(operator, [*read, *constants], **attributes, **fixed)

    return printed


def _softplus(graph: GraphBuilder, read: list[str], module: Any) -> str:  # noqa: ANN401 - an island
    beta = float(module.options.get("beta", 1.0))
    if beta == 1:
        return graph.node("Softplus", read)
    steep = graph.node("Softplus", [graph.node("Mul", [read[0], _constant(graph, beta)])])
    return graph.node("Div", [steep, _constant(graph, beta)])


def _gelu(graph: GraphBuilder, read: list[str], module: Any) -> str:  # noqa: ANN401 - an island
    return graph.node("Gelu", read, approximate=module.options["approximate"])


def _elu(graph: GraphBuilder, read: list[str], module: Any) -> str:  # noqa: ANN401 - an island
    return graph.node("Elu", read, alpha=float(module.options["alpha"]))


_POWERS: Mapping[float, tuple[str, ...]] = {0.5: ("Sqrt",), -0.5: ("Sqrt", "Reciprocal"), -1.0: ("Reciprocal",)}


def _power(graph: GraphBuilder, read: list[str], module: Any) -> str:  # noqa: ANN401 - an island
    exponent, value = float(module.options["exponent"]), read[0]
    if exponent == 2:
        return graph.node("Mul", [value, value])
    for operator in _POWERS.get(exponent, ()):
        value = graph.node(operator, [value])
    return value if exponent in _POWERS else graph.node("Pow", [value, _constant(graph, exponent)])


def _clip(graph: GraphBuilder, read: list[str], module: Any) -> str:  # noqa: ANN401 - an island
    low, high = (module.options[end] for end in ("low", "high"))
    bounds = ["" if bound is None else _constant(graph, bound) for bound in (low, high)]
    return graph.node("Clip", [*read, *(bounds if high is not None else bounds[:1])])


def _scaled(graph: GraphBuilder, read: list[str], module: Any) -> str:  # noqa: ANN401 - an island
    scale, shift = module.constants
    product = graph.node("Mul", [read[0], _constant(graph, scale)])
    return graph.node("Add", [product, _constant(graph, shift)]) if bool(shift.any()) else product


def _layer_norm(graph: GraphBuilder, read: list[str], module: Any) -> str:  # noqa: ANN401 - an island
    """Print one operator over the last axes; what is normalised over others is turned before and behind."""
    axes, (entering, scale, shift) = list(module.options["axes"]), module.constants
    rank, value = scale.dim(), _entering(graph, read[0], entering)
    if scale.numel() != math.prod(scale.shape[axis] for axis in axes) or any(scale.shape[axis] == 1 for axis in axes):
        return _spelled_norm(graph, value, module)
    order = [axis for axis in range(rank) if axis not in axes] + axes
    turned = order != list(range(rank))
    if turned:
        value = graph.node("Transpose", [value], perm=order)
    constants = [_constant(graph, part.permute(order).flatten(0, rank - len(axes))) for part in (scale, shift)]
    normed = graph.node(
        "LayerNormalization", [value, *constants], axis=-len(axes), epsilon=float(module.options["eps"])
    )
    return graph.node("Transpose", [normed], perm=[order.index(axis) for axis in range(rank)]) if turned else normed


def _entering(graph: GraphBuilder, value: str, factors: torch.Tensor) -> str:
    return value if bool((factors == 1).all()) else graph.node("Mul", [value, _constant(graph, factors)])


def _spelled_norm(graph: GraphBuilder, value: str, module: Any) -> str:  # noqa: ANN401 - an island
    """Print a norm whose scales are not one for each number that is normalised, of groups for instance."""
    axes, (_, scale, shift) = list(module.options["axes"]), module.constants
    centred = graph.node("Sub", [value, graph.node("ReduceMean", [value], axes=axes, keepdims=1)])
    variance = graph.node("ReduceMean", [graph.node("Mul", [centred, centred])], axes=axes, keepdims=1)
    length = graph.node("Sqrt", [graph.node("Add", [variance, _constant(graph, module.options["eps"])])])
    product = graph.node("Mul", [graph.node("Div", [centred, length]), _constant(graph, scale)])
    return graph.node("Add", [product, _constant(graph, shift)])


def _unit(graph: GraphBuilder, read: list[str], module: Any) -> str:  # noqa: ANN401 - an island
    length = graph.node("ReduceL2", read, axes=list(module.options["axes"]), keepdims=1)
    least = graph.node("Max", [length, _constant(graph, module.options["eps"])])
    return graph.node("Div", [read[0], least])


def _reduced(operator: str) -> Printing:
    def printed(graph: GraphBuilder, read: list[str], module: Any) -> str:  # noqa: ANN401 - an island
        axes, keepdims = list(module.options["axes"]), int(module.options["keepdims"])
        if operator == "ReduceSum":
            return graph.node(operator, [*read, _numbers(graph, axes)], keepdims=keepdims)
        return graph.node(operator, read, axes=axes, keepdims=keepdims)

    return printed


def _sides(sides: tuple[int, ...], axes: int) -> list[int]:
    """Return pads of so many axes behind the batch as ONNX orders them: where each begins, then where each ends."""
    begins, ends = sides[-2::-2], sides[-1::-2]
    return [0, *([0] * (axes - len(begins))), *begins, 0, *([0] * (axes - len(ends))), *ends]


def _padded(graph: GraphBuilder, read: list[str], module: Any) -> str:  # noqa: ANN401 - an island
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    pads = _numbers(graph, _sides(module.options["sides"], max(3, len(module.options["sides"]) // 2)))
    mode, value = module.options["mode"], _constant(graph, module.options["value"])
    return graph.node("Pad", [*read, pads, *([value] if mode == "constant" else [])], mode=modes[mode])


def _resized(graph: GraphBuilder, read: list[str], module: Any) -> str:  # noqa: ANN401 - an island
    mode = {"bilinear": "linear", "bicubic": "cubic"}[module.options["mode"]]
    way = "align_corners" if module.options["align_corners"] else "pytorch_half_pixel"
    return graph.node(
        "Resize",
        [*read, "", _scales(graph, module)],
        mode=mode,
        coordinate_transformation_mode=way,
        cubic_coeff_a=-0.75,
    )


def _scales(graph: GraphBuilder, module: Any) -> str:  # noqa: ANN401 - an island or a move
    before, after = module.options["before"], module.options["size"]
    return _constant(graph, [1.0, 1.0, *(_scale(new, old) for new, old in zip(after, before, strict=True))])


def _scale(new: int, old: int) -> np.float32:
    """Return a float32 that takes one size to the other: the runtime rounds the product down."""
    scale = np.float32(new / old)
    return scale if int(float(scale) * old) >= new else np.nextafter(scale, np.float32(np.inf))


ISLANDS: Mapping[str, Printing] = {
    "abs": _plain("Abs"),
    "sqrt": _plain("Sqrt"),
    "reciprocal": _plain("Reciprocal"),
    "exp": _plain("Exp"),
    "log": _plain("Log"),
    "erf": _plain("Erf"),
    "tanh": _plain("Tanh"),
    "softplus": _softplus,
    "gelu": _gelu,
    "elu": _elu,
    "power": _power,
    "clip": _clip,
    "logistic": _plain("Sigmoid"),
    "hard_logistic": _plain("HardSigmoid", alpha=1 / 6, beta=0.5),
    "sloped": _plain("PRelu"),
    "scaled": _scaled,
    "softmax": _plain("Softmax", "axis"),
    "layer_norm": _layer_norm,
    "unit": _unit,
    "length": _reduced("ReduceL2"),
    "mean": _reduced("ReduceMean"),
    "sum": _reduced("ReduceSum"),
    "largest": _reduced("ReduceMax"),
    "matmul": _plain("MatMul"),
    "plus": _plain("Add"),
    "minus": _plain("Sub"),
    "times": _plain("Mul"),
    "quotient": _plain("Div"),
    "maximum": _plain("Max"),
    "minimum": _plain("Min"),
    "resized": _resized,
    "padded": _padded,
}
"""What prints each kind of island."""


def _permute(graph: GraphBuilder, read: list[str], module: Any, _zero: str | None = None) -> str:  # noqa: ANN401 - a move
    return graph.node("Transpose", read, perm=list(module.options["order"]))


def _reshape(graph: GraphBuilder, read: list[str], module: Any, _zero: str | None = None) -> str:  # noqa: ANN401 - a move
    return graph.node("Reshape", [*read, _numbers(graph, (0, *module.options["shape"]))])


def _slice(graph: GraphBuilder, read: list[str], module: Any, _zero: str | None = None) -> str:  # noqa: ANN401 - a move
    spans = [[module.options[name]] for name in ("start", "stop", "axis", "step")]
    return graph.node("Slice", [*read, *(_numbers(graph, span) for span in spans)])


def _pick(graph: GraphBuilder, read: list[str], module: Any, _zero: str | None = None) -> str:  # noqa: ANN401 - a move
    return graph.node("Gather", [*read, _numbers(graph, module.options["indices"])], axis=module.options["axis"])


def _join(graph: GraphBuilder, read: list[str], module: Any, _zero: str | None = None) -> str:  # noqa: ANN401 - a move
    return graph.node("Concat", read, axis=module.options["axis"])


def _border(graph: GraphBuilder, read: list[str], module: Any, zero: str | None = None) -> str:  # noqa: ANN401 - a move
    return graph.node(
        "Pad",
        [
            *read,
            _numbers(graph, _sides(module.options["sides"], len(module.options["sides"]) // 2)),
            *([zero] if zero else []),
        ],
    )


def _nearest(graph: GraphBuilder, read: list[str], module: Any, _zero: str | None = None) -> str:  # noqa: ANN401 - a move
    return graph.node(
        "Resize",
        [*read, "", _scales(graph, module)],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


MOVES: Mapping[str, Printing] = {
    "permute": _permute,
    "reshape": _reshape,
    "slice": _slice,
    "pick": _pick,
    "join": _join,
    "border": _border,
    "nearest": _nearest,
}
"""The same for moves, on codes as well; a border of codes is one of the code of zero."""


def print_move(printer: Any, one: ops.Move) -> None:  # noqa: ANN401 - a printer of programs, which knows this file
    """Print a move of codes as they are; what lies between two quantized operators the runtime would move as floats."""
    move = MOVES[one.module.kind]
    if one.grid is None:
        printer.rounded(one, move(printer.graph, [printer.read(source) for source in one.sources], one.module))
    else:
        codes, zero = [printer.codes[source] for source in one.sources], printer.code(one.grid.zero_point)
        printer.keep(one, move(printer.graph, codes, one.module, zero))
