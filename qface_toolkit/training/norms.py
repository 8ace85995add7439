"""BatchNorm over the batch of all ranks, on any device: torch's own synchronised one takes no tensors on CPUs.

Means and squares are combined from each rank's (Chan et al. 1979), in the order of ranks, so that all ranks keep the
same running statistics to the last bit.
"""

from typing import Any

import torch
from torch import Tensor, nn

from qface_toolkit.ranks import Ranks


class RankNorm(nn.Module):
    """A BatchNorm of one or two dimensions whose statistics are those of all ranks; state and keys are the same."""

    weight: Tensor
    bias: Tensor

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d, ranks: Ranks) -> None:
        super().__init__()
        self.eps, self.momentum = norm.eps, norm.momentum
        for name, value in (("weight", 1.0), ("bias", 0.0)):
            own = getattr(norm, name)
            if own is None:
                self.register_buffer(name, torch.full((norm.num_features,), value), persistent=False)
            else:
                self.register_parameter(name, own)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))
        self.ranks = ranks
        self.training = norm.training

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C] or [N, C, H, W] to the same shape."""
        mean, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        if not self.training:
            return nn.functional.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.0, self.eps)
        y, found, spread, count = _Normalised.apply(x, self.weight, self.bias, self.eps, self.ranks)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self.get_buffer("num_batches_tracked").add_(1)
            share = 1 / float(self.get_buffer("num_batches_tracked")) if self.momentum is None else self.momentum
            mean.lerp_(found, share)
            variance.lerp_(spread * (count / (count - 1).clamp(min=1)), share)
        normalised: Tensor = y
        return normalised


class _Normalised(torch.autograd.Function):
    """Batch normalisation by statistics of all ranks, and its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, ranks: Ranks) -> tuple[Tensor, ...]:  # noqa: ANN401 - torch's
        axes = [axis for axis in range(x.dim()) if axis != 1]
        # What BatchNorm itself takes them by: torch.var_mean takes up to twenty times as long. Running statistics that
        # are not kept let it answer in float32 where images are in bfloat16.
        unkept = torch.zeros_like(weight), torch.ones_like(weight)
        mean, variance = torch.batch_norm_update_stats(x, *unkept, 0.0)
        count = torch.full_like(mean, x.numel() / x.shape[1])
        counts, means, variances = ranks.gather(torch.stack([count, mean, variance])).unbind(1)
        total = counts.sum(0)
        mean = (counts * means).sum(0) / total
        variance = (counts * (variances + (means - mean).square())).sum(0) / total
        scale = torch.rsqrt(variance + eps)
        ctx.save_for_backward(x, weight, mean, variance, scale, total)
        ctx.eps, ctx.ranks, ctx.axes = eps, ranks, axes
        ctx.mark_non_differentiable(mean, variance, total)
        y = nn.functional.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)
        return y, mean, variance, total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch's
        x, weight, mean, variance, scale, total = ctx.saved_tensors
        # As if the statistics were constants: one pass of torch's own, which sums what the rest is made of.
        found = torch.ops.aten.native_batch_norm_backward(
            gradients[0], x, weight, mean, variance, mean, scale, False, ctx.eps, [True, True, True]
        )
        entering, for_weight, for_bias = found
        by_weight, by_bias = ctx.ranks.sum(torch.stack([for_weight, for_bias])) / total
        slope = -weight * scale * scale * by_weight
        offset = -weight * scale * by_bias
        shape = [1, -1, *(1 for _ in ctx.axes[1:])]
        # Around the mean: where that is far from nothing, the sum of large products would hold few digits.
        centred = x - mean.view(shape)
        entering.addcmul_(centred, slope.view(shape)).add_(offset.view(shape))
        return entering, for_weight, for_bias, None, None


def over_ranks(network: nn.Module, ranks: Ranks) -> nn.Module:
    """Put a RankNorm in the place of every BatchNorm, in place where it can be, and return the network."""
    if ranks.size == 1:
        return network
    if isinstance(network, nn.BatchNorm1d | nn.BatchNorm2d):
        return RankNorm(network, ranks)
    for name, child in list(network.named_children()):
        setattr(network, name, over_ranks(child, ranks))
    return network
