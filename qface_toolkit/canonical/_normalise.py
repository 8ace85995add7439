"""Spell each operation one way: a functional activation becomes its module, every reshape to vectors a flatten."""

import copy
import math
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import fx, nn

from qface_toolkit.canonical.edit import (
    bypass,
    call_module,
    calls,
    is_tensor,
    module_of,
    own_module,
    pair,
    shape_of,
    source,
)

_MODULE_OF_CALL: dict[Any, Callable[..., nn.Module]] = {
    F.relu: lambda *_, **__: nn.ReLU(),
    torch.relu: lambda *_, **__: nn.ReLU(),
    "relu": lambda *_, **__: nn.ReLU(),
    "relu_": lambda *_, **__: nn.ReLU(),
    F.relu6: lambda *_, **__: nn.ReLU6(),
    F.leaky_relu: lambda slope=0.01, *_, negative_slope=None, **__: nn.LeakyReLU(
        slope if negative_slope is None else negative_slope
    ),
    F.hardtanh: nn.Hardtanh,
    torch.clamp: lambda min=None, max=None: _clamp(min, max),
    torch.clip: lambda min=None, max=None: _clamp(min, max),
    "clamp": lambda min=None, max=None: _clamp(min, max),
    "clamp_": lambda min=None, max=None: _clamp(min, max),
    "clamp_min": lambda min: _clamp(min, None),
    torch.clamp_min: lambda min: _clamp(min, None),
    "clip": lambda min=None, max=None: _clamp(min, max),
    F.sigmoid: lambda *_, **__: nn.Sigmoid(),
    torch.sigmoid: lambda *_, **__: nn.Sigmoid(),
    torch.special.expit: lambda *_, **__: nn.Sigmoid(),
    "sigmoid": lambda *_, **__: nn.Sigmoid(),
    "sigmoid_": lambda *_, **__: nn.Sigmoid(),
    F.hardsigmoid: lambda *_, **__: nn.Hardsigmoid(),
    F.silu: lambda *_, **__: nn.SiLU(),
    F.hardswish: lambda *_, **__: nn.Hardswish(),
    F.max_pool2d: nn.MaxPool2d,
    F.avg_pool2d: nn.AvgPool2d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    F.dropout: lambda *_, **__: nn.Identity(),
}


def _clamp(low: float | None, high: float | None) -> nn.Module:
    """Return the module of a clamp; one that no lowering knows is refused by its name later."""
    if low == 0 and high is None:
        return nn.ReLU()
    return nn.Hardtanh(-math.inf if low is None else low, math.inf if high is None else high)


_RESHAPES = ("view", "reshape", "flatten", "squeeze", torch.flatten, torch.reshape, torch.squeeze)
_DROPPED = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.Dropout1d)
_DROPPED_CALLS = ("contiguous", "clone", "float", "detach", torch.clone, torch.detach)


def modules_for_functions(graph_module: fx.GraphModule) -> None:
    """Replace functional activations and pools by modules."""
    for node in list(graph_module.graph.nodes):
        if node.op in ("call_function", "call_method") and node.target in _MODULE_OF_CALL:
            options = {key: value for key, value in node.kwargs.items() if key not in ("inplace", "training")}
            call_module(node, _MODULE_OF_CALL[node.target](*node.args[1:], **options))


def functional_prelu(graph_module: fx.GraphModule) -> None:
    """Replace `F.prelu(x, weight)` by its module, which quantization can see."""
    for node in list(graph_module.graph.nodes):
        if node.target in (F.prelu, torch.prelu) and node.args[1].op == "get_attr":
            weight = operator.attrgetter(str(node.args[1].target))(graph_module)
            prelu = nn.PReLU(weight.numel())
            prelu.weight.data.copy_(weight.detach().flatten())
            call_module(node, prelu)


def flatten_for_reshapes(graph_module: fx.GraphModule) -> None:
    """Replace every reshape from [N, C, H, W] to [N, C*H*W] by one flatten; any other reshape stays and is refused."""
    for node, _ in calls(graph_module, nn.Flatten):
        node.op, node.target = "call_function", torch.flatten
    for node in list(graph_module.graph.nodes):
        if _reshapes(node) and len(shape_of(node)) == 2:
            before = source(node)
            while _reshapes(before) and len(shape_of(before)) != 4:
                before = source(before)
            if shape_of(before)[0] == shape_of(node)[0]:
                node.op, node.target, node.args, node.kwargs = "call_function", torch.flatten, (before, 1), {}


def _reshapes(node: fx.Node) -> bool:
    """Tell whether a node changes a tensor's shape alone: indexing does if it drops axes of size one."""
    if node.target is operator.getitem and is_tensor(node.args[0]) and is_tensor(node):
        return math.prod(shape_of(node)) == math.prod(shape_of(source(node)))
    return node.target in _RESHAPES


def flatten_once(graph_module: fx.GraphModule) -> None:
    """Drop the flattening of what is flat already."""
    for node in list(graph_module.graph.nodes):
        if node.target is torch.flatten and len(shape_of(source(node))) == 2:
            bypass(node)


def pool_for_mean(graph_module: fx.GraphModule) -> None:
    """Replace a mean over height and width by global average pooling."""
    for node in list(graph_module.graph.nodes):
        if node.target in ("mean", torch.mean) and len(shape_of(source(node))) == 4:
            axes = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
            if not isinstance(axes, (list, tuple)) or {int(a) % 4 for a in axes} != {2, 3}:
                continue
            flat = len(shape_of(node)) == 2
            call_module(node, nn.AdaptiveAvgPool2d(1))
            if flat:
                with graph_module.graph.inserting_after(node):
                    flatten = graph_module.graph.call_function(torch.flatten, (node, 1))
                node.replace_all_uses_with(flatten, delete_user_cb=lambda user, keep=flatten: user is not keep)


def reshapes_for_views(graph_module: fx.GraphModule) -> None:
    """Write a view as the reshape that it is: one that asks for contiguous memory would fail on what a copy was."""
    for node in graph_module.graph.nodes:
        if node.op == "call_method" and node.target in ("view", "view_as"):
            node.target = {"view": "reshape", "view_as": "reshape_as"}[node.target]


def drop_identities(graph_module: fx.GraphModule) -> None:
    """Remove what does nothing at inference."""
    for node in list(graph_module.graph.nodes):
        if any(module_of(node, kind) is not None for kind in _DROPPED) or node.target in _DROPPED_CALLS:
            bypass(node)


def prelu_for_leaky_relu(graph_module: fx.GraphModule) -> None:
    """Replace LeakyReLU by the PReLU that computes the same."""
    for node, leaky in calls(graph_module, nn.LeakyReLU):
        own_module(node, nn.PReLU(1, init=leaky.negative_slope))


def relu6_for_clamps(graph_module: fx.GraphModule) -> None:
    """Replace the other spellings of min(max(x, 0), 6) by ReLU6."""
    for node, hardtanh in calls(graph_module, nn.Hardtanh):
        if (hardtanh.min_val, hardtanh.max_val) == (0.0, 6.0):
            own_module(node, nn.ReLU6())


def equal_windows(graph_module: fx.GraphModule) -> None:
    """Turn off the options of pools that make no difference for the size at hand."""
    for node, pool in calls(graph_module, nn.MaxPool2d):
        pool.ceil_mode = pool.ceil_mode and not _windows_fit(node, pool)
    for node, average in calls(graph_module, nn.AvgPool2d):
        average.ceil_mode = average.ceil_mode and not _windows_fit(node, average)
        average.count_include_pad = average.count_include_pad or pair(average.padding) == (0, 0)


def _windows_fit(node: fx.Node, pool: nn.MaxPool2d | nn.AvgPool2d) -> bool:
    options = (pair(option) for option in (pool.kernel_size, pool.stride, pool.padding))
    windows = zip(shape_of(source(node))[2:], *options, strict=True)
    return all((size + 2 * padding - kernel) % stride == 0 for size, kernel, stride, padding in windows)


def own_modules(graph_module: fx.GraphModule) -> None:
    """Give each call a module of its own, so that folding into one call cannot change another."""
    seen: set[str] = set()
    for node in list(graph_module.graph.nodes):
        if node.op != "call_module":
            continue
        if node.target in seen:
            own_module(node, copy.deepcopy(graph_module.get_submodule(node.target)))
        seen.add(str(node.target))


PASSES = (
    modules_for_functions,
    functional_prelu,
    own_modules,
    pool_for_mean,
    flatten_for_reshapes,
    flatten_once,
    reshapes_for_views,
    drop_identities,
    prelu_for_leaky_relu,
    relu6_for_clamps,
    equal_windows,
)
