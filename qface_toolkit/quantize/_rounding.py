"""The rounding that fine-tuning trains through, as fast as plain vector instructions are."""

from typing import Any

import torch

from qface_toolkit.quantize.scheme import ACTIVATION_MAX


class Rounding(torch.autograd.Function):
    """Affine fake-quantization with the straight-through gradient, zero where a value was clipped.

    It computes what `torch.fake_quantize_per_tensor_affine` does, ties apart, in vector instructions: the stock
    operator was the largest part of a training step.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:  # noqa: ANN401 - torch's own
        ctx.save_for_backward(x)
        ctx.ends = (-(zero_point + 0.5) * scale, (ACTIVATION_MAX - zero_point + 0.5) * scale)
        steps = (x * (1 / scale)).round_().clamp_(-zero_point, ACTIVATION_MAX - zero_point)
        return steps.mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:  # noqa: ANN401 - torch's own
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, x, *ctx.ends), None, None
