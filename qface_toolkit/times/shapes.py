"""What decides how long a convolution takes: its geometry and the numbers that it computes with."""

import math
from dataclasses import dataclass
from typing import Literal

Arithmetic = Literal["integer", "float"]


@dataclass(frozen=True, order=True)
class ConvShape:
    """The geometry of a convolution: `kernel` and `columns` are those of its kernel, the others those of its output.

    `fold` is how many input channels lie side by side in a row of pixels (see backends.onnx_qdq._groups): the kernel
    and the stride are so many times as wide as is said here. A linear layer is a convolution of one pixel.
    """

    inputs: int
    outputs: int
    kernel: int
    columns: int
    stride: int
    groups: int
    height: int
    width: int
    fold: int = 1

    @property
    def area(self) -> int:
        """Return the places of the kernel."""
        return self.kernel * self.columns

    @property
    def pixels(self) -> int:
        """Return the pixels of the output."""
        return self.height * self.width

    @property
    def products(self) -> int:
        """Return the multiplications behind one number of the output."""
        return self.inputs // self.groups * self.area * self.fold

    @property
    def numbers(self) -> int:
        """Return the numbers of the output."""
        return self.pixels * self.outputs

    @property
    def read(self) -> int:
        """Return the numbers of the input."""
        return self.pixels * self.stride**2 * self.inputs * self.fold

    @property
    def weights(self) -> int:
        """Return the numbers of the weight."""
        return self.products * self.outputs

    @property
    def multiply_adds(self) -> int:
        """Return the multiplications of one image."""
        return self.products * self.numbers

    @property
    def depthwise(self) -> bool:
        """Whether each channel has its own kernel."""
        return 1 < self.groups == self.inputs == self.outputs

    def distance(self, other: "ConvShape") -> float:
        """Return how unlike two shapes are, in octaves of their sizes."""
        return sum(
            abs(math.log2(mine / theirs))
            for mine, theirs in (
                (self.inputs // self.groups, other.inputs // other.groups),
                (self.outputs // self.groups, other.outputs // other.groups),
                (self.groups, other.groups),
                (self.pixels, other.pixels),
                (self.area * self.fold, other.area * other.fold),
                (self.stride, other.stride),
            )
        )
