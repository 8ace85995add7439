"""Every operation that integer kernels do not know as an island in float, with its options as plain values.

These passes come when all others have taken what they know: an island is what is left of a network.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import fx, nn

from qface_toolkit.canonical import _moves, _slices
from qface_toolkit.canonical._affine import Affine, kind_of
from qface_toolkit.canonical._constants import constant_of
from qface_toolkit.canonical._moves import insert, spelling, write
from qface_toolkit.canonical.edit import calls, is_tensor, module_of, own_module, shape_of, source
from qface_toolkit.canonical.graph import can_multiply
from qface_toolkit.canonical.islands import Island, Move

Arguments = Mapping[str, Any]


def arguments(node: fx.Node, *names: str) -> dict[str, Any]:
    """Return a call's arguments behind its first tensor, by name."""
    return dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)


def layer_norms(graph_module: fx.GraphModule) -> None:
    """Write the normalisation of the last axes, over groups of channels and over pixels as islands."""
    for node, norm in list(calls(graph_module, nn.LayerNorm)):
        _write_layer_norm(node, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    for node in list(graph_module.graph.nodes):
        if spelling(node) != "layer_norm" or not is_tensor(node):
            continue
        given = arguments(node, "normalized_shape", "weight", "bias", "eps")
        weight, bias = (None if given.get(key) is None else constant_of(given[key]) for key in ("weight", "bias"))
        _write_layer_norm(node, given["normalized_shape"], weight, bias, float(given.get("eps", 1e-5)))


def _write_layer_norm(
    node: fx.Node,
    sizes: Iterable[int],
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    eps: float,  # noqa: ANN401
) -> None:
    sizes, rank = tuple(sizes), len(shape_of(node))
    shape = (1,) * (rank - len(sizes)) + sizes
    scale = torch.ones(sizes) if weight is None else weight
    shift = torch.zeros(sizes) if bias is None else bias
    axes = tuple(range(rank - len(sizes), rank))
    if 0 not in axes:
        write(node, Island.layer_norm(scale.reshape(shape), shift.reshape(shape), axes, eps), source(node))


def group_norms(graph_module: fx.GraphModule) -> None:
    """Write GroupNorm and InstanceNorm as a layer norm between two reshapes."""
    for node, norm in list(calls(graph_module, nn.GroupNorm)):
        _write_group_norm(node, norm.num_groups, norm.weight, norm.bias, norm.eps)
    for node, instance in list(calls(graph_module, nn.InstanceNorm2d)):
        if not instance.track_running_stats:
            _write_group_norm(node, instance.num_features, instance.weight, instance.bias, instance.eps)


def _write_group_norm(
    node: fx.Node, groups: int, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float
) -> None:
    channels, *pixels = shape_of(node)[1:]
    apart = Move.of("reshape", shape=(groups, channels // groups, *pixels))
    opened = insert(node, f"{node.name}_groups", apart, source(node))
    rank = len(shape_of(opened))
    shape = (1, groups, channels // groups) + (1,) * len(pixels)
    scale = torch.ones(channels) if weight is None else weight
    shift = torch.zeros(channels) if bias is None else bias
    island = Island.layer_norm(scale.reshape(shape), shift.reshape(shape), tuple(range(2, rank)), eps)
    normed = insert(node, f"{node.name}_normed", island, opened)
    write(node, Move.of("reshape", shape=(channels, *pixels)), normed)


def units(graph_module: fx.GraphModule) -> None:
    """Write F.normalize as an island, wherever it is not the embedding's at the end."""
    for node in list(graph_module.graph.nodes):
        if node.target is not F.normalize or not is_tensor(node):
            continue
        given = {"p": 2.0, "dim": 1, "eps": 1e-12} | arguments(node, "p", "dim", "eps")
        rank, last = len(shape_of(node)), all(user.op == "output" for user in node.users)
        axis = int(given["dim"]) % rank
        if float(given["p"]) == 2 and axis and not (rank == 2 and last):
            write(node, Island.of("unit", axes=(axis,), eps=float(given["eps"])), source(node))


_UNARY: Mapping[str, tuple[str, Callable[[Arguments], Arguments]]] = {
    **{name: (name, lambda _: {}) for name in ("sqrt", "exp", "log", "erf", "tanh", "reciprocal")},
    "softplus": ("softplus", lambda given: {key: float(given[key]) for key in ("beta", "threshold") if key in given}),
    "gelu": ("gelu", lambda given: {"approximate": str(given.get("approximate", "none"))}),
    "elu": ("elu", lambda given: {"alpha": float(given.get("alpha", 1.0))}),
}
_NAMES: Mapping[str, tuple[str, ...]] = {
    "softplus": ("beta", "threshold"),
    "gelu": ("approximate",),
    "elu": ("alpha",),
}
_MODULES: Mapping[type[nn.Module], Callable[[Any], Island]] = {
    nn.GELU: lambda gelu: Island.of("gelu", approximate=gelu.approximate),
    nn.Tanh: lambda _: Island.of("tanh"),
    nn.ELU: lambda elu: Island.of("elu", alpha=float(elu.alpha)),
    nn.Softplus: lambda one: Island.of("softplus", beta=float(one.beta), threshold=float(one.threshold)),
    nn.Hardtanh: lambda one: Island.of("clip", low=_bound(one.min_val), high=_bound(one.max_val)),
    nn.Softmax: lambda one: Island.of("softmax", axis=one.dim),
}


def _bound(limit: float) -> float | None:
    return float(limit) if math.isfinite(limit) else None


def functions_of_numbers(graph_module: fx.GraphModule) -> None:
    """Write functions of single numbers as islands."""
    for node in list(graph_module.graph.nodes):
        name = spelling(node).rstrip("_")
        if not is_tensor(node) or not node.args or not is_tensor(node.args[0]):
            continue
        if node.op == "call_module":
            _write_module(graph_module, node)
        elif name in _UNARY:
            kind, options = _UNARY[name]
            write(node, Island.of(kind, **options(arguments(node, *_NAMES.get(name, ())))), source(node))
        elif name == "rsqrt":
            write(node, Island.of("power", exponent=-0.5), source(node))
        elif name == "square":
            write(node, Island.of("power", exponent=2.0), source(node))
        elif name == "pow" and isinstance(node.args[1], int | float):
            write(node, Island.of("power", exponent=float(node.args[1])), source(node))
        elif name in ("abs", "absolute"):
            write(node, Island.of("abs"), source(node))


def _write_module(graph_module: fx.GraphModule, node: fx.Node) -> None:
    module = graph_module.get_submodule(str(node.target))
    make = _MODULES.get(type(module))
    if make is None:
        return
    island = make(module)
    if island.kind == "softmax":
        island = Island.of("softmax", axis=int(cast(int, island.options["axis"])) % len(shape_of(node)))
    own_module(node, island)


def products_for_mish(graph_module: fx.GraphModule) -> None:
    """Write Mish as x * tanh(softplus(x))."""
    for node in list(graph_module.graph.nodes):
        if module_of(node, nn.Mish) is not None or (spelling(node) == "mish" and is_tensor(node)):
            soft = insert(node, f"{node.name}_softplus", Island.of("softplus"), source(node))
            gate = insert(node, f"{node.name}_tanh", Island.of("tanh"), soft)
            write(node, Island.of("times"), source(node), gate)


def affines_of_other_shapes(graph_module: fx.GraphModule) -> None:
    """Write a scale and shift of what are neither images nor vectors as an island: no layer takes it."""
    for node, affine in list(calls(graph_module, Affine)):
        shape = shape_of(node)
        if len(shape) not in (2, 4):
            spread = (1, -1) + (1,) * (len(shape) - 2)
            own_module(node, Island.of("scaled", affine.scale.reshape(spread), affine.shift.reshape(spread)))


_BINARY = {"add": "plus", "sub": "minus", "mul": "times", "div": "quotient"}


def arithmetic_of_other_shapes(graph_module: fx.GraphModule) -> None:
    """Write sums, products and quotients that are none of channels as islands, and the larger and smaller of two."""
    for node in list(graph_module.graph.nodes):
        if not is_tensor(node):
            continue
        name = spelling(node)
        kind = _BINARY.get(kind_of(node) or "")
        if name in ("maximum", "minimum", "max", "min") and len(node.args) == 2 and not node.kwargs:
            kind = name[:3] + "imum"
        if kind is not None and len(node.args) == 2 and not node.kwargs and not _known(node, kind):
            _write_binary(node, kind)


def _known(node: fx.Node, kind: str) -> bool:
    """Tell whether integer kernels compute a sum or product."""
    if (
        kind not in ("plus", "times")
        or not all(map(is_tensor, node.args))
        or any(constant_of(one) is not None for one in node.args)
    ):
        return False
    shapes = [shape_of(cast(fx.Node, one)) for one in node.args]
    if any(len(shape) not in (2, 4) for shape in shapes):
        return False
    return len(set(shapes)) == 1 if kind == "plus" else can_multiply(shapes)


def _write_binary(node: fx.Node, kind: str) -> None:
    tensors, constants = list[fx.Node](), list[torch.Tensor]()
    for argument in node.args:
        held = constant_of(argument)
        if held is None and is_tensor(argument):
            tensors.append(argument)
        else:
            constants.append(torch.as_tensor(argument if held is None else held, dtype=torch.float32))
    if len(tensors) + len(constants) != 2 or not tensors:
        return
    if constants and not is_tensor_first(node) and kind in ("minus", "quotient"):
        turned = Island.of("reciprocal") if kind == "quotient" else Island.of("times", torch.tensor(-1.0))
        tensors = [insert(node, f"{node.name}_turned", turned, tensors[0])]
        kind = "times" if kind == "quotient" else "plus"
    write(node, Island.of(kind, *(_beside(constant, tensors) for constant in constants)), *tensors)


def _beside(constant: torch.Tensor, tensors: list[fx.Node]) -> torch.Tensor:
    """Return a constant that has rows and columns with as many axes as the tensors: its second is that of channels."""
    rank = max(len(shape_of(tensor)) for tensor in tensors)
    missing = rank - constant.dim() if constant.dim() > 2 else 0
    return constant.reshape((1,) * missing + tuple(constant.shape))


def is_tensor_first(node: fx.Node) -> bool:
    """Tell whether the first operand depends on the image."""
    return is_tensor(node.args[0]) and constant_of(node.args[0]) is None


def products_of_matrices(graph_module: fx.GraphModule) -> None:
    """Write products of two activations, or with a constant, as an island."""
    for node in list(graph_module.graph.nodes):
        if spelling(node) in ("matmul", "bmm") and is_tensor(node) and len(node.args) == 2:
            tensors = [one for one in node.args if constant_of(one) is None]
            if len(tensors) == 2 and all(map(is_tensor, tensors)):
                write(node, Island.of("matmul"), *cast(list[fx.Node], tensors))
            elif tensors and tensors[0] is node.args[0]:
                held = cast(torch.Tensor, constant_of(node.args[1]))
                write(node, Island.of("matmul", held), cast(fx.Node, tensors[0]))
            elif tensors and is_tensor(node.args[1]) and cast(torch.Tensor, constant_of(node.args[0])).dim() > 1:
                _write_turned(node, cast(torch.Tensor, constant_of(node.args[0])), node.args[1])


def _write_turned(node: fx.Node, held: torch.Tensor, tensor: fx.Node) -> None:
    """Write the product of a constant and a tensor as the turned product of what both are when turned."""
    rank = len(shape_of(node))
    turn = Move.of("permute", order=(*range(rank - 2), rank - 1, rank - 2))
    turned = insert(node, f"{node.name}_turned", turn, tensor)
    product = insert(node, f"{node.name}_product", Island.of("matmul", held.transpose(-1, -2)), turned)
    write(node, Move.of("permute", order=turn.options["order"]), product)


def activations_of_other_shapes(graph_module: fx.GraphModule) -> None:
    """Write the activations of what are neither images nor vectors as islands, and PReLU of all but images."""
    for node, prelu in list(calls(graph_module, nn.PReLU)):
        if len(shape_of(node)) != 4:
            spread = (1, -1) + (1,) * (len(shape_of(node)) - 2)
            own_module(node, Island.of("sloped", prelu.weight.detach().reshape(spread)))
    kinds: Mapping[type[nn.Module], Island] = {
        nn.ReLU: Island.of("clip", low=0.0, high=None),
        nn.ReLU6: Island.of("clip", low=0.0, high=6.0),
        nn.Sigmoid: Island.of("logistic"),
        nn.Hardsigmoid: Island.of("hard_logistic"),
    }
    for kind, island in kinds.items():
        for node, _ in list(calls(graph_module, kind)):
            if len(shape_of(node)) not in (2, 4):
                own_module(node, Island.of(island.kind, **island.options))


PASSES = (
    products_for_mish,
    layer_norms,
    group_norms,
    units,
    functions_of_numbers,
    products_of_matrices,
    _slices.slices_for_splits,
    _slices.slices_for_indexing,
    _slices.picks_for_indices,
    _moves.moves_for_shuffles,
    _moves.moves_for_permutations,
    _moves.moves_for_reshapes,
    _moves.joins_for_concatenations,
    affines_of_other_shapes,
    arithmetic_of_other_shapes,
    activations_of_other_shapes,
    _moves.drop_idle_moves,
    _moves.flatten_what_was_there,
)
