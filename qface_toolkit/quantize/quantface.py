"""The rule that QuantFace publishes (Boutros et al., arXiv 2206.10526), rebuilt from its description, none of its code.

Every convolution, linear layer and PReLU slope is rounded from its float weights anew at every step, per output channel
(slopes: one grid a layer, at the width of activations), between minimum and maximum; activations behind every
activation function and every residual sum, per tensor, between the smallest and the largest value seen so far.
BatchNorm stays float and unfolded, the input, the embedding and all other tensors too, so no integer file can be
written: this is a simulation.
"""

import copy
import operator
from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import Tensor, fx, nn

from qface_toolkit.errors import UnsupportedModel


class _PReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slopes: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
        ctx.save_for_backward(x, slopes)
        return F.prelu(x, slopes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - torch's context
        x, slopes = ctx.saved_tensors
        below = (x <= 0).to(x.dtype).mul_(gradient)
        of_input = torch.addcmul(gradient, below, slopes.reshape(1, -1, *[1] * (x.dim() - 2)) - 1)
        axes = [axis for axis in range(x.dim()) if axis != 1 or len(slopes) == 1]
        return of_input, below.mul_(x).sum(axes).reshape(slopes.shape)


def prelu(x: Tensor, slopes: Tensor) -> Tensor:
    """Return x [N, C, ...] where it is positive, elsewhere times its channel's slope, of one or C slopes."""
    if not torch.is_grad_enabled():
        return F.prelu(x, slopes)
    return cast(Tensor, _PReLU.apply(x, slopes))  # type: ignore[no-untyped-call]  # torch ships it so


SUMS = (operator.add, operator.iadd, torch.add)
ACTIVATIONS = (nn.PReLU, nn.ReLU, nn.ReLU6, nn.LeakyReLU)
ACTIVATION_FUNCTIONS = (F.relu, torch.relu, F.relu6, F.leaky_relu)
_SMALLEST_SPAN = 1e-8


def rounded(x: Tensor, low: Tensor, high: Tensor, bits: int, *, in_place: bool = False) -> Tensor:
    """Return x on the grid of 2^bits points between low and high, which broadcast over it.

    QuantFace's own formula: s = (2^k - 1) / (high - low), z = round(s low) + 2^(k-1), and (q + z) / s for the code
    q = clamp(round(s x - z), -2^(k-1), 2^(k-1) - 1).
    """
    half, scale = 2 ** (bits - 1), torch.full_like(low, 2**bits - 1) / torch.clamp(high - low, min=_SMALLEST_SPAN)
    zero = torch.round(scale * low) + half
    scaled = x.mul_(scale) if in_place else x * scale
    return scaled.sub_(zero).round_().clamp_(-half, half - 1).add_(zero).div_(scale)


class _Straight(torch.autograd.Function):
    """Round on the way forward, and pass the gradient on as it is, beyond the range too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, high: Tensor, bits: int, in_place: bool) -> Tensor:  # noqa: ANN401 - torch's context
        if in_place:
            ctx.mark_dirty(x)
        return rounded(x, low, high, bits, in_place=in_place)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:  # noqa: ANN401 - torch's context
        return gradient, None, None, None, None


def fake_quantize(x: Tensor, low: Tensor, high: Tensor, bits: int, *, in_place: bool = False) -> Tensor:
    """Round x, so that it can be trained through; `in_place` where nobody else needs it."""
    if not torch.is_grad_enabled():
        return rounded(x, low, high, bits, in_place=in_place)
    return cast(Tensor, _Straight.apply(x, low, high, bits, in_place))  # type: ignore[no-untyped-call]  # torch ships it so


def round_weight(weight: Tensor, bits: int) -> Tensor:
    """Round a weight between its own minimum and maximum: per output channel, a vector of slopes as a whole."""
    rows = weight.detach().flatten(1) if weight.dim() > 1 else weight.detach()[None]
    low, high = torch.aminmax(rows, dim=1)
    shape = (-1, *[1] * (weight.dim() - 1))
    return fake_quantize(weight, low.reshape(shape), high.reshape(shape), bits)


class RoundedLayer(nn.Module):
    """A convolution, linear layer or PReLU that computes with rounded weights; its bias stays float."""

    def __init__(self, layer: nn.Conv2d | nn.Linear | nn.PReLU, bits: int) -> None:
        super().__init__()
        self.layer, self.bits = layer, bits

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer."""
        layer, weight = self.layer, round_weight(self.layer.weight, self.bits)
        if isinstance(layer, nn.PReLU):
            return prelu(x, weight)
        compute = F.linear if isinstance(layer, nn.Linear) else layer._conv_forward
        return cast(Tensor, compute(x, weight, layer.bias))


class ActivationGrid(nn.Module):
    """The grid of an activation: between all values that were seen while `is_open`, and zero."""

    low: Tensor
    high: Tensor

    def __init__(self, bits: int, *, in_place: bool = False) -> None:
        super().__init__()
        self.bits, self.in_place, self.is_open = bits, in_place, True
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Round x."""
        if self.is_open:
            low, high = torch.aminmax(x.detach())
            self.low.copy_(torch.minimum(self.low, low))
            self.high.copy_(torch.maximum(self.high, high))
        return fake_quantize(x, self.low.clone(), self.high.clone(), self.bits, in_place=self.in_place)


def with_grids(network: nn.Module, weight_bits: int, activation_bits: int) -> fx.GraphModule:
    """Return a copy of a network with all grids in it; its ranges have seen nothing yet.

    Raises:
        UnsupportedModel: if the network cannot be traced.
    """
    student = traced(network)
    for node in list(student.graph.nodes):
        if _is_rounded(student, node):
            with student.graph.inserting_after(node):
                student.add_module(f"grid_{node.name}", _grid(student, node, activation_bits))
                grid = student.graph.call_module(f"grid_{node.name}", (node,))
            node.replace_all_uses_with(grid, lambda user, grid=grid: user is not grid)
    for path, layer in list(student.named_modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.PReLU):
            bits = activation_bits if isinstance(layer, nn.PReLU) else weight_bits
            student.add_submodule(path, RoundedLayer(layer, bits))
    student.recompile()
    return student


def traced(network: nn.Module) -> fx.GraphModule:
    """Return a copy of a network as a graph; one that is a graph already keeps its names.

    Raises:
        UnsupportedModel: if its forward depends on tensor values.
    """
    if isinstance(network, fx.GraphModule):
        return copy.deepcopy(network)
    try:
        return fx.symbolic_trace(copy.deepcopy(network))
    except (fx.proxy.TraceError, TypeError, AttributeError, RuntimeError) as error:
        what = f"the network's forward cannot be traced: {error}"
        raise UnsupportedModel(what, where=type(network).__name__, fix="pass the backbone alone") from error


def _is_rounded(student: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(student.get_submodule(str(node.target)), ACTIVATIONS)
    sums = node.target in SUMS and all(isinstance(argument, fx.Node) for argument in node.args)
    return node.op == "call_function" and (sums or node.target in ACTIVATION_FUNCTIONS)


def _grid(student: fx.GraphModule, node: fx.Node, bits: int) -> ActivationGrid:
    """Return the grid behind a node; what autograd keeps for the way back must not be rounded in place."""
    module = student.get_submodule(str(node.target)) if node.op == "call_module" else None
    kept = isinstance(module, nn.ReLU) or getattr(module, "inplace", False) or node.target in ACTIVATION_FUNCTIONS
    return ActivationGrid(bits, in_place=not kept)


def grids(student: nn.Module) -> Iterator[ActivationGrid]:
    """Yield the grids of activations."""
    return (module for module in student.modules() if isinstance(module, ActivationGrid))


def rounded_layers(student: nn.Module) -> Iterator[RoundedLayer]:
    """Yield the layers that compute with rounded weights."""
    return (module for module in student.modules() if isinstance(module, RoundedLayer))


def open_ranges(student: nn.Module, *, opened: bool) -> None:
    """Let the ranges of activations grow, or keep them."""
    for grid in grids(student):
        grid.is_open = opened
