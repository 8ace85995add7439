"""What a simulation rounds tensors, weights and slopes with, in the form that FX graph mode inserts."""

import weakref
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from qface_toolkit.quantize.scheme import (
    ACTIVATION_MAX,
    SLOPE_SCALE,
    SLOPE_ZERO_POINT,
    SMALLEST_SCALE,
    WEIGHT_MAX,
    Levels,
    Range,
    activation_qparams,
)
from qface_toolkit.quantize.weights import Width


class Rounding(torch.autograd.Function):
    """Affine fake-quantization with the straight-through gradient, zero where a value was clipped.

    It computes what `torch.fake_quantize_per_tensor_affine` does, ties apart, in vector instructions: the stock
    operator was the largest part of a training step.
    """

    @staticmethod
    def forward(  # noqa: D102 - torch's own
        ctx: Any,  # noqa: ANN401
        x: torch.Tensor,
        scale: float,
        zero_point: int,
        largest_code: int,
    ) -> torch.Tensor:
        ctx.ends = (-(zero_point + 0.5) * scale, (largest_code - zero_point + 0.5) * scale)
        ctx.save_for_backward(x)
        return (x * (1 / scale)).round_().clamp_(-zero_point, largest_code - zero_point).mul_(scale)

    @staticmethod
    def backward(  # noqa: D102 - torch's own
        ctx: Any,  # noqa: ANN401
        gradient: torch.Tensor,
    ) -> tuple[torch.Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, x, *ctx.ends), None, None, None


QParams = tuple[torch.Tensor, torch.Tensor]


class Quantizer(nn.Module):
    """What FX graph mode asks of a fake-quantizer; quantize.fx makes torch.ao's own kind of it.

    `activation_post_process` is where torch.ao looks for the observer.
    """

    dtype: torch.dtype
    qscheme: torch.qscheme
    quant_min: int
    quant_max: int
    is_dynamic = False

    def __init__(self, factory_kwargs: dict[str, Any] | None = None) -> None:
        super().__init__()

    @property
    def activation_post_process(self) -> "Quantizer":
        """Return the observer behind this quantizer: itself."""
        return self

    def calculate_qparams(self) -> QParams:
        """Return (scale, zero point), of each channel if there are several."""
        raise NotImplementedError


class SharedRange:
    """The range of one owner while it is being chosen: who watches the tensors that share it."""

    def __init__(self) -> None:
        self.observer: Callable[[torch.Tensor], None] | None = None


class ActivationQuantizer(Quantizer):
    """Per-tensor affine fake-quantization of one tensor, over what the target's grid spans.

    `fixed` says that there is a grid. `quantizes` is False
    for a tensor that the target does not quantize; `observes` for one whose values matter only behind a clamp.
    """

    dtype, qscheme = torch.quint8, torch.per_tensor_affine
    quant_min, quant_max = 0, ACTIVATION_MAX

    def __init__(self, factory_kwargs: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.range = SharedRange()
        self.levels = Levels()
        self.scale = torch.ones(1)
        self.zero_point = torch.zeros(1, dtype=torch.int32)
        self.fixed = False
        self.quantizes = True
        self.observes = True

    def fix(self, interval: Range, levels: Levels) -> None:
        """Quantize over this interval from now on."""
        self.levels = levels
        scale, zero_point = activation_qparams(interval, levels.steps)
        self.scale = torch.tensor([float(scale)])
        self.zero_point = torch.tensor([zero_point], dtype=torch.int32)
        self.fixed = True

    def calculate_qparams(self) -> QParams:
        """Return (scale, zero point)."""
        return self.scale, self.zero_point

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Show the tensor to the observer, if there is one, and round it to codes once the range is fixed."""
        if self.observes and self.range.observer is not None:
            self.range.observer(x.detach())
        if self.quantizes and self.fixed:
            grid = float(self.scale), int(self.zero_point), self.levels.largest_code
            return cast(torch.Tensor, Rounding.apply(x, *grid))  # type: ignore[no-untyped-call]  # torch ships it so
        return x


class WeightQuantizer(Quantizer):
    """Per-channel symmetric fake-quantization of weights; scales follow the weights, unless they are held."""

    dtype, qscheme = torch.qint8, torch.per_channel_symmetric
    quant_min, quant_max = -WEIGHT_MAX, WEIGHT_MAX
    ch_axis = 0

    def __init__(self, factory_kwargs: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.rounds = True
        self.width = Width()
        self.largest_codes = torch.tensor(float(WEIGHT_MAX))
        self.smallest_scales = torch.tensor(float(SMALLEST_SCALE))
        self._held = False
        self._seen: tuple[weakref.ref[torch.Tensor], int] | None = None

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Round a weight to codes, if that is on."""
        if not self.rounds:
            return weight
        if not self._held:
            self._follow(weight)
        zero_points, most = torch.zeros(len(weight), dtype=torch.int32), self.width.largest_code
        return torch.fake_quantize_per_channel_affine(weight, self.scale, zero_points, 0, -most, most)

    def _follow(self, weight: torch.Tensor) -> None:
        """Find the scales of a weight, unless it is the one seen last and has not changed since.

        A write through `.data` leaves no trace: weights that are rounded are changed by `copy_` without gradients.
        """
        if self._seen is not None and self._seen[0]() is weight and self._seen[1] == weight._version:
            return
        largest = self.largest_codes.expand(len(weight))
        self.scale = self.width.raised(self.width.scales(weight, largest), self.smallest_scales.expand(len(weight)))
        self._seen = weakref.ref(weight), weight._version

    def hold_scale(self) -> torch.Tensor:
        """Keep the scales of the weight seen last, whatever comes; return them."""
        self._held = True
        return self.scale.clone()

    def release_scale(self) -> None:
        """Follow weights again."""
        self._held, self._seen = False, None

    def clip(self, weight: torch.Tensor) -> torch.Tensor:
        """Return a weight without what its scales clip."""
        most = (self.scale * self.width.largest_code).reshape((-1,) + (1,) * (weight.dim() - 1))
        return weight.clamp(-most, most)

    def calculate_qparams(self) -> QParams:
        """Return (scales, zero points) of the weight seen last."""
        return self.scale, torch.zeros(len(self.scale), dtype=torch.int32)


class SlopeQuantizer(Quantizer):
    """The fixed grid of PReLU slopes that `quantized::prelu` computes with."""

    dtype, qscheme = torch.quint8, torch.per_tensor_affine
    quant_min, quant_max = 0, ACTIVATION_MAX

    def forward(self, slopes: torch.Tensor) -> torch.Tensor:
        """Return the slopes as they are: the grid does not depend on them."""
        return slopes

    def calculate_qparams(self) -> QParams:
        """Return (scale, zero point) of the grid."""
        return torch.tensor([SLOPE_SCALE]), torch.tensor([SLOPE_ZERO_POINT], dtype=torch.int32)
