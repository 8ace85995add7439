"""Spell each operation one way: a functional activation becomes its module, every reshape to vectors a flatten."""

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import fx, nn

from qface_toolkit.quantize._edit import bypass, calls, module_of, own_module, shape_of, source

_MODULE_OF_CALL: dict[Any, Callable[..., nn.Module]] = {
    F.relu: lambda *_, **__: nn.ReLU(),
    torch.relu: lambda *_, **__: nn.ReLU(),
    "relu": lambda *_, **__: nn.ReLU(),
    "relu_": lambda *_, **__: nn.ReLU(),
    F.relu6: lambda *_, **__: nn.ReLU6(),
    F.leaky_relu: lambda slope=0.01, *_, negative_slope=None, **__: nn.LeakyReLU(
        slope if negative_slope is None else negative_slope
    ),
    F.max_pool2d: nn.MaxPool2d,
    F.avg_pool2d: nn.AvgPool2d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    F.dropout: lambda *_, **__: nn.Identity(),
}
_ADDITIONS = (torch.add, operator.iadd, "add", "add_")
_RESHAPES = ("view", "reshape", "flatten", "squeeze", torch.flatten, torch.reshape, torch.squeeze)
_DROPPED = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.Dropout1d)


def modules_for_functions(graph_module: fx.GraphModule) -> None:
    """Replace functional activations and pools by modules, and each spelling of addition by one."""
    for node in list(graph_module.graph.nodes):
        if node.target in _ADDITIONS and len(node.args) == 2 and not node.kwargs:
            node.op, node.target = "call_function", operator.add
        elif node.op in ("call_function", "call_method") and node.target in _MODULE_OF_CALL:
            _call_module(graph_module, node)


def _call_module(graph_module: fx.GraphModule, node: fx.Node) -> None:
    arguments = list(node.args[1:])
    options = {key: value for key, value in node.kwargs.items() if key not in ("inplace", "training")}
    graph_module.add_submodule(node.name, _MODULE_OF_CALL[node.target](*arguments, **options))
    node.op, node.target = "call_module", node.name
    node.args, node.kwargs = (node.args[0],), {}


def functional_prelu(graph_module: fx.GraphModule) -> None:
    """Replace `F.prelu(x, weight)` by its module, which quantization can see."""
    for node in list(graph_module.graph.nodes):
        if node.target in (F.prelu, torch.prelu) and node.args[1].op == "get_attr":
            weight = operator.attrgetter(str(node.args[1].target))(graph_module)
            prelu = nn.PReLU(weight.numel())
            prelu.weight.data.copy_(weight.detach().flatten())
            graph_module.add_submodule(node.name, prelu)
            node.op, node.target, node.args = "call_module", node.name, (node.args[0],)


def flatten_for_reshapes(graph_module: fx.GraphModule) -> None:
    """Replace every reshape from [N, C, H, W] to [N, C*H*W] by one flatten; any other reshape stays and is refused."""
    for node, _ in calls(graph_module, nn.Flatten):
        node.op, node.target = "call_function", torch.flatten
    for node in list(graph_module.graph.nodes):
        if node.target in _RESHAPES and _makes_vectors(node):
            node.op, node.target = "call_function", torch.flatten
            node.args, node.kwargs = (source(node), 1), {}


def _makes_vectors(node: fx.Node) -> bool:
    before, after = shape_of(source(node)), shape_of(node)
    return len(after) == 2 and before[0] == after[0]


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
            graph_module.add_submodule(node.name, nn.AdaptiveAvgPool2d(1))
            flat = len(shape_of(node)) == 2
            node.op, node.target, node.args, node.kwargs = "call_module", node.name, (source(node),), {}
            if flat:
                with graph_module.graph.inserting_after(node):
                    flatten = graph_module.graph.call_function(torch.flatten, (node, 1))
                node.replace_all_uses_with(flatten, delete_user_cb=lambda user, keep=flatten: user is not keep)


def drop_identities(graph_module: fx.GraphModule) -> None:
    """Remove what does nothing at inference."""
    for node in list(graph_module.graph.nodes):
        if any(module_of(node, kind) is not None for kind in _DROPPED) or node.target in ("contiguous", "clone"):
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
    drop_identities,
    prelu_for_leaky_relu,
    relu6_for_clamps,
)
