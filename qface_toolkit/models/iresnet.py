"""iResNet (Duta et al., 2020, arXiv 2004.04989) as insightface's arcface_torch lays it out.

It is the backbone that ArcFace is usually trained with. The stem keeps the image's size; each stage's first block
halves it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from qface_toolkit.models._architecture import Architecture, Shapes, count_children, scaled_channels

_TOTAL_STRIDE = 16
_STAGES = ("layer1", "layer2", "layer3", "layer4")


@dataclass(frozen=True)
class IResNetPlan:
    """Blocks and channels of the four stages; `grid` is the (height, width) of the last feature map."""

    blocks: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem: int = 64
    embedding_size: int = 512
    grid: tuple[int, int] = (7, 7)

    @property
    def name(self) -> str:
        """The usual name, after the depth: two convolutions a block, the stem and the last layer."""
        return f"iresnet{2 * sum(self.blocks) + 2}"

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input: each stage halves the image."""
        height, width = self.grid
        return height * _TOTAL_STRIDE, width * _TOTAL_STRIDE

    def build(self) -> nn.Module:
        """Return the network with fresh weights."""
        return IResNet(self)

    def scaled(self, width: float) -> "IResNetPlan":
        """Return the plan with so many times the channels."""
        stem, *widths = (scaled_channels(channels, width) for channels in (self.stem, *self.widths))
        return replace(self, stem=stem, widths=tuple(widths))


class Block(nn.Module):
    """Pre-activation residual block: BatchNorm stands before the first convolution, PReLU between the two."""

    def __init__(self, entering: int, leaving: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(entering)
        self.conv1 = _conv3x3(entering, leaving)
        self.bn2 = nn.BatchNorm2d(leaving)
        self.prelu = nn.PReLU(leaving)
        self.conv2 = _conv3x3(leaving, leaving, stride)
        self.bn3 = nn.BatchNorm2d(leaving)
        self.downsample = _shortcut(entering, leaving, stride) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H/stride, W/stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        y: Tensor = self.bn3(self.conv2(x)) + shortcut
        return y


class IResNet(nn.Module):
    """Stem, four stages of blocks, and an embedding taken from the whole of the last feature map."""

    def __init__(self, plan: IResNetPlan) -> None:
        super().__init__()
        last = plan.widths[-1]
        self.conv1 = _conv3x3(3, plan.stem)
        self.bn1 = nn.BatchNorm2d(plan.stem)
        self.prelu = nn.PReLU(plan.stem)
        entering = (plan.stem, *plan.widths[:-1])
        self.layer1, self.layer2, self.layer3, self.layer4 = map(_stage, entering, plan.widths, plan.blocks)
        self.bn2 = nn.BatchNorm2d(last)
        # The layout has one here; it does nothing in inference and must not disturb a fine-tune that copies a teacher.
        self.dropout = nn.Dropout(p=0.0)
        self.fc = nn.Linear(last * plan.grid[0] * plan.grid[1], plan.embedding_size)
        self.features = nn.BatchNorm1d(plan.embedding_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to embeddings [N, D], not normalised."""
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        embeddings: Tensor = self.features(self.fc(torch.flatten(self.dropout(self.bn2(x)), 1)))
        return embeddings


def _conv3x3(entering: int, leaving: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(entering, leaving, 3, stride, padding=1, bias=False)


def _shortcut(entering: int, leaving: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(entering, leaving, 1, stride, bias=False), nn.BatchNorm2d(leaving))


def _stage(entering: int, leaving: int, blocks: int) -> nn.Sequential:
    rest = (Block(leaving, leaving, stride=1) for _ in range(blocks - 1))
    return nn.Sequential(Block(entering, leaving, stride=2), *rest)


def read_iresnet(shapes: Shapes) -> IResNetPlan:
    """Read the plan of an `IResNet` off its keys and shapes."""
    widths = tuple(_stage_widths(shapes))
    embedding_size, flattened = shapes["fc.weight"]
    return IResNetPlan(
        blocks=tuple(count_children(shapes, f"{stage}.") for stage in _STAGES),
        widths=widths,
        stem=shapes["conv1.weight"][0],
        embedding_size=embedding_size,
        grid=_grid(flattened, widths[-1]),
    )


def _stage_widths(shapes: Shapes) -> Iterator[int]:
    for stage in _STAGES:
        yield shapes[f"{stage}.0.conv1.weight"][0]


def _grid(flattened: int, width: int) -> tuple[int, int]:
    """Return the last feature map's size, which must come from an aligned crop of 112x112 or its middle."""
    for grid in ((7, 7), (7, 6)):
        if flattened == width * grid[0] * grid[1]:
            return grid
    raise ValueError("only crops of 112x112 and 112x96 are known")


_SOURCE = "Improved Residual Networks, arXiv 2004.04989; layout of insightface's arcface_torch"

ENTRIES = {
    plan.name: Architecture(published=plan, read=read_iresnet, source=_SOURCE)
    for plan in (
        IResNetPlan(blocks=(2, 2, 2, 2)),
        IResNetPlan(blocks=(3, 4, 6, 3)),
        IResNetPlan(blocks=(3, 4, 14, 3)),
        IResNetPlan(blocks=(3, 13, 30, 3)),
    )
}
