"""What is mended in the converted module: kernels that are wrong, slow or have a grid of their own."""

from typing import Any, cast

import numpy as np
import torch
from torch import fx, nn

from qface_toolkit.canonical.edit import bypass, calls
from qface_toolkit.canonical.islands import Move
from qface_toolkit.quantize.scheme import Grid
from qface_toolkit.quantize.target import Target


def settle(converted: fx.GraphModule, prepared: fx.GraphModule, target: Target) -> None:
    """Mend a module that was converted for a target from the module with quantizers `prepared`."""
    _insert_islands(converted, prepared)
    _move_codes(converted)
    _settle_clamps(converted, _idle_clamps(prepared), contiguous=target.clamps_contiguous)
    converted.recompile()


class FloatIsland(nn.Module):
    """A function of codes that torch computes in float, between dequantizing and quantizing.

    torch's own int8 sigmoids have grids of their own, not that of the plan; `quantized::sigmoid` takes one, but takes
    longer than this, and qnnpack's does not.
    """

    def __init__(self, function: nn.Module, scale: float, zero_point: int) -> None:
        super().__init__()
        self.function = function
        self.scale, self.zero_point = scale, zero_point

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Return quantized values of quantized values."""
        return torch.quantize_per_tensor(self.function(codes.dequantize()), self.scale, self.zero_point, torch.quint8)


def _insert_islands(converted: fx.GraphModule, prepared: fx.GraphModule) -> None:
    for kind in (nn.Sigmoid, nn.Hardsigmoid):
        for node, _ in calls(prepared, kind):
            scale, zero_point = _grid(prepared, next(iter(node.users)))
            converted.set_submodule(str(node.target), FloatIsland(kind(), scale, zero_point))


def _move_codes(converted: fx.GraphModule) -> None:
    """Let moves work on codes: they came out between dequantizing and quantizing on one grid."""
    for node, _ in list(calls(converted, Move)):
        codes = [
            before.args[0] for before in node.args if isinstance(before, fx.Node) and before.target == "dequantize"
        ]
        readers = list(node.users)
        if len(codes) == len(node.args) and all(user.target is torch.quantize_per_tensor for user in readers):
            node.args = tuple(codes)
            for user in readers:
                user.replace_all_uses_with(node)
                converted.graph.erase_node(user)
    converted.graph.eliminate_dead_code()


def _grid(prepared: fx.GraphModule, quantizer: fx.Node) -> tuple[float, int]:
    """Return (scale, zero point) of a quantizer."""
    scale, zero_point = cast(Any, prepared.get_submodule(str(quantizer.target))).calculate_qparams()
    return float(scale), int(zero_point)


def _idle_clamps(prepared: fx.GraphModule) -> set[str]:
    """Return the names of the ReLU6 that change nothing, because no code of their input lies outside [0, 6]."""
    idle = set()
    for node, _ in calls(prepared, nn.ReLU6):
        scale, zero_point = _grid(prepared, node.all_input_nodes[0])
        grid = Grid(np.float32(scale), zero_point)
        if zero_point == 0 and grid.six == grid.largest_code:
            idle.add(str(node.target))
    return idle


def _settle_clamps(converted: fx.GraphModule, idle: set[str], *, contiguous: bool) -> None:
    """Drop the ReLU6 that change nothing, and let the others read contiguous tensors where they must."""
    for node, _ in list(calls(converted, nn.ReLU6)):
        if node.target in idle:
            bypass(node)
        elif contiguous:
            with converted.graph.inserting_before(node):
                node.args = (converted.graph.call_method("contiguous", node.args),)
