"""Zero rows and columns around an image, and rows cut off it, as padding and zeros in the kernel of the layer behind.

Exact for any pair of sides: pad both by the larger number, and let the kernel have zeros where it was too much.
"""

import operator
from typing import Any, cast

import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import fx, nn

from qface_toolkit.canonical.edit import bypass, calls, is_tensor, module_of, own_module, pair, shape_of, source

Sides = tuple[tuple[int, int], tuple[int, int]]
"""Pixels added above and below, left and right; negative where they are cut off."""


def pads_one_way(graph_module: fx.GraphModule) -> None:
    """Write modules that pad with zeros as calls of F.pad."""
    for kind in (nn.ZeroPad2d, nn.ConstantPad2d):
        for node, pad in calls(graph_module, kind):
            if pad.value == 0:
                node.op, node.target, node.args = "call_function", F.pad, (source(node), tuple(pad.padding))


def drop_empty_padding(graph_module: fx.GraphModule) -> None:
    """Drop padding by no pixel, and slices that keep everything (GhostNet's, where its channels come out even)."""
    for node in list(graph_module.graph.nodes):
        if _sides(node) == ((0, 0), (0, 0)):
            bypass(node)


def absorb_padding(graph_module: fx.GraphModule) -> None:
    """Absorb padding with zeros, and slices that cut off borders, into the layer that reads them."""
    for node in list(graph_module.graph.nodes):
        while node.op == "call_module" and (sides := _sides(source(node))) is not None and _absorb(node, sides):
            node.args = (source(source(node)),)


def explicit_padding(graph_module: fx.GraphModule) -> None:
    """Write the padding of convolutions in pixels; torch's "same" puts the odd one below and to the right."""
    for node, conv in calls(graph_module, nn.Conv2d):
        if not isinstance(conv.padding, str):
            continue
        total = [dilation * (kernel - 1) for dilation, kernel in zip(conv.dilation, conv.kernel_size, strict=True)]
        same, conv.padding = conv.padding == "same", (0, 0)
        if same:
            height, width = ((pixels // 2, pixels - pixels // 2) for pixels in total)
            _absorb_into_conv(node, conv, (height, width))


def _sides(node: fx.Node) -> Sides | None:
    """Return what a node pads with zeros or cuts off, or None if it does anything else."""
    if not is_tensor(node) or not node.args or not is_tensor(node.args[0]) or len(shape_of(source(node))) != 4:
        return None
    if node.target is F.pad:
        return _padded(node)
    return _cut(node) if node.target is operator.getitem else None


def _padded(node: fx.Node) -> Sides | None:
    options = dict(zip(("pad", "mode", "value"), node.args[1:], strict=False)) | node.kwargs
    pixels = options["pad"]
    if options.get("mode", "constant") != "constant" or options.get("value") not in (None, 0):
        return None
    if not isinstance(pixels, tuple | list) or not all(isinstance(side, int) for side in pixels):
        return None
    left, right, top, bottom, *others = [*cast(list[int], list(pixels)), 0, 0][: max(4, len(pixels))]
    return None if any(others) else ((top, bottom), (left, right))


def _cut(node: fx.Node) -> Sides | None:
    parts: list[Any] = list(node.args[1]) if isinstance(node.args[1], tuple) else [node.args[1]]
    if ... in parts:
        place = parts.index(...)
        parts[place : place + 1] = [slice(None)] * (5 - len(parts))
    parts += [slice(None)] * (4 - len(parts))
    if not all(_is_plain_slice(part) for part in parts):
        return None
    sizes = shape_of(source(node))
    ends = [part.indices(size) for part, size in zip(parts, sizes, strict=True)]
    sides = [(-start, stop - size) for (start, stop, _), size in zip(ends, sizes, strict=True)]
    return (sides[2], sides[3]) if sides[:2] == [(0, 0), (0, 0)] else None


def _is_plain_slice(part: object) -> bool:
    return (
        isinstance(part, slice)
        and part.step in (None, 1)
        and not any(isinstance(end, fx.Node) for end in (part.start, part.stop))
    )


def _absorb(node: fx.Node, sides: Sides) -> bool:
    conv, average, largest = (module_of(node, kind) for kind in (nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d))
    if isinstance(conv, nn.Conv2d):
        return _absorb_into_conv(node, conv, sides)
    if isinstance(average, nn.AvgPool2d):
        return _absorb_into_average(node, average, sides)
    return isinstance(largest, nn.MaxPool2d) and _absorb_into_maximum(node, largest, sides)


def _absorb_into_conv(node: fx.Node, conv: nn.Conv2d, sides: Sides) -> bool:
    paddings, zeros = list[int](), list[tuple[int, int]]()
    for padding, dilation, (before, after) in zip(pair(conv.padding), conv.dilation, sides, strict=True):
        if conv.padding_mode != "zeros" or (padding and min(before, after) < 0):
            return False
        before, after = before + padding, after + padding
        most = max(before, after, 0)
        if (most - before) % dilation or (most - after) % dilation:
            return False
        paddings.append(most)
        zeros.append(((most - before) // dilation, (most - after) // dilation))
    conv.padding = (paddings[0], paddings[1])
    if any(map(any, zeros)):
        own_module(node, _with_zeros(conv, zeros[0], zeros[1]))
    return True


def _with_zeros(conv: nn.Conv2d, rows: tuple[int, int], columns: tuple[int, int]) -> nn.Conv2d:
    """Return a convolution with zeros added around its kernel."""
    weight = F.pad(conv.weight.detach(), (*columns, *rows))
    height, width = weight.shape[2:]
    wider = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        (height, width),
        pair(conv.stride),
        pair(conv.padding),
        pair(conv.dilation),
        conv.groups,
        bias=conv.bias is not None,
    )
    wider.weight.data.copy_(weight)
    if conv.bias is not None and wider.bias is not None:
        wider.bias.data.copy_(conv.bias.detach())
    return wider


def _absorb_into_average(node: fx.Node, pool: nn.AvgPool2d, sides: Sides) -> bool:
    """Count the zeros as pixels of the pool's border, or average by a convolution where a pool cannot have them."""
    if pool.ceil_mode or pool.divisor_override or not pool.count_include_pad or min(map(min, sides)) < 0:
        return False
    padding = _wider(pool, sides)
    if padding is not None:
        pool.padding = padding
        return True
    channels, (height, width) = shape_of(node)[1], pair(pool.kernel_size)
    conv = nn.Conv2d(
        channels, channels, (height, width), pair(pool.stride), pair(pool.padding), groups=channels, bias=False
    )
    nn.init.constant_(conv.weight, 1 / (height * width))
    return _absorb_into_conv(node, own_module(node, conv), sides)


def _absorb_into_maximum(node: fx.Node, pool: nn.MaxPool2d, sides: Sides) -> bool:
    """Let the pool pad where nothing is below the zeros of the border: behind a ReLU."""
    padding, rectified = _wider(pool, sides), source(source(node))
    positive = any(module_of(rectified, kind) is not None for kind in (nn.ReLU, nn.ReLU6, nn.Sigmoid))
    if pool.ceil_mode or padding is None or not positive:
        return False
    pool.padding = padding
    return True


def _wider(pool: nn.AvgPool2d | nn.MaxPool2d, sides: Sides) -> tuple[int, int] | None:
    """Return a pool's padding together with more on each side, or None if pools cannot have that."""
    kernel, now = pair(pool.kernel_size), pair(pool.padding)
    (top, bottom), (left, right) = sides
    padding = now[0] + top, now[1] + left
    unequal = top != bottom or left != right or min(top, left) < 0
    return None if unequal or any(2 * p > k for p, k in zip(padding, kernel, strict=True)) else padding


PASSES = (explicit_padding, pads_one_way, drop_empty_padding, absorb_padding)
