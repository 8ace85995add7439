"""Quantizers that learn: what takes the place of a simulation's layers and activation quantizers for a while.

Weights move between the codes of scales that stay. Rounding passes their gradient on, which finds good codes in a few
dozen steps (AdaRound's rectified sigmoids take thousands), and steps are counted in codes, so that one learning rate
serves every channel. Ranges move by the gradient of LSQ (arXiv 1902.08153, section 2.1), written for an interval's two
ends.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.func import functional_call

from qface_toolkit.quantize.scheme import SMALLEST_SCALE, Levels, Range

TYPICAL_CODE = 64
"""The code of an activation that makes moving a bias by one unit do as much as moving a weight by one code."""


class LearnedLayer(nn.Module):
    """A simulated convolution or linear layer whose codes and biases are learned; the scales of its weights stay.

    `codes` is by how many codes each weight moves, `units` the same for biases. The largest weight of each channel
    stays, since it makes the scale, and so do those that the scale clips. A channel whose scale was raised to hold its
    bias has nothing worth learning.
    """

    def __init__(self, layer: nn.Module, input_scale: float) -> None:
        super().__init__()
        # In a tuple, the layer's own parameters are not this module's.
        self._held: tuple[nn.Module] = (layer,)
        weight, bias = (cast(torch.Tensor, part).detach().clone() for part in (layer.weight, layer.bias))
        quantizer: Any = layer.weight_fake_quant
        quantizer(weight)
        scales: torch.Tensor = quantizer.hold_scale()
        largest = weight.abs().flatten(1).amax(1)
        if quantizer.width.compact:
            largest = torch.minimum(largest, scales * quantizer.width.largest_code)
        free: torch.Tensor = scales > quantizer.smallest_scales
        by_channel = (-1,) + (1,) * (weight.dim() - 1)
        self.scales, self.largest = scales.reshape(by_channel), largest.reshape(by_channel)
        self.weight_before, self.bias_before = weight.clamp(-self.largest, self.largest), bias
        may_move = free.reshape(by_channel) & (self.weight_before.abs() < self.largest)
        self.weight_steps = self.scales * may_move
        self.bias_steps = scales * free * input_scale * TYPICAL_CODE
        self.codes = nn.Parameter(torch.zeros_like(weight))
        self.units = nn.Parameter(torch.zeros_like(bias))

    @property
    def layer(self) -> nn.Module:
        """Return the simulated layer."""
        (layer,) = self._held
        return layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the layer makes with the weights and biases learned so far; its own quantizer rounds them."""
        return cast(torch.Tensor, functional_call(self.layer, {"weight": self._weight(), "bias": self._bias()}, (x,)))

    def bake(self) -> None:
        """Give the layer what was learned: weights that lie on their codes, so that rounding again finds the same."""
        with torch.no_grad():
            codes = (self._weight() * (1 / self.scales)).round()
            baked = torch.minimum(torch.maximum(codes * self.scales, -self.largest), self.largest)
            weight, bias = cast(torch.Tensor, self.layer.weight), cast(torch.Tensor, self.layer.bias)
            weight.copy_(torch.where(self.weight_steps > 0, baked, self.weight_before))
            bias.copy_(self._bias())
        cast(Any, self.layer.weight_fake_quant).release_scale()

    def _weight(self) -> torch.Tensor:
        moved = self.weight_before + self.codes * self.weight_steps
        return torch.minimum(torch.maximum(moved, -self.largest), self.largest)

    def _bias(self) -> torch.Tensor:
        return self.bias_before + self.units * self.bias_steps


class LearnedRange(nn.Module):
    """An activation quantizer whose interval is learned, by a factor for each end; several tensors can share one."""

    def __init__(self, interval: Range, levels: Levels) -> None:
        super().__init__()
        self.interval, self.levels = interval, levels
        self.log_factors = nn.Parameter(torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Round a tensor to the codes of the interval learned so far."""
        low, high = self.log_factors.exp() * torch.tensor([self.interval.low, self.interval.high])
        return cast(torch.Tensor, _RangeRounding.apply(x, low, high, self.levels))  # type: ignore[no-untyped-call]  # torch ships it so

    def scaled(self, interval: Range, limits: Sequence[float]) -> Range:
        """Return an interval whose ends are moved by what was learned, within limits."""
        low, high = self.log_factors.detach().exp().tolist()
        return Range(max(interval.low * low, limits[0]), min(interval.high * high, limits[1]))


class _RangeRounding(torch.autograd.Function):
    """Affine fake-quantization over the steps of an interval, with gradients for its ends."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, low: torch.Tensor, high: torch.Tensor, levels: Levels) -> torch.Tensor:  # noqa: ANN401 - torch's own
        scale = max(float(high - low) / levels.steps, float(SMALLEST_SCALE))
        zero_point = min(max(round(-float(low) / scale), 0), levels.steps)
        steps = x * (1 / scale)
        ctx.save_for_backward(steps)
        ctx.ends, ctx.levels = (-zero_point, levels.largest_code - zero_point), levels
        return steps.round().clamp_(*ctx.ends).mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:  # noqa: ANN401 - torch's own
        """A clipped value follows its end; any other is moved by the step, as far as rounding moved it.

        Codes may saturate beyond the interval.
        """
        (steps,) = ctx.saved_tensors
        inside = torch.ops.aten.hardtanh_backward(gradient, steps, ctx.ends[0] - 0.5, ctx.ends[1] + 0.5)
        clipped = gradient - inside
        above = (clipped * (steps > 0)).sum()
        below = clipped.sum() - above
        step = (inside * (steps.round() - steps)).sum() / ctx.levels.steps
        reach = ctx.levels.largest_code / ctx.levels.steps
        return inside, below + above * (1 - reach) - step, above * reach + step, None
