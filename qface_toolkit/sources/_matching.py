"""Drawings moved, pixel by pixel, to where a float network's BatchNorm layers see what they saw in training.

A BatchNorm layer keeps the mean and the variance of its input over the training images. They say how far a set of
drawings is from those images, tensor by tensor, without any image or label. This is the one file of the folder that
imports torch, so it is imported when a set is opened and not before.
"""

import copy
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from qface_toolkit.errors import CalibrationError
from qface_toolkit.models import FloatModel
from qface_toolkit.sources._base import Crop

Pixels = npt.NDArray[np.uint8]
BRIGHTEST = 255.0
AT_ONCE = 16
"""Images that gradients are taken of together: an iResNet50 keeps 150 MB of each, and torch is slow with fewer."""


def statistics_layers(network: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorm layers that hold the statistics of a training; those as they were made hold none."""
    return [layer for layer in network.modules() if isinstance(layer, _BatchNorm) and _is_trained(layer)]


def _is_trained(layer: _BatchNorm) -> bool:
    mean, variance = layer.running_mean, layer.running_var
    return mean is not None and variance is not None and bool((mean != 0).any() or (variance != 1).any())


class _Moments(torch.autograd.Function):
    """Mean and mean square of each channel around a centre, in one pass each way: most of the time is spent here.

    With the wanted mean as the centre, the variance is a difference of two numbers that are not close.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - torch's own
        rows = _rows(values) - centre
        ctx.save_for_backward(values, centre)
        ones = rows.new_full((len(rows),), 1 / len(rows))
        return ones @ rows, ones @ rows.square_()

    @staticmethod
    def backward(ctx: Any, of_mean: Tensor, of_square: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - as above
        values, centre = ctx.saved_tensors
        slope = of_square * 2
        per_channel = [-1 if dimension == 1 else 1 for dimension in range(values.dim())]
        count = values.numel() // values.shape[1]
        constant = ((of_mean - slope * centre) / count).reshape(per_channel)
        return torch.addcmul(constant, values, (slope / count).reshape(per_channel)), None


class _FrozenPReLU(torch.autograd.Function):
    """PReLU without the gradient of its slopes, which torch works out, slowly, whether anybody wants it or not."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, slopes: Tensor) -> Tensor:  # noqa: ANN401 - as above
        ctx.save_for_backward(values, slopes)
        return functional.prelu(values, slopes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - as above
        values, slopes = ctx.saved_tensors
        per_channel = slopes.reshape([-1 if dimension == 1 else 1 for dimension in range(values.dim())])
        # A masked copy and a fused product: torch.where takes three times as long.
        passed = torch.ops.aten.threshold_backward(gradient, values, 0)
        return torch.addcmul(gradient * per_channel, passed, 1 - per_channel), None


def _with_slopes(slopes: Tensor, values: Tensor) -> Tensor:
    found: Tensor = _FrozenPReLU.apply(values, slopes)  # type: ignore[no-untyped-call]
    return found


def _frozen(network: nn.Module) -> nn.Module:
    """Return a copy in eval mode that gives gradients to its input alone."""
    network = copy.deepcopy(network).eval().float().requires_grad_(False)
    for layer in network.modules():
        if isinstance(layer, nn.PReLU):
            layer.forward = partial(_with_slopes, layer.weight)  # type: ignore[method-assign]
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def _rows(values: Tensor) -> Tensor:
    """Return [N, C, ...] as rows of channels, [M, C]; a view where the memory allows."""
    return values.movedim(1, -1).reshape(-1, values.shape[1])


class Matcher:
    """A frozen copy of a float network that tells how far a batch is from its statistics, and mends that.

    Statistics are those of a whole batch, gradients are taken of a few images at a time: memory does not grow with it.
    """

    def __init__(self, model: FloatModel) -> None:
        self._spec = model.spec
        self._network = _frozen(model.network)
        self._layers: list[_BatchNorm] = []
        self._seen: list[Tensor] = []
        for layer in statistics_layers(self._network):
            layer.register_forward_pre_hook(self._record)

    def _record(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, _BatchNorm)
        self._layers.append(layer)
        self._seen += _Moments.apply(inputs[0], layer.running_mean)  # type: ignore[no-untyped-call]

    def _moments(self, pixels: Tensor) -> list[Tensor]:
        """Return mean and mean square, around the running mean, of what each layer sees, in the order they run."""
        self._layers, self._seen = [], []
        mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in (self._spec.mean, self._spec.std))
        self._network((pixels - mean) / std)
        if not self._layers:
            raise _unusable()
        return self._seen

    def _moments_of_all(self, pixels: Tensor) -> list[Tensor]:
        parts = []
        with torch.no_grad():
            for few in torch.split(pixels, AT_ONCE):
                parts.append([one * (len(few) / len(pixels)) for one in self._moments(few)])
        return [torch.stack(same).sum(0) for same in zip(*parts, strict=True)]

    def _distance(self, moments: list[Tensor]) -> Tensor:
        distances = []
        for layer, mean, square in zip(self._layers, moments[::2], moments[1::2], strict=True):
            assert layer.running_var is not None
            wanted = torch.sqrt(layer.running_var + layer.eps)
            spread = torch.sqrt((square - mean.square()).clamp_min(0) + layer.eps) / wanted - 1
            distances.append(((mean / wanted).square() + spread.square()).mean())
        return torch.stack(distances).mean()

    def distance(self, crops: Crop) -> float:
        """Return how far the crops, uint8 [N, H, W, 3], are from the statistics; 0 is met.

        It is the squared difference of mean and of standard deviation, in standard deviations of the training, averaged
        over the channels of a layer and then over the layers.
        """
        return float(self._distance(self._moments_of_all(self._tensor(crops))))

    def refined(self, crops: Crop, *, iterations: int, learning_rate: float, closeness: float) -> Crop:
        """Return the crops, uint8 [N, H, W, 3], nearer to the statistics; what the network does not eat stays.

        Adam on the pixels, within 0..255, for so many steps of `learning_rate` at first and ever less; the nearest
        pixels on the way are kept. `closeness` weighs the mean squared move of a pixel, in standard deviations of the
        input (ZeroQ, arXiv 2001.00281, section 3.1, which starts from noise; the distance is relative here, so that no
        layer outweighs another by the scale of its values).

        Raises:
            CalibrationError: if the network gives no usable gradient.
        """
        start = self._tensor(crops)
        pixels, nearest, least = start.clone(), start, torch.inf
        scale = torch.tensor(self._spec.std).reshape(1, -1, 1, 1)
        adam = torch.optim.Adam([pixels], lr=learning_rate, betas=(0.9, 0.99))
        for iteration in range(iterations + 1):
            moments = [one.requires_grad_(True) for one in self._moments_of_all(pixels)]
            with torch.enable_grad():
                distance = self._distance(moments)
            moved = (pixels - start) / scale
            loss = float(distance.detach() + closeness * moved.square().mean())
            if loss < least:
                nearest, least = pixels.clone(), loss
            if iteration < iterations:
                back = moved / scale * (2 * closeness / moved.numel())
                pixels.grad = self._gradient(pixels, distance, moments) + back
                adam.param_groups[0]["lr"] = learning_rate * (1 - iteration / iterations)
                adam.step()
                pixels.clamp_(0, BRIGHTEST)
        return self._crops(nearest, crops)

    def _gradient(self, pixels: Tensor, distance: Tensor, moments: list[Tensor]) -> Tensor:
        """Return the distance's gradient by the pixels: by the moments of all images, and from there image by image."""
        if not bool(torch.isfinite(distance)):
            raise _unusable()
        weights = torch.autograd.grad(distance, moments)
        parts = []
        for few in torch.split(pixels, AT_ONCE):
            with torch.enable_grad():
                few = few.clone().requires_grad_(True)
                seen = self._moments(few)
            used = [(one, weight) for one, weight in zip(seen, weights, strict=True) if one.requires_grad]
            if not used:
                raise _unusable()
            (part,) = torch.autograd.grad([one for one, _ in used], [few], [weight for _, weight in used])
            parts.append(part * (len(few) / len(pixels)))
        return torch.cat(parts).contiguous(memory_format=torch.channels_last)

    def _tensor(self, crops: Crop) -> Tensor:
        ordered = self._spec.in_order(self._spec.middle(crops))
        pixels = torch.from_numpy(ordered.transpose(0, 3, 1, 2).astype(np.float32))
        return pixels.contiguous(memory_format=torch.channels_last)

    def _crops(self, pixels: Tensor, crops: Crop) -> Crop:
        whole = crops.copy()
        rounded: Pixels = pixels.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        # `middle` is a view: what is written to it lands in the whole crops, a gray channel in all three.
        self._spec.middle(whole)[...] = rounded[..., ::-1] if self._spec.color == "bgr" else rounded
        return whole


def _unusable() -> CalibrationError:
    return CalibrationError(
        "the float model gives no usable gradient, so no drawing can be matched to its statistics",
        fix="calibrate on the set drawings",
    )
