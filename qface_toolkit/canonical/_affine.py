"""Every spelling of a per-channel scale and shift as one module, which folding then removes.

BatchNorm at inference, arithmetic with numbers and with constants of one number a channel all become an `Affine`.
Additions and products of two tensors get one spelling each; a difference is an addition of what an Affine negated.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from qface_toolkit.canonical._constants import constant_of
from qface_toolkit.canonical.edit import (
    bypass,
    call_module,
    calls,
    free_name,
    is_tensor,
    module_of,
    only_user,
    own_module,
    shape_of,
    source,
)
from qface_toolkit.errors import UnsupportedModel

Pair = tuple[torch.Tensor, torch.Tensor]

_SPELLINGS: Mapping[str, tuple[Any, ...]] = {
    "add": (operator.add, operator.iadd, torch.add, "add", "add_"),
    "sub": (operator.sub, operator.isub, torch.sub, torch.subtract, "sub", "sub_", "subtract"),
    "rsub": (torch.rsub,),
    "mul": (operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "mul_", "multiply"),
    "div": (operator.truediv, operator.itruediv, torch.div, torch.divide, torch.true_divide, "div", "div_", "divide"),
    "neg": (operator.neg, torch.neg, torch.negative, "neg", "neg_", "negative"),
}
_KINDS = {spelling: kind for kind, spellings in _SPELLINGS.items() for spelling in spellings}


class Affine(nn.Module):
    """scale * x + shift over axis 1, in float64 so that folding several costs no precision."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, scale: torch.Tensor, shift: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale.detach().double())
        self.register_buffer("shift", shift.detach().double())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scaled and shifted tensor, in the type that came."""
        shape = (1, -1) + (1,) * (x.dim() - 2)
        return (x * self.scale.reshape(shape) + self.shift.reshape(shape)).to(x.dtype)


def affines_for_batch_norms(graph_module: fx.GraphModule) -> None:
    """Write every BatchNorm as what it computes at inference."""
    kinds: tuple[type[_BatchNorm], ...] = (nn.BatchNorm2d, nn.BatchNorm1d)
    for kind in kinds:
        for node, norm in calls(graph_module, kind):
            own_module(node, Affine(*_at_inference(norm)))


def _at_inference(norm: _BatchNorm) -> Pair:
    if norm.running_mean is None or norm.running_var is None:
        raise UnsupportedModel("a BatchNorm keeps no running statistics", fix="fold it by hand before compressing")
    mean, var = norm.running_mean.double(), norm.running_var.double()
    gamma = torch.ones_like(mean) if norm.weight is None else norm.weight.detach().double()
    beta = torch.zeros_like(mean) if norm.bias is None else norm.bias.detach().double()
    scale = gamma / torch.sqrt(var + norm.eps)
    return scale, beta - mean * scale


def arithmetic_one_way(graph_module: fx.GraphModule) -> None:
    """Write arithmetic with constants as Affine, and that of two tensors as `a + b` or `a * b`.

    What is neither (a constant of another shape, a quotient of tensors) stays as it is, for others or to be refused.
    """
    for node in list(graph_module.graph.nodes):
        operands = _operands(node) if is_tensor(node) else None
        if operands is None:
            continue
        if is_tensor(operands.first) and is_tensor(operands.second) and not any(map(_is_constant, operands[1:3])):
            _write_for_tensors(node, operands)
        else:
            _write_for_constant(node, operands)


def kind_of(node: fx.Node) -> str | None:
    """Return which arithmetic operation a node writes in any of its spellings ("add", "div" and so on), or None."""
    called = node.op in ("call_function", "call_method")
    return _KINDS.get(node.target) if called else None


class _Operands(NamedTuple):
    """What an operation computes: first (kind) alpha * second."""

    kind: str
    first: object
    second: object
    alpha: float


def _operands(node: fx.Node) -> _Operands | None:
    """Return what a node computes if it is arithmetic without options that nobody knows."""
    kind, options = kind_of(node), dict(node.kwargs)
    arguments = [*node.args, *(options.pop(name) for name in ("input", "other") if name in options)]
    alpha = options.pop("alpha", 1)
    if kind == "neg":
        kind, arguments = "mul", [*arguments, -1]
    if kind == "rsub":
        kind, arguments = "sub", arguments[::-1]
    if kind is None or options or len(arguments) != 2 or not isinstance(alpha, int | float):
        return None
    return _Operands(kind, arguments[0], arguments[1], float(alpha))


def _write_for_tensors(node: fx.Node, operands: _Operands) -> None:
    kind, first, second, alpha = operands
    if kind == "div":
        return
    if kind != "mul":
        second = _scaled(node, cast(fx.Node, second), -alpha if kind == "sub" else alpha)
    function: Callable[..., Any] = operator.mul if kind == "mul" else operator.add
    node.op, node.target, node.args, node.kwargs = "call_function", function, (cast(Any, first), cast(Any, second)), {}


def _scaled(before: fx.Node, tensor: fx.Node, factor: float) -> fx.Node:
    """Return a tensor times a number, as a call of an Affine in front of a node."""
    if factor == 1:
        return tensor
    owner = cast(fx.GraphModule, before.graph.owning_module)
    channels = shape_of(tensor)[1]
    name = free_name(owner, f"{before.name}_factor")
    owner.add_submodule(name, Affine(torch.full((channels,), factor), torch.zeros(channels)))
    with before.graph.inserting_before(before):
        scaled = before.graph.call_module(name, (tensor,))
    scaled.meta["tensor_meta"] = tensor.meta["tensor_meta"]
    return scaled


def _write_for_constant(node: fx.Node, operands: _Operands) -> None:
    kind, first, second, alpha = operands
    varies, constant = (first, second) if _is_constant(second) else (second, first)
    if not is_tensor(varies) or len(shape_of(varies)) < 2 or shape_of(varies) != shape_of(node):
        return
    value = _by_channel(constant, shape_of(varies))
    if value is None or (kind == "div" and varies is second):
        return
    one, signed = torch.ones_like(value), -alpha if kind == "sub" else alpha
    if kind in ("mul", "div"):
        pair = value if kind == "mul" else 1 / value, 0 * one
    else:
        pair = (one, signed * value) if varies is first else (signed * one, value)
    node.args = (varies,)
    call_module(node, Affine(*pair))


def _is_constant(operand: object) -> bool:
    return isinstance(operand, int | float) or constant_of(operand) is not None


def _by_channel(constant: object, shape: tuple[int, ...]) -> torch.Tensor | None:
    """Return a constant as float64, one number a channel; None if it varies along any other axis of the shape."""
    held = constant_of(constant)
    value = torch.as_tensor(constant if held is None else held).double()
    if value.numel() == 1:
        return value.flatten().expand(shape[1])
    sizes = (1,) * (len(shape) - value.dim()) + tuple(value.shape)
    return value.flatten() if sizes == (1, shape[1]) + (1,) * (len(shape) - 2) else None


def merge_affines(graph_module: fx.GraphModule) -> None:
    """Join an Affine with the one that alone reads it, and drop those that change nothing."""
    for node, second in list(calls(graph_module, Affine)):
        first = module_of(source(node), Affine)
        if first is not None and only_user(source(node)) is node:
            own_module(node, Affine(first.scale * second.scale, first.shift * second.scale + second.shift))
            bypass(source(node))
    for node, affine in list(calls(graph_module, Affine)):
        if torch.allclose(affine.scale, torch.ones_like(affine.scale), rtol=0, atol=1e-7) and not affine.shift.any():
            bypass(node)


PASSES = (affines_for_batch_norms, arithmetic_one_way)
