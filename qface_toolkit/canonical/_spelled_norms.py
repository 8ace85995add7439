"""Recognise normalisations that are spelled out in several operations: layer norm, unit length, the global average.

What is matched is what is computed, not who wrote it: squares by products or powers, roots by either name, divisions by
products with an inverse, and axes kept or put back.
"""

import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import fx, nn

from qface_toolkit.canonical._affine import kind_of
from qface_toolkit.canonical._constants import constant_of
from qface_toolkit.canonical._moves import spelling, write
from qface_toolkit.canonical.edit import is_tensor, module_of, only_user, shape_of, source
from qface_toolkit.canonical.islands import Island

_TINY_SQUARE, _TINY = 1e-10, 1e-5
"""Added to a square or to a length so that it is not zero; to divide by no less comes to the same."""

_KEEP_EACH = ("view", "reshape", "unsqueeze", "expand", "expand_as")
_NORMS = (torch.norm, torch.linalg.norm, torch.linalg.vector_norm, "norm")


class Reduced(NamedTuple):
    """A tensor and the axes over which something is computed of it."""

    of: fx.Node
    axes: tuple[int, ...]


class Length(NamedTuple):
    """The length of a tensor's rows along axes, and the least that it is taken for."""

    of: fx.Node
    axes: tuple[int, ...]
    least: float = 0.0


def layer_norms_of_parts(graph_module: fx.GraphModule) -> None:
    """Write (x - mean) / sqrt(variance + eps), with the scale and shift behind it, as one layer norm."""
    for node in list(graph_module.graph.nodes):
        centred, square = _over_root(node)
        found = None if centred is None else _centred(centred)
        variance, eps = _with_number(square)
        if found is None or variance is None or _variance(variance) != found or not 0 < eps < 1:
            continue
        last, scale, shift = _affine_behind(node)
        write(last, Island.layer_norm(scale, shift, found.axes, eps), found.of)


def _affine_behind(node: fx.Node) -> tuple[fx.Node, torch.Tensor, torch.Tensor]:
    """Return the last of a node, a product with a constant and a sum with one behind it, and the two constants."""
    rank = len(shape_of(node))
    factors = {"mul": torch.ones((1,) * rank), "add": torch.zeros((1,) * rank)}
    for kind in factors:
        reader = only_user(node)
        values = None if reader is None else _constant_beside(reader, node, kind)
        if reader is not None and values is not None:
            node, factors[kind] = reader, values
    return node, factors["mul"], factors["add"]


def _constant_beside(reader: fx.Node, node: fx.Node, kind: str) -> torch.Tensor | None:
    """Return the constant that a reader multiplies a node by, or adds to it, with as many axes as the node has."""
    if kind_of(reader) != kind or len(reader.args) != 2 or reader.kwargs or shape_of(reader) != shape_of(node):
        return None
    other = reader.args[1] if reader.args[0] is node else reader.args[0]
    values = torch.tensor(float(other)) if isinstance(other, int | float) else constant_of(other)
    if values is None or values.dim() > len(shape_of(node)):
        return None
    return values.reshape((1,) * (len(shape_of(node)) - values.dim()) + tuple(values.shape))


def units_of_parts(graph_module: fx.GraphModule) -> None:
    """Write x / length(x), in any spelling, as F.normalize with the eps that it has."""
    for node in list(graph_module.graph.nodes):
        x, square = _over_root(node)
        length = None if square is None else _from_square(square)
        if length is None and kind_of(node) == "div" and len(node.args) == 2 and not node.kwargs:
            x, length = cast(fx.Node, node.args[0]), _length(node.args[1])
        if length is None or length.of is not x or len(length.axes) != 1:
            continue
        eps = {"p": 2.0, "dim": length.axes[0], "eps": length.least}
        node.op, node.target, node.args, node.kwargs = "call_function", F.normalize, (x,), eps


def _length(node: object) -> Length | None:
    """Return what a divisor measures if it is the length of rows, each divided by its own."""
    if not is_tensor(node) or not node.args:
        return None
    floor = module_of(node, nn.Hardtanh)
    if floor is not None and floor.max_val == math.inf:
        return _at_least(_length(node.args[0]), floor.min_val)
    name, inside = spelling(node), node.args[0]
    if name in ("clamp", "clamp_min", "clip", "maximum", "max") and (low := _floor(node)) is not None:
        return _at_least(_length(inside), low)
    if name in _KEEP_EACH:
        found = _length(inside)
        return found if found is not None and _stands_for_rows(node, found) else None
    if node.target in _NORMS:
        return _norm(node)
    root = _root(node)
    if root is not None:
        return _from_square(root)
    part, added = _with_number(node)
    return _at_least(_length(part), added) if part is not None and 0 < added <= _TINY else None


def _at_least(length: Length | None, least: float) -> Length | None:
    return None if length is None else length._replace(least=max(length.least, float(least)))


def _stands_for_rows(node: fx.Node, length: Length) -> bool:
    """Tell whether a length, moved to another shape, still stands beside the row that it is of."""
    whole = shape_of(length.of)
    kept = tuple(1 if axis in length.axes else size for axis, size in enumerate(whole))
    return shape_of(node) in (kept, whole, tuple(size for axis, size in enumerate(whole) if axis not in length.axes))


def _norm(node: fx.Node) -> Length | None:
    given = dict(zip(("p", "dim", "keepdim"), node.args[1:], strict=False)) | node.kwargs
    order = given.get("p", given.get("ord"))
    if order not in (None, 2, "fro") or given.get("dim") is None:
        return None
    return Length(source(node), _axes(source(node), given["dim"]))


def _from_square(node: object) -> Length | None:
    """Return what a node is the square of if it is a squared length of rows."""
    if not is_tensor(node):
        return None
    found = _reduced(node, "sum")
    if found is not None:
        squared = _squared(found.of)
        return None if squared is None else Length(squared, found.axes)
    floor = module_of(node, nn.Hardtanh)
    low = floor.min_val if floor is not None and floor.max_val == math.inf else _floor(node)
    if low is not None and low >= 0:
        return _at_least(_from_square(node.args[0]), math.sqrt(low))
    part, added = _with_number(node)
    return _at_least(_from_square(part), math.sqrt(added)) if part is not None and 0 < added <= _TINY_SQUARE else None


def _floor(node: fx.Node) -> float | None:
    """Return the number that a node is no less than, if that is all it does."""
    if spelling(node) not in ("clamp", "clamp_min", "clip", "maximum", "max") or not is_tensor(node):
        return None
    given = dict(zip(("min", "max"), node.args[1:], strict=False)) | node.kwargs
    low = given.get("min", given.get("other"))
    held = constant_of(low)
    low = float(held) if held is not None and held.numel() == 1 else low
    return float(low) if isinstance(low, int | float) and given.get("max") is None else None


def _over_root(node: fx.Node) -> tuple[fx.Node | None, fx.Node | None]:
    """Return (x, v) if a node is x / sqrt(v), or x times the inverse of that root."""
    arguments = [one for one in node.args if is_tensor(one)]
    if node.kwargs or len(arguments) != 2 or len(node.args) != 2:
        return None, None
    if kind_of(node) == "div":
        return (arguments[0], root) if (root := _root(arguments[1])) is not None else (None, None)
    for x, inverse in (arguments, arguments[::-1]) if kind_of(node) == "mul" else ():
        if (root := _inverse_root(inverse)) is not None:
            return x, root
    return None, None


def _power(node: fx.Node) -> float | None:
    exponent = node.args[1] if spelling(node) == "pow" and len(node.args) == 2 else None
    held = constant_of(exponent)
    exponent = float(held) if held is not None and held.numel() == 1 else exponent
    return float(exponent) if isinstance(exponent, int | float) else None


def _root(node: fx.Node) -> fx.Node | None:
    """Return what a node is the square root of."""
    return source(node) if spelling(node) == "sqrt" or _power(node) == 0.5 else None


def _inverse_root(node: fx.Node) -> fx.Node | None:
    """Return what a node is the inverse square root of."""
    if spelling(node) == "rsqrt" or _power(node) == -0.5:
        return source(node)
    if spelling(node) == "reciprocal" or _power(node) == -1:
        return _root(source(node))
    one_over = kind_of(node) == "div" and node.args[:1] == (1,) and is_tensor(node.args[1])
    return _root(cast(fx.Node, node.args[1])) if one_over else None


def _squared(node: fx.Node) -> fx.Node | None:
    """Return what a node is the square of."""
    if kind_of(node) == "mul" and len(node.args) == 2 and node.args[0] is node.args[1]:
        return source(node)
    return source(node) if spelling(node) == "square" or _power(node) == 2 else None


def _with_number(node: object) -> tuple[fx.Node | None, float]:
    """Return (x, e) if a node is x + e, in either order."""
    if not is_tensor(node) or kind_of(node) != "add" or len(node.args) != 2 or node.kwargs:
        return None, 0.0
    for part, number in (node.args, node.args[::-1]):
        held = constant_of(number)
        number = float(held) if held is not None and held.numel() == 1 else number
        if is_tensor(part) and constant_of(part) is None and isinstance(number, int | float):
            return part, float(number)
    return None, 0.0


def _axes(tensor: fx.Node, dim: object) -> tuple[int, ...]:
    dims = dim if isinstance(dim, list | tuple) else (dim,)
    return tuple(sorted(int(cast(int, axis)) % len(shape_of(tensor)) for axis in dims))


def _any_reduced(node: object, name: str) -> Reduced | None:
    """Return the tensor and axes that a node takes the mean or sum of."""
    if not is_tensor(node) or spelling(node) != name or not node.args or not is_tensor(node.args[0]):
        return None
    given = dict(zip(("dim", "keepdim"), node.args[1:], strict=False)) | node.kwargs
    dim = given.get("dim", given.get("axis"))
    return None if dim is None else Reduced(source(node), _axes(source(node), dim))


def _reduced(node: fx.Node, name: str) -> Reduced | None:
    """Return the tensor and axes that a node takes the mean or sum of, the axes kept at size one."""
    if name == "mean" and module_of(node, nn.AdaptiveAvgPool2d) is not None and shape_of(node)[2:] == (1, 1):
        return Reduced(source(node), (2, 3))
    found = _any_reduced(node, name)
    return found if found is not None and len(shape_of(node)) == len(shape_of(found.of)) else None


def _centred(node: fx.Node) -> Reduced | None:
    """Return what a node is without its mean, and over which axes that is."""
    if kind_of(node) != "sub" or len(node.args) != 2 or node.kwargs or not is_tensor(node.args[1]):
        return None
    mean = _reduced(node.args[1], "mean")
    return mean if mean is not None and mean.of is node.args[0] and 0 not in mean.axes else None


def _variance(node: fx.Node) -> Reduced | None:
    """Return what a node is the variance of, of all that is there and not of a sample, and over which axes."""
    if spelling(node) == "var":
        given = dict(node.kwargs)
        whole = given.pop("unbiased", None) is False or given.pop("correction", None) == 0
        dim = given.get("dim", node.args[1] if len(node.args) > 1 else None)
        kept = len(shape_of(node)) == len(shape_of(source(node)))
        return Reduced(source(node), _axes(source(node), dim)) if whole and kept and dim is not None else None
    mean = _reduced(node, "mean")
    squared = None if mean is None else _squared(mean.of)
    centred = None if squared is None else _centred(squared)
    return centred if centred is not None and mean is not None and centred.axes == mean.axes else None


def means_of_parts(graph_module: fx.GraphModule) -> None:
    """Write a mean over height and then width, or over flattened pixels, or a sum times 1 / count, as one mean."""
    for node in list(graph_module.graph.nodes):
        picture = _averaged(node)
        if picture is not None and shape_of(node) in (shape_of(picture)[:2], (*shape_of(picture)[:2], 1, 1)):
            kept = len(shape_of(node)) == 4
            node.op, node.target, node.kwargs = "call_function", torch.mean, {"keepdim": kept}
            node.args = (picture, (2, 3))


def _averaged(node: fx.Node) -> fx.Node | None:
    """Return the picture whose pixels a node averages in two steps."""
    if kind_of(node) in ("mul", "div"):
        return _scaled_sum(node)
    outer = _any_reduced(node, "mean")
    inner = None if outer is None else _any_reduced(outer.of, "mean")
    if outer is None or not outer.of.args or not is_tensor(outer.of.args[0]) or len(shape_of(source(outer.of))) != 4:
        return None
    if inner is not None and inner.axes in ((2,), (3,)):
        left = (5 - inner.axes[0],) if len(shape_of(outer.of)) == 4 else (2,)
        return inner.of if outer.axes == left else None
    flat = spelling(outer.of) in ("flatten", "view", "reshape") and len(shape_of(outer.of)) == 3
    same = shape_of(source(outer.of))[:2] == shape_of(outer.of)[:2]
    return source(outer.of) if flat and same and outer.axes == (2,) else None


def _scaled_sum(node: fx.Node) -> fx.Node | None:
    """Return the picture whose pixels a node adds up and divides by their count."""
    summed = _any_reduced(node.args[0], "sum")
    factor = node.args[1] if len(node.args) == 2 and not node.kwargs else None
    if summed is None or summed.axes != (2, 3) or not isinstance(factor, int | float) or len(shape_of(summed.of)) != 4:
        return None
    count = math.prod(shape_of(summed.of)[2:])
    divides = factor * count if kind_of(node) == "mul" else factor / count
    return summed.of if abs(divides - 1) < 1e-6 else None


PASSES = (layer_norms_of_parts, units_of_parts, means_of_parts)
