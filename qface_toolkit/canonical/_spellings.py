"""Recognise activations that are spelled out in several operations, by what they compute, and call them by their names.

Exporters and people write a PReLU as relu(x) - a * relu(-x), as max(x, 0) + a * min(x, 0) or with |x|, a GELU with erf,
divisions and products. Whatever makes one number of one number is tried on numbers from -10000 to 10000: if it is a
known activation there, it becomes that, so no list of spellings is needed.
"""

import copy
import re
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import fx, nn

from qface_toolkit.canonical._constants import constant_of
from qface_toolkit.canonical.edit import call_module, is_tensor, shape_of

_LONGEST = 16
"""Operations that spell one activation, at most: Mish by exponentials takes seven."""

_MODULES = (
    *(nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Sigmoid, nn.Hardsigmoid, nn.Tanh, nn.Softplus, nn.LeakyReLU, nn.ELU),
    *(nn.SiLU, nn.Hardswish, nn.GELU),
)
_FUNCTION = re.compile(
    "i?(add|sub|mul|truediv)|rsub|div|neg|abs|sign|pow|square|sqrt|rsqrt|reciprocal|exp|log|log1p|erf|tanh|expit|sigmoid"
    "|hardsigmoid|relu6?|leaky_relu|hardtanh|softplus|silu|hardswish|elu|gelu"
    "|clamp|clip|clamp_min|clamp_max|maximum|minimum|max|min|gt|ge|lt|le|where"
)
_GATES = (nn.SiLU, nn.Hardswish, nn.Hardsigmoid)
_ALREADY_KNOWN = frozenset(
    [
        "add",
        "mul",
        "truediv",
        "div",
        "relu6",
        "hardtanh",
        "clamp",
        "clip",
        "sigmoid",
        "hardsigmoid",
        "ReLU6",
        "Hardtanh",
        "Sigmoid",
        "Hardsigmoid",
    ]
)
"""What gates may be spelled with for the later passes to know them; those stay as they are."""

_NEAR = torch.linspace(-8, 8, 129, dtype=torch.float64)
_FAR = torch.logspace(-4, 4, 41, dtype=torch.float64)
_TRIED = torch.cat([-_FAR.flip(0), _NEAR, _FAR])
_SURE = 60.0
"""As far from zero every spelling is finite; beyond it, exponentials may overflow where the activation does not."""

_NAMED: tuple[nn.Module, ...] = (
    nn.GELU(),
    nn.GELU(approximate="tanh"),
    nn.Mish(),
    nn.SiLU(),
    nn.Hardswish(),
    nn.Hardsigmoid(),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.Softplus(),
    nn.ELU(),
)


def name_activations(graph_module: fx.GraphModule) -> None:
    """Replace each chain of operations that is an activation of one tensor by the module of that name."""
    places = {node: place for place, node in enumerate(graph_module.graph.nodes)}
    for node in reversed(list(graph_module.graph.nodes)):
        if node.users and _is_pointwise(node) and _rename(node, places):
            graph_module.graph.eliminate_dead_code()


def _rename(node: fx.Node, places: dict[fx.Node, int]) -> bool:
    """Let a node call the activation that the longest chain up to it is; tell whether there is one."""
    for before, chain in reversed(list(_chains(node, places))):
        found = _named(chain, before)
        if found is not None:
            node.args = (before,)
            call_module(node, found)
            return True
    return False


def _chains(node: fx.Node, places: dict[fx.Node, int]) -> Iterator[tuple[fx.Node, list[fx.Node]]]:
    """Yield (tensor, operations) of each chain that makes a node of one tensor, the shortest first."""
    waiting, inside = {node}, list[fx.Node]()
    while len(inside) < _LONGEST:
        latest = max(waiting, key=lambda one: places[one])
        if not _is_pointwise(latest):
            return
        waiting.remove(latest)
        inside.insert(0, latest)
        waiting.update(entering for entering in latest.all_input_nodes if constant_of(entering) is None)
        if not waiting:
            return
        if len(waiting) == 1 and len(inside) > 1:
            yield next(iter(waiting)), list(inside)


def _is_pointwise(node: fx.Node) -> bool:
    """Tell whether each number that a node makes is made of the numbers in its place alone, and of constants."""
    if not is_tensor(node) or not node.all_input_nodes:
        return False
    entering = [one for one in node.all_input_nodes if constant_of(one) is None]
    if not entering or any(not is_tensor(one) or shape_of(one) != shape_of(node) for one in entering):
        return False
    return (
        _FUNCTION.fullmatch(_name(node)) is not None
        or any(_name(node) == kind.__name__ for kind in _MODULES)
        or _is_shared_prelu(node)
    )


def _name(node: fx.Node) -> str:
    """Return what a node does in one word: a function's or method's name, or a module's type."""
    if node.op == "call_module":
        return type(_module(node)).__name__
    if node.op == "call_method":
        return str(node.target).removesuffix("_")
    return str(getattr(node.target, "__name__", "")) if node.op == "call_function" else ""


def _module(node: fx.Node) -> nn.Module:
    return cast(fx.GraphModule, node.graph.owning_module).get_submodule(str(node.target))


def _is_shared_prelu(node: fx.Node) -> bool:
    """Tell whether a node is a PReLU with one slope: so |x| is written where it stands alone."""
    return _name(node) == "PReLU" and cast(nn.PReLU, _module(node)).num_parameters == 1


def _named(chain: list[fx.Node], before: fx.Node) -> nn.Module | None:
    """Return the activation that a chain of operations on a tensor is, None if it is none that has a name."""
    rank = len(shape_of(before))
    numbers = _TRIED.reshape(-1, *(1 for _ in range(rank - 1)))
    try:
        with torch.no_grad():
            made = _run(chain, before, numbers)
    except (RuntimeError, TypeError, ValueError, IndexError):
        return None
    if not isinstance(made, torch.Tensor) or made.dim() != rank or len(made) != len(numbers):
        return None
    if made[0].numel() == 1:
        found = next((module for module in _NAMED if _agree(made, module(numbers), numbers)), None)
        spelled = {_name(node) for node in chain}
        if isinstance(found, _GATES) and spelled <= _ALREADY_KNOWN:
            return None
        return copy.deepcopy(found) if found is not None else _clamp(made, numbers) or _prelu(made, numbers)
    return _prelu(made, numbers)


def _run(chain: list[fx.Node], before: fx.Node, numbers: torch.Tensor) -> Any:  # noqa: ANN401 - whatever nodes make
    made: dict[fx.Node, Any] = {before: numbers}

    def value(node: fx.Node) -> Any:  # noqa: ANN401 - whatever nodes make
        held = constant_of(node)
        return made[node] if held is None else held.double()

    for node in chain:
        args, kwargs = cast(Any, fx.node.map_arg((node.args, node.kwargs), value))
        args = [arg.clone() if isinstance(arg, torch.Tensor) else arg for arg in args]  # some work in place
        if node.op == "call_module":
            made[node] = copy.deepcopy(_module(node)).double()(*args)
        else:
            function: Any = getattr(torch.Tensor, str(node.target)) if node.op == "call_method" else node.target
            made[node] = function(*args, **kwargs)
    return made[chain[-1]]


def _agree(made: torch.Tensor, expected: torch.Tensor, numbers: torch.Tensor) -> bool:
    sure = (numbers.abs() <= _SURE) | torch.isfinite(made)
    off = (made - expected).abs() <= 1e-6 * (1 + expected.abs())
    return bool((off | ~sure).all())


def _clamp(made: torch.Tensor, numbers: torch.Tensor) -> nn.Module | None:
    """Return the clamp between two numbers that a chain is."""
    low, high = float(made.min()), float(made.max())
    bounded = -_SURE < low < high < _SURE
    if not bounded or not _agree(made, numbers.clamp(low, high), numbers):
        return None
    return nn.Hardtanh(low, high)


def _prelu(made: torch.Tensor, numbers: torch.Tensor) -> nn.Module | None:
    """Return the ReLU or PReLU that a chain is, with a slope for each channel or one for all."""
    if any(size != 1 for size in made.shape[2:]):
        return None
    slopes = -made[numbers.flatten() == -1.0][:1]
    if not _agree(made, numbers.clamp(min=0) + slopes * numbers.clamp(max=0), numbers) or bool((slopes == 1).all()):
        return None
    if not bool(slopes.any()):
        return nn.ReLU()
    prelu = nn.PReLU(slopes.numel())
    prelu.weight.data.copy_(slopes.flatten())
    return prelu


PASSES = (name_activations,)
