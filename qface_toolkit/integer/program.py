"""The integer program of a model in a target: one plain list of operations, made once and read by everybody.

A simulator interprets it in an engine's arithmetic, a backend prints it in a runtime's own form, and parity and
inspection walk it. What an operation computes in integers (the forms of PReLU, where a ReLU6 ends, a gate as a
convolution, an image as codes) is decided where the program is made (see integer.making) and nowhere else.

Every operation makes one value. One that is a tensor of the canonical network has its name; what only lies between two
has a name with a dot, or that of a tensor which the plan leaves out. A value with a grid is held as codes, others not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import nn

from qface_toolkit.canonical import islands
from qface_toolkit.canonical.edit import pair
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.image_input import ImageGrid
from qface_toolkit.quantize.scheme import SMALLEST_SCALE, Grid, bias_codes
from qface_toolkit.quantize.target import Deployment, Target

Pair = tuple[int, int]


@dataclass(frozen=True)
class Constants:
    """What a layer computes with: int8 codes [O, ...] and a float32 scale for each output channel, a bias [O]."""

    codes: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    input_scale: np.float32

    @property
    def bias_codes(self) -> npt.NDArray[np.int32]:
        """Return the codes of the bias, on input scale x weight scale."""
        return bias_codes(self.bias, self.scales * self.input_scale)


@dataclass(frozen=True)
class Window:
    """The geometry of a convolution; `together` is how many of its groups are written as one, with zeros between."""

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    together: int = 1

    @classmethod
    def of(cls, conv: nn.Conv2d) -> "Window":
        """Return a convolution's geometry."""
        return cls(pair(conv.stride), pair(conv.padding), pair(conv.dilation), conv.groups)


@dataclass(frozen=True)
class PoolWindow:
    """The geometry of a pool; `padding` is None where the border is there already."""

    kernel: Pair
    stride: Pair
    padding: Pair | None
    ceil_mode: bool = False
    count_border: bool = True

    @classmethod
    def of(cls, pool: nn.MaxPool2d | nn.AvgPool2d) -> "PoolWindow":
        """Return a pool's geometry."""
        counted = pool.count_include_pad if isinstance(pool, nn.AvgPool2d) else True
        return cls(pair(pool.kernel_size), pair(pool.stride), pair(pool.padding), pool.ceil_mode, counted)


@dataclass(frozen=True)
class Operation:
    """One step: the value that it makes, those that it reads in order, and the grid of what it makes."""

    output: str
    sources: tuple[str, ...]
    grid: Grid | None

    @property
    def source(self) -> str:
        """Return the only value that is read, or the first."""
        return self.sources[0]


@dataclass(frozen=True)
class Image(Operation):
    """The preprocessed image, float32 [N, C, height, width], rounded to codes if there is a grid."""


@dataclass(frozen=True)
class Pixels(Operation):
    """Pixels as they are, codes already, and a channel behind them that is constant (see quantize.image_input)."""

    image: ImageGrid


@dataclass(frozen=True)
class Conv(Operation):
    """A convolution; `extra_inputs` counts channels of zeros that ONNX Runtime's fast kernels want beyond its own.

    Where codes are to be read as if their zero point were 0, `bias_from_zero` makes up for that.
    """

    constants: Constants
    window: Window
    extra_inputs: int = 0
    bias_from_zero: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Linear(Operation):
    """A linear layer on vectors."""

    constants: Constants


@dataclass(frozen=True)
class Twin(Operation):
    """max(conv(x; W), conv(x; a W)), straight onto the output's grid: the convolution `layer` and a PReLU behind it."""

    layer: str
    constants: Constants
    window: Window
    extra_inputs: int
    slopes: npt.NDArray[np.float32]

    @property
    def scaled_scales(self) -> npt.NDArray[np.float32]:
        """Return the scales of a W."""
        return np.maximum(self.constants.scales * np.abs(self.slopes), SMALLEST_SCALE)

    @property
    def signs(self) -> npt.NDArray[np.float32]:
        """Return what the codes of W and of the bias are multiplied by to be those of a W: -1, 0 or 1."""
        return np.sign(self.slopes)


@dataclass(frozen=True)
class Scale(Operation):
    """Codes times a factor a channel: int8 codes [C] and a scale [C] for each."""

    codes: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Affine(Operation):
    """Float values times a factor, plus a shift, float32 [C] each."""

    factors: npt.NDArray[np.float32]
    shifts: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Max(Operation):
    """The larger of two codes on one grid."""


@dataclass(frozen=True)
class Clip(Operation):
    """Codes between two codes."""

    low: int
    high: int


@dataclass(frozen=True)
class Slopes(Operation):
    """PReLU by an engine's own kernel, for slopes [C]; torch's rounds them to a grid of their own."""

    slopes: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Table(Operation):
    """A function of codes, one by one: "sigmoid" or "hard_sigmoid"."""

    function: str


@dataclass(frozen=True)
class Add(Operation):
    """The sum of two tensors."""


@dataclass(frozen=True)
class Mul(Operation):
    """The product of two tensors, one of which may hold one number a channel."""


@dataclass(frozen=True)
class MaxPool(Operation):
    """The largest value of each window."""

    window: PoolWindow


@dataclass(frozen=True)
class AveragePool(Operation):
    """The average of each window, its border counted as zeros."""

    window: PoolWindow


@dataclass(frozen=True)
class GlobalAveragePool(Operation):
    """The average of each channel, [N, C, 1, 1]."""


@dataclass(frozen=True)
class Flatten(Operation):
    """Vectors [N, C x H x W]."""


@dataclass(frozen=True)
class OnePixel(Operation):
    """Vectors [N, C] as an image of one pixel, [N, C, 1, 1]."""


@dataclass(frozen=True)
class Vectors(Operation):
    """An image of one pixel as vectors again, [N, C]."""


@dataclass(frozen=True)
class Concat(Operation):
    """Channels behind one another, all on one grid."""


@dataclass(frozen=True)
class Move(Operation):
    """Codes in other places, all on one grid; what is new among them is zero (see canonical.islands)."""

    module: islands.Move


@dataclass(frozen=True)
class Pad(Operation):
    """A border of codes of zero: rows above and below, columns left and right."""

    padding: Pair


@dataclass(frozen=True)
class Requantize(Operation):
    """Values rounded to codes."""


@dataclass(frozen=True)
class Same(Operation):
    """What the source holds already, under another name."""


@dataclass(frozen=True)
class Normalize(Operation):
    """Rows of unit length, divided by `eps` at least."""

    eps: float


@dataclass(frozen=True)
class Float(Operation):
    """An operation of the float network on floats; `constants` are the codes that its weights are stored as, if any."""

    name: str
    module: nn.Module | None = None
    options: Mapping[str, float] = field(default_factory=dict)
    constants: Constants | None = None


@dataclass(frozen=True)
class Program:
    """All operations in order of execution, and what they were made for.

    `tensors` are those of the canonical network that the target holds as codes, `shapes` the shapes of all its tensors
    for a batch of two, `embedding` the value that is returned.
    """

    operations: tuple[Operation, ...]
    tensors: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    embedding: str
    spec: ModelSpec
    target: Target
    deployment: Deployment

    @property
    def takes_pixels(self) -> bool:
        """Tell whether the program is given pixels and no preprocessed image."""
        return any(isinstance(one, Pixels) for one in self.operations)

    @property
    def grids(self) -> dict[str, Grid]:
        """Return the grid of each value that is held as codes."""
        return {one.output: one.grid for one in self.operations if one.grid is not None}
