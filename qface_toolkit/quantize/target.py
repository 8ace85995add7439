"""What runtimes do to a network, as far as anybody who simulates, plans or prints must know: one value a target.

Nobody asks a target for its name. What differs between two of them is a capability here, and a new runtime is a new
value, with an arithmetic of its own if it rescales in an order of its own (see integer.arithmetic). The same file may
be rescaled in one order on one kind of processor and in another on the next: `Target.on` says where it runs. A
Deployment is what is known of the machine and the program that will run a result, as far as it changes what is written.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from qface_toolkit.quantize.scheme import ACTIVATION_MAX, SAFE_WEIGHT_MAX, WEIGHT_MAX, WIDE_GROUPS
from qface_toolkit.verifier import Machine

ImageKind = Literal["float", "uint8"]


@dataclass(frozen=True)
class Deployment:
    """Where a result will run.

    `vnni`: the processor adds 8-bit products in 32 bits. `onnxruntime`: the oldest release there, "1.24" for instance.
    `image`: what an ONNX file eats: "float" is the preprocessed [N, 3, H, W], "uint8" the RGB pixels [N, H, W, 3].
    """

    vnni: bool = True
    onnxruntime: str = "1.24"
    image: ImageKind = "float"

    def has_onnxruntime(self, release: str) -> bool:
        """Tell whether the oldest ONNX Runtime is at least this release."""
        return _numbers(self.onnxruntime) >= _numbers(release)


def _numbers(release: str) -> tuple[float, ...]:
    """Return a release's numbers; "1.24" stands for the last of its line."""
    numbers = [float(part) for part in release.split(".")]
    return tuple(numbers) if len(numbers) > 2 else (*numbers, math.inf)


Activations = Literal["codes", "kernels", "fused"]


@dataclass(frozen=True)
class Target:
    """One way to run a quantized network.

    `activations` says how activation functions run: as operations on codes, by kernels of the engine's own, or fused
    with the layer before; it decides which tensors are quantized at all. `levels` is the number of steps over a range:
    codes saturate at ACTIVATION_MAX even where the range spans fewer, as fbgemm's kernels do.

    `native` names the engine's way of rescaling on the kind of processor that its files are made for, `machine`;
    `foreign` names its way on the other kind, if that is another, and `runs_on` says where it runs, None if at home.

    `keeps_layers`: single layers may compute in float. `takes_pixels`: the form can be given pixels as they are.
    `rounds_slopes`: PReLU slopes lie on a grid. `needs_vnni`: without 8-bit dot products pairs of products are added in
    16 bits, which saturates. `safe_depthwise`: depthwise convolutions of more groups than this add such pairs on every
    processor; None if there are none. `picks_order`: on a processor that multiplies by tiles (Intel's AMX) some layers
    are rescaled in another order, as the engine picks kernels by shapes and the batch. `clamps_contiguous`: the kernel
    that clamps misreads the memory of channels-last tensors, which is what convolutions return.
    """

    name: str
    activations: Activations
    native: str
    machine: Machine | None = None
    foreign: str | None = None
    runs_on: Machine | None = None
    levels: int = ACTIVATION_MAX
    keeps_layers: bool = False
    takes_pixels: bool = False
    rounds_slopes: bool = False
    needs_vnni: bool = False
    safe_depthwise: int | None = None
    picks_order: bool = False
    clamps_contiguous: bool = False

    @property
    def arithmetic(self) -> str:
        """Return the engine's way of rescaling where it runs."""
        abroad = self.runs_on is not None and self.runs_on != self.machine
        return self.foreign if abroad and self.foreign is not None else self.native

    def on(self, machine: Machine) -> "Target":
        """Return the same target as it computes on a kind of processor."""
        return replace(self, runs_on=machine)

    @property
    def rounds_kernels(self) -> bool:
        """Tell whether the engine computes in real numbers and rounds when a kernel is done, not tensor by tensor."""
        return self.activations == "fused"

    @property
    def joins_grids(self) -> bool:
        """Tell whether codes of two tensors are compared, so that both must lie on one grid (see LoweringPlan)."""
        return self.activations == "codes"

    def weight_max(self, layer: nn.Module) -> int:
        """Return the largest code that a layer's weights may have."""
        if not isinstance(layer, nn.Conv2d) or layer.groups != layer.in_channels or self.safe_depthwise is None:
            return WEIGHT_MAX
        return SAFE_WEIGHT_MAX if layer.groups > self.safe_depthwise else WEIGHT_MAX


def _onnx(name: str, machine: Machine, native: str, foreign: str) -> Target:
    return Target(name, "codes", native, machine, foreign, keeps_layers=True, takes_pixels=True, needs_vnni=True)


def _torch(engine: str, machine: Machine = "x86", **more: Any) -> Target:  # noqa: ANN401 - capabilities
    return Target(f"torch-{engine}", "kernels", engine, machine, rounds_slopes=True, **more)


ONNX = _onnx("onnx", "x86", native="onnxruntime", foreign="onnxruntime-arm")
ONNX_SIGNED = _onnx("onnx-signed", "arm", native="onnxruntime-arm-signed", foreign="onnxruntime-signed")
OPENVINO = Target("openvino", "fused", "real", "x86")
TORCH_X86 = _torch("x86", safe_depthwise=WIDE_GROUPS, picks_order=True)
TORCH_ONEDNN = _torch("onednn", picks_order=True)
TORCH_QNNPACK = _torch("qnnpack", "arm", clamps_contiguous=True)
TORCH_FBGEMM = _torch("fbgemm", levels=127, safe_depthwise=0)
"""fbgemm adds pairs of products in 16 bits: with seven-bit activations they cannot overflow."""

TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (ONNX, ONNX_SIGNED, OPENVINO, TORCH_X86, TORCH_ONEDNN, TORCH_QNNPACK, TORCH_FBGEMM)
}
