"""GhostFaceNets (Alansari et al., 2023) as ellzaf_ml ports them to PyTorch, and GhostNet as face.evoLVe has it.

GhostNet (arXiv 1911.11907) makes half of its channels from the other half by depthwise convolutions. The second version
(arXiv 2211.12905) gates them by what stands in the same row and column. The ports for faces have one PReLU slope for
all channels, and weigh the whole last map.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import Tensor, nn

from qface_toolkit.models._architecture import Architecture, Shapes, count_children

_INPUTS = {4: 112}
"""Side of the last map -> side of the image where the one is not 1/32 of the other."""


@dataclass(frozen=True)
class GhostBlock:
    """Channels that enter, fill and leave a block; `squeeze` is the inner width of its gate, 0 if there is none.

    `kernel` is 1 in blocks that neither halve the image nor change the channels, where nothing has one. `attends` says
    that the block has the second version's gates.
    """

    entering: int
    hidden: int
    leaving: int
    kernel: int
    stride: int
    squeeze: int
    attends: bool


@dataclass(frozen=True)
class GhostPlan:
    """The stages' blocks, the channels behind them, and the side of the last map.

    `faces` tells the ports of GhostFaceNets, which halve the image in the stem and have PReLU, from face.evoLVe's.
    """

    stem: int
    stages: tuple[tuple[GhostBlock, ...], ...]
    last: int
    faces: bool
    embedding_size: int = 512
    grid: tuple[int, int] = (4, 4)

    @property
    def name(self) -> str:
        """The published name."""
        attends = any(block.attends for stage in self.stages for block in stage)
        return f"ghostfacenet-v{2 if attends else 1}" if self.faces else "ghostnet-evolve"

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input."""
        height, width = (_INPUTS.get(side, 32 * side) if self.faces else 16 * side for side in self.grid)
        return height, width

    def build(self) -> nn.Module:
        """Return the network with fresh weights."""
        return GhostFaceNet(self) if self.faces else GhostNet(self)


Activation = Callable[[], nn.Module]


def _conv(entering: int, leaving: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(entering, leaving, kernel, stride, kernel // 2, groups=groups, bias=False)


class _Ghost(nn.Module):
    """A pointwise convolution for half of the channels, and a depthwise one of its result for the rest."""

    def __init__(self, entering: int, leaving: int, activation: Activation) -> None:
        super().__init__()
        half = -(-leaving // 2)
        self.leaving = leaving
        self.primary_conv = nn.Sequential(_conv(entering, half, 1), nn.BatchNorm2d(half), activation())
        self.cheap_operation = nn.Sequential(_conv(half, half, 3, groups=half), nn.BatchNorm2d(half), activation())

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H, W]."""
        first = self.primary_conv(x)
        return torch.cat((first, self.cheap_operation(first)), 1)[:, : self.leaving]


class _AttendingGhost(_Ghost):
    """The same, times a gate that sees rows and columns of the halved image."""

    def __init__(self, entering: int, leaving: int, activation: Activation) -> None:
        super().__init__(entering, leaving, activation)
        row = nn.Conv2d(leaving, leaving, (1, 5), padding=(0, 2), groups=leaving, bias=False)
        column = nn.Conv2d(leaving, leaving, (5, 1), padding=(2, 0), groups=leaving, bias=False)
        layers = (_conv(entering, leaving, 1), row, column)
        self.short_conv = nn.Sequential(*(part for layer in layers for part in (layer, nn.BatchNorm2d(leaving))))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H, W]."""
        gate = torch.sigmoid(self.short_conv(F.avg_pool2d(x, kernel_size=2, stride=2)))
        y = super().forward(x)
        return y * F.interpolate(gate, size=(x.shape[2], x.shape[3]), mode="nearest")


class _Gate(nn.Module):
    """Squeeze-and-excitation with a hard sigmoid."""

    def __init__(self, channels: int, squeeze: int, activation: Activation) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.conv_reduce = nn.Conv2d(channels, squeeze, 1)
        self.act1 = activation()
        self.conv_expand = nn.Conv2d(squeeze, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        y: Tensor = x * self.gate(self.conv_expand(self.act1(self.conv_reduce(self.avg_pool(x)))))
        return y


class _Block(nn.Module):
    """Two ghost modules, what halves the image between them, and a shortcut around all."""

    def __init__(self, plan: GhostBlock, activation: Activation) -> None:
        super().__init__()
        hidden, kernel, stride = plan.hidden, plan.kernel, plan.stride
        first = _AttendingGhost if plan.attends else _Ghost
        self.ghost1 = first(plan.entering, hidden, activation)
        self.halves = stride > 1
        if self.halves:
            self.conv_dw = _conv(hidden, hidden, kernel, stride, groups=hidden)
            self.bn_dw = nn.BatchNorm2d(hidden)
        self.se = _Gate(hidden, plan.squeeze, activation) if plan.squeeze else nn.Identity()
        self.ghost2 = _Ghost(hidden, plan.leaving, nn.Identity)
        self.shortcut = nn.Sequential()
        if self.halves or plan.entering != plan.leaving:
            self.shortcut = nn.Sequential(
                *(_conv(plan.entering, plan.entering, kernel, stride, plan.entering), nn.BatchNorm2d(plan.entering)),
                *(_conv(plan.entering, plan.leaving, 1), nn.BatchNorm2d(plan.leaving)),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H/stride, W/stride]."""
        y = self.ghost1(x)
        if self.halves:
            y = self.bn_dw(self.conv_dw(y))
        added: Tensor = self.ghost2(self.se(y)) + self.shortcut(x)
        return added


class _Unit(nn.Module):
    """Pointwise convolution, BatchNorm and activation."""

    def __init__(self, entering: int, leaving: int, activation: Activation) -> None:
        super().__init__()
        self.conv, self.bn1, self.act1 = _conv(entering, leaving, 1), nn.BatchNorm2d(leaving), activation()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H, W]."""
        y: Tensor = self.act1(self.bn1(self.conv(x)))
        return y


class _Trunk(nn.Module):
    """Stem and stages, with the unit behind them."""

    def __init__(self, plan: GhostPlan, activation: Activation) -> None:
        super().__init__()
        self.conv_stem = _conv(3, plan.stem, 3, 2 if plan.faces else 1)
        self.bn1 = nn.BatchNorm2d(plan.stem)
        self.act1 = activation()
        stages = (nn.Sequential(*(_Block(block, activation) for block in stage)) for stage in plan.stages)
        unit = _Unit(plan.stages[-1][-1].leaving, plan.last, activation)
        self.blocks = nn.Sequential(*stages, nn.Sequential(unit))

    def last_map(self, x: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to the last feature map."""
        y: Tensor = self.blocks(self.act1(self.bn1(self.conv_stem(x))))
        return y


class _Weighing(nn.Module):
    """A depthwise convolution of the whole map, and the embedding with its BatchNorm."""

    def __init__(self, plan: GhostPlan) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(plan.last, plan.last, plan.grid, groups=plan.last, bias=False)
        self.bn1 = nn.BatchNorm2d(plan.last)
        self.conv = nn.Conv2d(plan.last, plan.embedding_size, 1, bias=False)
        self.bn2 = nn.BatchNorm1d(plan.embedding_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, D]."""
        y: Tensor = self.bn2(torch.flatten(self.conv(self.bn1(self.conv_dw(x))), 1))
        return y


class GhostFaceNet(_Trunk):
    """GhostFaceNet of either version."""

    def __init__(self, plan: GhostPlan) -> None:
        super().__init__(plan, nn.PReLU)
        self.classifier = _Weighing(plan)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to embeddings [N, D], not normalised."""
        embeddings: Tensor = self.classifier(self.last_map(x))
        return embeddings


class GhostNet(_Trunk):
    """GhostNet with ReLU, and an embedding taken from the whole last map by a matrix."""

    def __init__(self, plan: GhostPlan) -> None:
        super().__init__(plan, nn.ReLU)
        self.output_layer = nn.Sequential(
            *(nn.BatchNorm2d(plan.last), nn.Dropout(p=0.0), nn.Flatten()),
            nn.Linear(plan.last * plan.grid[0] * plan.grid[1], plan.embedding_size),
            nn.BatchNorm1d(plan.embedding_size),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to embeddings [N, D], not normalised."""
        embeddings: Tensor = self.output_layer(self.last_map(x))
        return embeddings


def read_ghostnet(shapes: Shapes) -> GhostPlan:
    """Read the plan of a `GhostFaceNet` or a `GhostNet` off its keys and shapes."""
    count = count_children(shapes, "blocks.") - 1
    faces = "classifier.conv_dw.weight" in shapes
    last = shapes[f"blocks.{count}.0.conv.weight"][0]
    embedding = shapes["classifier.conv.weight" if faces else "output_layer.3.weight"]
    side = shapes["classifier.conv_dw.weight"][2] if faces else round((embedding[1] / last) ** 0.5)
    if not faces and last * side * side != embedding[1]:
        raise ValueError("only square images are known")
    stem = shapes["conv_stem.weight"][0]
    stages = tuple(tuple(_read_stage(shapes, f"blocks.{place}")) for place in range(count))
    return GhostPlan(stem, stages, last, faces, embedding[0], (side, side))


def _read_stage(shapes: Shapes, stage: str) -> Iterator[GhostBlock]:
    for place in range(count_children(shapes, f"{stage}.")):
        block = f"{stage}.{place}"
        entering = shapes[f"{block}.ghost1.primary_conv.0.weight"][1]
        yield GhostBlock(
            entering=entering,
            hidden=shapes[f"{block}.ghost2.primary_conv.0.weight"][1],
            leaving=shapes.get(f"{block}.shortcut.2.weight", (entering,))[0],
            kernel=shapes.get(f"{block}.shortcut.0.weight", (0, 0, 1))[2],
            stride=2 if f"{block}.conv_dw.weight" in shapes else 1,
            squeeze=shapes.get(f"{block}.se.conv_reduce.weight", (0,))[0],
            attends=f"{block}.ghost1.short_conv.0.weight" in shapes,
        )


_TABLE = (
    *(((3, 16, 16, 0, 1),), ((3, 48, 24, 0, 2),), ((3, 72, 24, 0, 1),), ((5, 72, 40, 20, 2),), ((5, 120, 40, 32, 1),)),
    *(
        ((3, 240, 80, 0, 2),),
        ((3, 200, 80, 0, 1), *((3, 184, 80, 0, 1),) * 2, (3, 480, 112, 120, 1), (3, 672, 112, 168, 1)),
    ),
    *(((5, 672, 160, 168, 2),), ((5, 960, 160, 0, 1), (5, 960, 160, 240, 1)) * 2),
)
"""Kernel, hidden and leaving channels, inner width of the gate, and stride of each block, stage by stage."""


def _published(*, attends: bool) -> tuple[tuple[GhostBlock, ...], ...]:
    entering, place, stages = 16, 0, []
    for rows in _TABLE:
        blocks = []
        for kernel, hidden, leaving, squeeze, stride in rows:
            used = kernel if stride > 1 or entering != leaving else 1
            blocks.append(GhostBlock(entering, hidden, leaving, used, stride, squeeze, attends and place > 1))
            entering, place = leaving, place + 1
        stages.append(tuple(blocks))
    return tuple(stages)


_PAPER = "GhostFaceNets, IEEE Access 2023; layout of ellzaf_ml"
_PLAIN, _ATTENDING = _published(attends=False), _published(attends=True)

ENTRIES = {
    plan.name: Architecture(published=plan, read=read_ghostnet, source=source)
    for plan, source in (
        (GhostPlan(16, _PLAIN, 960, faces=True), _PAPER),
        (GhostPlan(16, _ATTENDING, 960, faces=True), _PAPER),
        (GhostPlan(16, _PLAIN, 960, faces=False, grid=(7, 7)), "GhostNet, arXiv 1911.11907; layout of face.evoLVe"),
    )
}
