"""The plan that all layouts of MobileFaceNet share: its bottlenecks, and the kernel that sees the whole last map."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from qface_toolkit.models._architecture import scaled_channels

_TOTAL_STRIDE = 16


@dataclass(frozen=True)
class Bottleneck:
    """Channels that enter, fill and leave one inverted residual; it adds its input where that is possible."""

    entering: int
    hidden: int
    leaving: int
    stride: int

    @property
    def adds(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.entering == self.leaving

    def scaled(self, width: float) -> "Bottleneck":
        """Return one of other widths that expands as much, which is what tells the strides of a checkpoint."""
        entering, leaving = (scaled_channels(channels, width) for channels in (self.entering, self.leaving))
        return Bottleneck(entering, self.hidden * entering // self.entering, leaving, self.stride)


@dataclass(frozen=True)
class MobileFaceNetPlan:
    """What varies between MobileFaceNets; `kernel` is the global depthwise convolution's (height, width).

    `stem_groups` is for layouts whose second convolution is grouped rather than depthwise.
    """

    name: str
    network: Callable[["MobileFaceNetPlan"], nn.Module]
    stem: int
    bottlenecks: tuple[Bottleneck, ...]
    head: int
    embedding_size: int
    kernel: tuple[int, int] = (7, 7)
    stem_groups: int = 1

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input: the global convolution must see the whole of the last feature map."""
        height, width = self.kernel
        return height * _TOTAL_STRIDE, width * _TOTAL_STRIDE

    def build(self) -> nn.Module:
        """Return the network with fresh weights."""
        return self.network(self)

    def scaled(self, width: float) -> "MobileFaceNetPlan":
        """Return the plan with so many times the channels."""
        stem = scaled_channels(self.stem, width)
        groups = 1 if self.stem_groups == 1 else stem // (self.stem // self.stem_groups)
        bottlenecks = tuple(step.scaled(width) for step in self.bottlenecks)
        head = scaled_channels(self.head, width)
        return replace(self, stem=stem, bottlenecks=bottlenecks, head=head, stem_groups=groups)


def published_bottlenecks(width: int = 64) -> tuple[Bottleneck, ...]:
    """Return the bottlenecks of the paper's Table 1, whose first stage is `width` channels wide."""
    rows = ((2, width, 5, 2), (4, 2 * width, 1, 2), (2, 2 * width, 6, 1), (4, 2 * width, 1, 2), (2, 2 * width, 2, 1))
    bottlenecks: list[Bottleneck] = []
    entering = width
    for expansion, leaving, repeats, first_stride in rows:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            bottlenecks.append(Bottleneck(entering, expansion * entering, leaving, stride))
            entering = leaving
    return tuple(bottlenecks)


def global_kernel(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the global convolution's (height, width), which must fit an aligned crop of 112x112 or its middle."""
    height, width = shape[2:]
    if height != 7 or width not in (6, 7):
        raise ValueError("only crops of 112x112 and 112x96 are known")
    return height, width
