"""What is known of the machine and the program that will run a result, as far as it changes what is written."""

import math
from dataclasses import dataclass
from typing import Literal

ImageInput = Literal["float", "uint8"]


@dataclass(frozen=True)
class Deployment:
    """Where a result will run.

    `vnni`: the processor adds 8-bit products in 32 bits. `onnxruntime`: the oldest release there, "1.24" for instance.
    `image`: what an ONNX file eats: "float" is the preprocessed [N, 3, H, W], "uint8" the RGB pixels [N, H, W, 3].
    """

    vnni: bool = True
    onnxruntime: str = "1.24"
    image: ImageInput = "float"

    def has_onnxruntime(self, release: str) -> bool:
        """Tell whether the oldest ONNX Runtime is at least this release."""
        return _numbers(self.onnxruntime) >= _numbers(release)


def _numbers(release: str) -> tuple[float, ...]:
    """Return a release's numbers; "1.24" stands for the last of its line."""
    numbers = [float(part) for part in release.split(".")]
    return tuple(numbers) if len(numbers) > 2 else (*numbers, math.inf)
