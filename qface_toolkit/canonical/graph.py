"""The closed set of canonical operations, and a canonical network as plain values that travel in a JSON file.

Weights stay in the module's state dict; what is written here is the structure alone, so that a result can be
lowered again without the code that built the network.
"""

import math
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import fx, nn

from qface_toolkit.canonical.islands import Island, Move
from qface_toolkit.errors import ArtifactError, UnsupportedModel

_CONV_OPTIONS = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
_OPERATION_OPTIONS = ("kind", "options", "shapes")
_POOL_OPTIONS = ("kernel_size", "stride", "padding", "ceil_mode")

MODULES: Mapping[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    "conv": (nn.Conv2d, _CONV_OPTIONS),
    "linear": (nn.Linear, ("in_features", "out_features")),
    "prelu": (nn.PReLU, ("num_parameters",)),
    "relu": (nn.ReLU, ()),
    "relu6": (nn.ReLU6, ()),
    "sigmoid": (nn.Sigmoid, ()),
    "hard_sigmoid": (nn.Hardsigmoid, ()),
    "max_pool": (nn.MaxPool2d, _POOL_OPTIONS),
    "average_pool": (nn.AvgPool2d, (*_POOL_OPTIONS, "count_include_pad")),
    "global_average_pool": (nn.AdaptiveAvgPool2d, ("output_size",)),
    "island": (Island, _OPERATION_OPTIONS),
    "move": (Move, _OPERATION_OPTIONS),
}
"""Operation name -> the module that computes it and the constructor's arguments that describe it."""

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "add": operator.add,
    "mul": operator.mul,
    "concat": torch.cat,
    "flatten": torch.flatten,
    "normalize": F.normalize,
}
"""Operation name -> the function that computes it.

concat joins channels, flatten makes [N, C*H*W]. A factor of mul may be [N, C, 1, 1]. normalize makes rows of unit
length, divided by `eps` at least, and only the output reads it.
"""

_REASONS: Mapping[Any, str] = {
    F.pad: "padding that is not zeros right before a convolution or an average pool",
    operator.truediv: "division of two tensors",
    "permute": "permutation of axes that no flatten before a linear layer absorbs",
    torch.permute: "permutation of axes that no flatten before a linear layer absorbs",
}
"""What to say of operations whose bare name does not tell why they are refused."""

_OF_SEVERAL = ("add", "mul", "concat", "island", "move")
"""Operations that may read a tensor twice."""
_ON_CHANNELS = ("add", "mul", "concat", "prelu", "relu", "relu6", "sigmoid", "hard_sigmoid")
"""Operations of integer kernels that other shapes than [N, C, H, W] and [N, C] have islands for."""
_OPERATION_OF_TYPE = {kind: name for name, (kind, _) in MODULES.items()}
_OPERATION_OF_FUNCTION: Mapping[Any, str] = {function: name for name, function in FUNCTIONS.items()}
_BOUNDS = {"placeholder": "input", "output": "output"}


def operation(node: fx.Node) -> str | None:
    """Return the canonical name of what a node does ("input" and "output" for the ends), or None if it has none."""
    if node.op == "call_module" and node.graph.owning_module is not None:
        return _OPERATION_OF_TYPE.get(type(node.graph.owning_module.get_submodule(str(node.target))))
    if node.op == "call_function":
        return _OPERATION_OF_FUNCTION.get(node.target)
    return _BOUNDS.get(node.op)


def inputs(node: fx.Node) -> list[fx.Node]:
    """Return the tensors that a node reads, in order."""
    name = operation(node)
    if name not in _OF_SEVERAL:
        return list(node.all_input_nodes)
    arguments = cast(Sequence[Any], node.args[0]) if name == "concat" else node.args
    return [argument for argument in arguments if isinstance(argument, fx.Node)]


def module(node: fx.Node) -> Any:  # noqa: ANN401 - each caller knows which module its operation has
    """Return the module that a node calls."""
    assert node.graph.owning_module is not None
    return node.graph.owning_module.get_submodule(str(node.target))


def check_operations(network: fx.GraphModule) -> None:
    """Check that a network is canonical.

    Raises:
        UnsupportedModel: listing every node that is not, with what it does.
    """
    strangers = [f"{node.name}: {reason}" for node in network.graph.nodes if (reason := _objection(network, node))]
    if strangers:
        raise UnsupportedModel(
            "the network holds operations that no lowering knows",
            where="; ".join(strangers[:12]),
            fix="cut them off the network (a classifier, for instance), or replace them",
        )


def _objection(network: fx.GraphModule, node: fx.Node) -> str | None:
    name = operation(node)
    if name is None:
        return _stranger(network, node)
    if name in _ON_CHANNELS and any(len(shape) not in (2, 4) for shape in _shapes(node)):
        return "an operation on channels of what has none"
    if name in FUNCTIONS:
        return _objection_to_function(name, node)
    if name == "output" and not isinstance(node.args[0], fx.Node):
        return "more outputs than the embedding"
    if name == "conv":
        conv = module(node)
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            return f"convolution with padding {conv.padding_mode}/{conv.padding}"
    return _objection_to_pool(name, module(node)) if name.endswith("_pool") else None


def _stranger(network: fx.GraphModule, node: fx.Node) -> str:
    if node.op == "call_module":
        return type(network.get_submodule(str(node.target))).__name__
    if node.op == "get_attr":
        return "a constant that is neither one number nor one a channel"
    return _REASONS.get(node.target, getattr(node.target, "__name__", str(node.target)))


def _objection_to_function(name: str, node: fx.Node) -> str | None:
    if name in ("add", "mul") and len(inputs(node)) != 2:
        return "addition of a constant" if name == "add" else "multiplication by a constant"
    if name == "add" and len(set(_shapes(node))) > 1:
        return "sum of tensors of different sizes"
    if name == "mul" and not can_multiply(_shapes(node)):
        return "product of tensors of different sizes, none of them one number a channel"
    if name == "concat" and (node.args[1:] or node.kwargs.get("dim", 0)) not in ((1,), (-3,), 1, -3):
        return "concatenation along another axis than the channels"
    return _objection_to_normalize(node) if name == "normalize" else None


def _shaped(node: fx.Node) -> list[fx.Node]:
    """Return the tensors that a node reads, if the shapes of all of them are known; else none."""
    sources = inputs(node)
    return sources if all("tensor_meta" in source.meta for source in sources) else []


def _shapes(node: fx.Node) -> list[tuple[int, ...]]:
    return [tuple(source.meta["tensor_meta"].shape) for source in _shaped(node)]


def can_multiply(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Tell whether integer kernels multiply tensors of these shapes: of one size, or one of them a gate."""
    gates = [shape for shape in shapes if shape[2:] == (1, 1)]
    return len(set(shapes)) <= 1 or (bool(gates) and len({shape[:2] for shape in shapes}) == 1)


def _objection_to_normalize(node: fx.Node) -> str | None:
    vectors = all(len(source.meta["tensor_meta"].shape) == 2 for source in _shaped(node))
    if node.kwargs.get("p") != 2 or node.kwargs.get("dim") != 1 or not vectors:
        return "normalisation other than of each embedding to unit length"
    if any(operation(user) != "output" for user in node.users):
        return "normalisation that is not the last operation"
    return None


def _objection_to_pool(name: str, pool: Any) -> str | None:  # noqa: ANN401 - one of three modules
    if name == "global_average_pool" and pool.output_size not in (1, (1, 1)):
        return "adaptive pooling to more than one pixel"
    if name == "max_pool" and pool.dilation not in (1, (1, 1)):
        return "max pooling with dilation"
    if name == "average_pool" and (pool.ceil_mode or not pool.count_include_pad or pool.divisor_override):
        return "average pooling over windows of different sizes"
    return None


def to_plain(network: fx.GraphModule) -> list[dict[str, Any]]:
    """Return the structure of a canonical network: one plain dictionary a node, in order of execution."""
    return [_plain_node(node) for node in network.graph.nodes]


def _plain_node(node: fx.Node) -> dict[str, Any]:
    name = str(operation(node))
    plain: dict[str, Any] = {"name": node.name, "operation": name, "inputs": [source.name for source in inputs(node)]}
    if name in MODULES:
        plain["module"] = str(node.target)
        plain["options"] = {key: getattr(module(node), key) for key in MODULES[name][1]}
    if name == "normalize":
        plain["eps"] = node.kwargs["eps"]
    return plain


def from_plain(nodes: list[dict[str, Any]]) -> fx.GraphModule:
    """Build the canonical network, weights unset, from what `to_plain` returned.

    Raises:
        ArtifactError: if the description holds anything that `to_plain` does not write.
    """
    root, graph, made = nn.Module(), fx.Graph(), dict[str, fx.Node]()
    try:
        for plain in nodes:
            made[plain["name"]] = _built_node(root, graph, plain, [made[name] for name in plain["inputs"]])
        graph.lint()
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise ArtifactError(f"the description of the network is damaged: {error}", fix="compress again") from error
    return fx.GraphModule(root, graph)


def _built_node(root: nn.Module, graph: fx.Graph, plain: dict[str, Any], sources: list[fx.Node]) -> fx.Node:
    name = plain["operation"]
    if name == "input":
        return graph.create_node("placeholder", plain["name"], name=plain["name"])
    if name == "output":
        return graph.create_node("output", "output", (sources[0],))
    if name in FUNCTIONS:
        if name in ("add", "mul") and len(sources) != 2:
            raise ValueError(f"{name} of {len(sources)} tensors")
        arguments: dict[str, tuple[Any, ...]] = {"concat": (sources, 1), "flatten": (*sources, 1)}
        options: dict[str, Any] = {"p": 2.0, "dim": 1, "eps": _least(plain["eps"])} if name == "normalize" else {}
        positional = arguments.get(name, tuple(sources))
        return graph.create_node("call_function", FUNCTIONS[name], positional, options, name=plain["name"])
    kind, known = MODULES[name]
    if str(plain["module"]) in dict(root.named_modules()):
        raise ValueError(f"two operations call {plain['module']}")
    given = {key: tuple(v) if isinstance(v := plain["options"][key], list) else v for key in known}
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # layers of size zero warn; the weights that do not fit are refused later
        _add_module(root, plain["module"], kind(**given))
    return graph.create_node("call_module", plain["module"], tuple(sources), name=plain["name"])


def _least(eps: object) -> float:
    """Return the least divisor of a normalisation; anything but a number that divides is damage."""
    if isinstance(eps, bool) or not isinstance(eps, int | float) or not 0 <= eps < math.inf:
        raise ValueError(f"a normalisation cannot divide by {eps!r} at least")
    return float(eps)


def _add_module(root: nn.Module, path: str, child: nn.Module) -> None:
    *parents, last = path.split(".")
    for name in parents:
        if name not in root._modules:
            root.add_module(name, nn.Module())
        root = root._modules[name]  # type: ignore[assignment]  # just added, so not None
    root.add_module(last, child)
