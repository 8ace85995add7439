"""A float network as it was published, BatchNorm and all, as plain values that travel in a file without its code.

`canonical/graph.py` does the same for canonical networks, which have few operations and no BatchNorm; QuantFace's rule
trains BatchNorm as the others do and leaves it in float, so what it makes has no canonical form. Here each call of a
closed list is written with its arguments, and what is read back can call nothing else.
"""

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import fx, nn

from qface_toolkit.errors import ArtifactError, UnsupportedModel

_CONV = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
_NORM = ("num_features", "eps", "momentum", "affine", "track_running_stats")
MODULES: Mapping[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    kind.__name__: (kind, options)
    for kind, options in (
        (nn.Conv2d, _CONV),
        (nn.Linear, ("in_features", "out_features")),
        (nn.PReLU, ("num_parameters",)),
        (nn.BatchNorm1d, _NORM),
        (nn.BatchNorm2d, _NORM),
        (nn.ReLU, ()),
        (nn.ReLU6, ()),
        (nn.LeakyReLU, ("negative_slope",)),
        (nn.Hardtanh, ("min_val", "max_val")),
        (nn.Sigmoid, ()),
        (nn.Hardsigmoid, ()),
        (nn.SiLU, ()),
        (nn.Hardswish, ()),
        (nn.Dropout, ("p",)),
        (nn.Dropout2d, ("p",)),
        (nn.Identity, ()),
        (nn.Flatten, ("start_dim", "end_dim")),
        (nn.MaxPool2d, ("kernel_size", "stride", "padding", "dilation", "ceil_mode")),
        (nn.AvgPool2d, ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")),
        (nn.AdaptiveAvgPool2d, ("output_size",)),
    )
}
"""Name of a module -> its class and the constructor's arguments that describe it; biases are told by `bias`."""

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    f"{where.__name__.rpartition('.')[2].lstrip('_')}.{name}": getattr(where, name)
    for where, names in (
        (operator, "add iadd sub mul imul truediv getitem"),
        (torch, "add sub mul div cat flatten reshape permute mean squeeze unsqueeze relu sigmoid clamp"),
        (F, "relu relu6 leaky_relu sigmoid hardsigmoid hardswish silu normalize pad dropout adaptive_avg_pool2d"),
    )
    for name in names.split()
}
METHODS = frozenset(
    (
        "view",
        "reshape",
        "flatten",
        "permute",
        "mean",
        "squeeze",
        "unsqueeze",
        "contiguous",
        "relu",
        "sigmoid",
        "clamp",
        "size",
    )
)
_MOST_NODES, _LARGEST_NUMBER, _DEEPEST = 20_000, 1 << 24, 4
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}", re.ASCII)
_PATH = re.compile(r"[A-Za-z0-9_]{1,200}(\.[A-Za-z0-9_]{1,200}){0,20}", re.ASCII)
_NAMES = {function: name for name, function in FUNCTIONS.items()}


def structure_of(network: fx.GraphModule) -> list[dict[str, Any]]:
    """Return one plain dictionary a node, in order of execution; weights stay in the state dict.

    Raises:
        UnsupportedModel: naming the nodes that call anything but what is listed here.
    """
    found = [_plain_node(network, node) for node in network.graph.nodes]
    strangers = [
        f"{node.name} ({node.target})" for node, plain in zip(network.graph.nodes, found, strict=True) if plain is None
    ]
    if strangers:
        what = "the network cannot be written down with its simulation: it calls what is not listed"
        raise UnsupportedModel(what, where="; ".join(strangers[:12]), fix="replace these operations by common ones")
    return [plain for plain in found if plain is not None]


def _plain_node(network: fx.GraphModule, node: fx.Node) -> dict[str, Any] | None:
    try:
        plain = {"name": node.name, "op": node.op, "args": _plain(node.args), "kwargs": _plain(dict(node.kwargs))}
    except TypeError:
        return None
    if node.op == "call_module":
        layer = network.get_submodule(str(node.target))
        kind = type(layer).__name__
        if MODULES.get(kind, (None,))[0] is not type(layer) or not _PATH.fullmatch(str(node.target)):
            return None
        options = {key: _plain(getattr(layer, key)) for key in MODULES[kind][1]}
        biased = {"bias": layer.bias is not None} if isinstance(layer, nn.Conv2d | nn.Linear) else {}
        return plain | {"target": str(node.target), "module": kind, "options": options | biased}
    if node.op == "call_function":
        return plain | {"target": _NAMES[node.target]} if node.target in _NAMES else None
    if node.op == "get_attr":
        return plain | {"target": str(node.target), **_plain_constant(network, str(node.target))}
    if node.op == "call_method":
        return plain | {"target": node.target} if node.target in METHODS else None
    return plain | {"target": node.name}


def _plain_constant(network: fx.GraphModule, path: str) -> dict[str, Any]:
    tensor = operator.attrgetter(path)(network)
    return {"shape": list(tensor.shape), "learned": isinstance(tensor, nn.Parameter)}


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a call is given
    """Return an argument as JSON holds it: nodes, tuples and slices are marked."""
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, slice):
        return {"slice": [_plain(value.start), _plain(value.stop), _plain(value.step)]}
    if isinstance(value, tuple):
        return {"tuple": [_plain(one) for one in value]}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {"dict": {str(key): _plain(one) for key, one in value.items()}}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"an argument of type {type(value).__name__}")


def network_of(structure: object) -> fx.GraphModule:
    """Build the network, weights unset, from what `structure_of` returned.

    Raises:
        ArtifactError: if the description holds anything that `structure_of` does not write.
    """
    network, made = fx.GraphModule(nn.Module(), fx.Graph()), dict[str, fx.Node]()
    try:
        if not isinstance(structure, list) or not 0 < len(structure) <= _MOST_NODES:
            raise ValueError("no list of operations")
        for plain in structure:
            made[plain["name"]] = _built_node(network, plain, made)
        network.graph.lint()
        network.recompile()
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, RecursionError) as error:
        what = f"the description of the network is damaged: {str(error)[:200]}"
        raise ArtifactError(what, fix="make the file again") from error
    return network


def _built_node(network: fx.GraphModule, plain: dict[str, Any], made: Mapping[str, fx.Node]) -> fx.Node:
    op, name, target = plain["op"], plain["name"], plain["target"]
    args, kwargs = _argument(plain["args"], made), _argument(plain["kwargs"], made)
    # FX writes a program of all these names and runs it: none may hold anything but letters, digits and underscores.
    if not _NAME.fullmatch(name) or not (target in FUNCTIONS or _PATH.fullmatch(target)):
        raise ValueError(f"a name that is none: {name!r} {target!r}"[:100])
    if op == "call_function":
        return network.graph.create_node(op, FUNCTIONS[target], args, kwargs, name=name)
    if op == "call_module":
        _add_module(network, target, plain)
    elif op == "get_attr":
        _add_constant(network, target, plain)
    elif op not in ("placeholder", "output") and not (op == "call_method" and target in METHODS):
        raise ValueError(f"there is no operation {op} {target}"[:100])
    elif op == "placeholder" and (target != name or args or kwargs):
        raise ValueError("an input that is more than a name")
    return network.graph.create_node(op, target, args, kwargs, name=name)


def _argument(value: Any, made: Mapping[str, fx.Node], depth: int = 0) -> Any:  # noqa: ANN401 - whatever a call is given
    if depth > _DEEPEST:
        raise ValueError("arguments within arguments")
    if isinstance(value, list):
        return [_argument(one, made, depth + 1) for one in value]
    if not isinstance(value, dict):
        return _bounded(value)
    ((mark, inner),) = value.items()
    if mark == "node":
        return made[inner]
    if mark == "dict":
        if not all(_NAME.fullmatch(key) for key in inner):
            raise ValueError("an option that has no name")
        return {str(key): _argument(one, made, depth + 1) for key, one in inner.items()}
    parts = [_argument(one, made, depth + 1) for one in inner]
    if mark not in ("tuple", "slice"):
        raise ValueError("an argument of no known kind")
    return tuple(parts) if mark == "tuple" else slice(*parts)


def _bounded(value: Any) -> Any:  # noqa: ANN401 - a plain value of JSON
    if isinstance(value, int | float) and abs(value) > _LARGEST_NUMBER and value not in (float("inf"), -float("inf")):
        raise ValueError(f"a number as large as {value:g}")
    return value


def _add_module(network: fx.GraphModule, path: str, plain: dict[str, Any]) -> None:
    if path in dict(network.named_modules()):
        return
    kind, known = MODULES[plain["module"]]
    given = {key: _argument(plain["options"][key], {}) for key in (*known, "bias") if key in plain["options"]}
    with torch.device("meta"):
        layer = kind(**given)
    if not network.add_submodule(path, layer):
        raise ValueError(f"two things are called {path}"[:100])


def _add_constant(network: fx.GraphModule, path: str, plain: dict[str, Any]) -> None:
    *parents, last = path.split(".")
    holder = ".".join(parents)
    if holder and holder not in dict(network.named_modules()):
        network.add_submodule(holder, nn.Module())
    empty = torch.empty([int(_bounded(size)) for size in plain["shape"]], device="meta")
    if plain["learned"]:
        network.get_submodule(holder).register_parameter(last, nn.Parameter(empty))
    else:
        network.get_submodule(holder).register_buffer(last, empty)
