"""What operations of a program are made of: a model's grids and constants in a target, and how a layer is called."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import fx, nn

from qface_toolkit.canonical.graph import inputs, module, operation
from qface_toolkit.canonical.islands import Island, Move
from qface_toolkit.integer import program as ops
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.plan import LAYERS
from qface_toolkit.quantize.scheme import Grid
from qface_toolkit.quantize.target import Target
from qface_toolkit.quantize.weights import (
    FLOAT_STEP,
    WeightGrid,
    Width,
    kept_grid,
    layer_bias,
    weight_grid,
)


class Maker:
    """A model in a target: the grids and constants that operations are made of."""

    def __init__(self, model: QuantizedModel, target: Target, pixels: bool) -> None:
        self.model, self.target, self.pixels = model, target, pixels

    def grid(self, tensor: str) -> Grid | None:
        """Return the grid of a tensor of the network, or None if the target leaves it float."""
        held = self.model.plan.quantized(tensor, self.target)
        return self.model.grid_of(tensor, self.target) if held else None

    def output_grid(self, node: fx.Node) -> Grid | None:
        """Return the grid that a node's kernel writes onto: that of the ReLU behind it, if they are one kernel."""
        if node.name in self.model.plan.tensors:
            return self.grid(node.name)
        return None if self.target.rounds_kernels else self.grid(next(iter(node.users)).name)

    def source_grid(self, node: fx.Node) -> Grid:
        """Return the grid of the codes that a node reads first."""
        return self.model.grid_of(inputs(node)[0].name, self.target)

    def weight_grid(self, node: fx.Node) -> WeightGrid:
        """Return the grid of a layer's weights."""
        model, step = self.model, self.source_grid(node).scale
        return weight_grid(node, step, self.target, model.deployment, model.scheme)

    def constants(self, node: fx.Node) -> ops.Constants:
        """Return what a layer computes with."""
        layer, grid = module(node), self.weight_grid(node)
        return ops.Constants(grid.codes(layer.weight), grid.scales, layer_bias(layer), self.source_grid(node).scale)

    def kept_constants(self, node: fx.Node) -> ops.Constants:
        """Return what a layer computes with in float."""
        layer, width = module(node), Width.of(self.model.scheme, node.name)
        grid = kept_grid(layer, self.target, self.model.deployment, width)
        return ops.Constants(grid.codes(layer.weight), grid.scales, layer_bias(layer), FLOAT_STEP)

    def has_nothing_to_clip(self, relu6: fx.Node) -> bool:
        """Tell whether the range that a ReLU6 shares with its input ends at 0 and 6."""
        return self.model.plan.tensors[relu6.name].owner in self.model.plan.clamps


Lowering = Callable[[Maker, fx.Node], Sequence[ops.Operation]]
"""Makes of a node of the canonical network what it becomes in a program."""


def sources(node: fx.Node) -> tuple[str, ...]:
    """Return the names of what a node reads, in order."""
    return tuple(source.name for source in inputs(node))


def float_step(maker: Maker, node: fx.Node) -> ops.Float:
    """Return a node as it is, in float, rounded if the target holds what it makes as codes."""
    step = float_operation(node, maker.grid(node.name))
    if operation(node) not in LAYERS or not maker.model.plan.keeps_codes:
        return step
    constants = maker.kept_constants(node)
    return replace(step, module=_with_codes(module(node), constants), constants=constants)


def _with_codes(layer: nn.Conv2d | nn.Linear, constants: ops.Constants) -> nn.Module:
    """Return a layer whose weights are what codes stand for."""
    rounded = copy.copy(layer)
    scales = constants.scales.reshape((-1,) + (1,) * (constants.codes.ndim - 1))
    rounded._parameters = {**layer._parameters, "weight": nn.Parameter(torch.from_numpy(constants.codes * scales))}
    return rounded


def float_operation(node: fx.Node, grid: Grid | None) -> ops.Float:
    """Return a node as it is, in float."""
    called = module(node) if node.op == "call_module" else None
    options = {"eps": float(cast(float, node.kwargs["eps"]))} if "eps" in node.kwargs else {}
    name = called.kind if isinstance(called, Island | Move) else str(operation(node))
    return ops.Float(node.name, sources(node), grid, name, called, options)


def conv_of(maker: Maker, node: fx.Node, grid: Grid | None) -> list[ops.Operation]:
    """Return the convolution of a node onto a grid."""
    return [ops.Conv(node.name, sources(node), grid, maker.constants(node), ops.Window.of(module(node)))]


def average_pool(maker: Maker, node: fx.Node) -> list[ops.Operation]:
    """Return the average pool of a node."""
    return [ops.AveragePool(node.name, sources(node), maker.grid(node.name), ops.PoolWindow.of(module(node)))]


def max_pool(maker: Maker, node: fx.Node) -> list[ops.Operation]:
    """Return the max pool of a node."""
    return [ops.MaxPool(node.name, sources(node), maker.grid(node.name), ops.PoolWindow.of(module(node)))]


def move(maker: Maker, node: fx.Node) -> list[ops.Operation]:
    """Return the move of a node."""
    return [ops.Move(node.name, sources(node), maker.grid(node.name), module(node))]


def plain(kind: type[ops.Operation]) -> Lowering:
    """Return what makes an operation that needs nothing but what it reads."""
    return lambda maker, node: [kind(node.name, sources(node), maker.output_grid(node))]
