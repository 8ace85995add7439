"""How each engine rescales and adds, in its own order and precision: one class an engine.

Codes and sums are whole numbers in float32. Each class is checked against its engine to the last bit by the tests,
those for ARM on an emulated ARM processor.
"""

from typing import Protocol

from qface_toolkit.integer._onnxruntime import SIGN, OnnxRuntime, OnnxRuntimeArm
from qface_toolkit.integer._steps import Steps, Sums, Tensor, Windows
from qface_toolkit.integer._torch_engines import Fbgemm, OneDnn, Qnnpack, TorchX86


class Arithmetic(Protocol):
    """What differs between engines."""

    def quantized(self, values: Tensor, grid: Steps) -> Tensor:
        """Return the codes of float values."""
        ...

    def rescaled(self, sums: Sums, grid: Steps) -> Tensor:
        """Return the codes of a layer's output."""
        ...

    def added(self, parts: list[tuple[Tensor, Steps]], grid: Steps) -> Tensor:
        """Return the codes of the sum of two tensors."""
        ...

    def multiplied(self, parts: list[tuple[Tensor, Steps]], grid: Steps) -> Tensor:
        """Return the codes of the product of two tensors."""
        ...

    def averaged(self, sums: Tensor, count: int, grid: Steps) -> Tensor:
        """Return the codes of global averages, given the sums of `count` pixels' centred codes."""
        ...

    def pooled(self, windows: Windows, centred: Tensor, grid: Steps) -> Tensor:
        """Return the codes of averages over windows of centred codes."""
        ...

    def sloped(self, codes: Tensor, slopes: Tensor, source: Steps, grid: Steps) -> Tensor:
        """Return the codes of a PReLU that the engine has a kernel for; slopes [1, C, 1, 1]."""
        ...


ARITHMETIC: dict[str, Arithmetic] = {
    "onnxruntime": OnnxRuntime(),
    "onnxruntime-signed": OnnxRuntime(SIGN),
    "onnxruntime-arm": OnnxRuntimeArm(),
    "onnxruntime-arm-signed": OnnxRuntimeArm(SIGN),
    "onednn": OneDnn(),
    "x86": TorchX86(),
    "fbgemm": Fbgemm(),
    "qnnpack": Qnnpack(),
    "real": OnnxRuntime(),
}

__all__ = ["ARITHMETIC", "Arithmetic", "Steps", "Sums", "Windows"]
