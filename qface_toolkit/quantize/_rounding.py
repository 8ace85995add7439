"""The rounding that fine-tuning trains through, as fast as plain vector instructions are."""

import math
from typing import Any

import torch


class Rounding(torch.autograd.Function):
    """Affine fake-quantization with the straight-through gradient, zero where a value was clipped.

    It computes what `torch.fake_quantize_per_tensor_affine` does, ties apart, in vector instructions: the stock
    operator was the largest part of a training step. `growth` is a logarithm by which the range has grown; its gradient
    is that of learned step sizes (arXiv 1902.08153, equation 3), and zero may stand for it where nothing is learned.
    """

    @staticmethod
    def forward(  # noqa: D102 - torch's own
        ctx: Any,  # noqa: ANN401
        x: torch.Tensor,
        growth: torch.Tensor,
        scale: float,
        zero_point: int,
        largest_code: int,
    ) -> torch.Tensor:
        scale = scale * math.exp(growth.item())
        ctx.ends = (-(zero_point + 0.5) * scale, (largest_code - zero_point + 0.5) * scale)
        rounded = (x * (1 / scale)).round_().clamp_(-zero_point, largest_code - zero_point).mul_(scale)
        ctx.save_for_backward(x, rounded if ctx.needs_input_grad[1] else None)
        return rounded

    @staticmethod
    def backward(  # noqa: D102 - torch's own
        ctx: Any,  # noqa: ANN401
        gradient: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor | None, None, None, None]:
        x, rounded = ctx.saved_tensors
        passed = torch.ops.aten.hardtanh_backward(gradient, x, *ctx.ends)
        # Inside the range a wider step moves the value by its rounding error, outside by the end it was clipped to.
        grown = None if rounded is None else ((gradient * rounded).sum() - (passed * x).sum()).reshape(1)
        return passed, grown, None, None, None
