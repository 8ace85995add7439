"""PocketNet (Boutros et al., 2021, arXiv 2108.10710): cells found by architecture search, stacked in two widths.

All published PocketNets share one genotype; the number of cells, their width and the embedding's size differ. A cell
sees the outputs of the two cells before it; four nodes, each the sum of two operations, are joined to its output. Keys
and shapes do not show what a node sees, so a network of other cells must be said beside its weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from qface_toolkit.models._architecture import Architecture, Shapes, count_children, scaled_channels
from qface_toolkit.models._genotype import (
    GENOTYPE_KEY,
    KERNELS,
    NORMAL,
    REDUCE,
    Genotype,
    genotype_mark,
    genotype_text,
    parse_genotype,
)

_STEM_MULTIPLIER = 4
_NODES = 4


@dataclass(frozen=True)
class PocketNetPlan:
    """Width of the first cell, number of cells, size of the embedding, width of the tail, and what both cells are."""

    width: int
    cells: int
    embedding_size: int
    head: int = 512
    normal: Genotype = NORMAL
    reduce: Genotype = REDUCE

    @property
    def name(self) -> str:
        """The paper's name, or one after width, cells and genotype for a network that is not in it."""
        size = f"{self.width}x{self.cells}"
        if self.has_other_cells:
            return f"pocketnet-{size}-{self.embedding_size}-{genotype_mark(self.normal, self.reduce)}"
        size = {(16, 18): "s", (32, 9): "m"}.get((self.width, self.cells), size)
        return f"pocketnet-{size}-{self.embedding_size}"

    @property
    def has_other_cells(self) -> bool:
        """Whether the genotype is not the published one."""
        return (self.normal, self.reduce) != (NORMAL, REDUCE)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input."""
        return 112, 112

    def build(self) -> nn.Module:
        """Return the network with fresh weights."""
        return PocketNet(self)

    def scaled(self, width: float) -> "PocketNetPlan":
        """Return the plan with so many times the channels, in the cells and in the tail."""
        cell = scaled_channels(self.width, width, step=4)
        return replace(self, width=cell, head=scaled_channels(self.head, width))

    @property
    def texts(self) -> dict[str, str]:
        """The genotype, where it is not the published one."""
        return {GENOTYPE_KEY: genotype_text(self.normal, self.reduce)} if self.has_other_cells else {}

    def as_told(self, texts: Mapping[str, str]) -> "PocketNetPlan":
        """Return the plan with the genotype that a file's metadata say.

        Raises:
            CheckpointError: listing the mistakes in that genotype.
        """
        if GENOTYPE_KEY not in texts:
            return self
        normal, reduce = parse_genotype(texts[GENOTYPE_KEY])
        return replace(self, normal=normal, reduce=reduce)


class _DWConv(nn.Module):
    """PReLU, depthwise k x k, pointwise and BatchNorm; with k = 1 it brings a cell's input to the cell's width."""

    def __init__(self, entering: int, leaving: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.PReLU(entering),
            nn.Conv2d(entering, entering, kernel, stride, kernel // 2, groups=entering, bias=False),
            nn.Conv2d(entering, leaving, 1, bias=False),
            nn.BatchNorm2d(leaving),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H/stride, W/stride]."""
        y: Tensor = self.net(x)
        return y


class _Pool(nn.Module):
    """Pooling over 3 x 3 and BatchNorm."""

    def __init__(self, channels: int, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C, H/stride, W/stride]."""
        y: Tensor = self.bn(self.pool(x))
        return y


class _FactorizedReduce(nn.Module):
    """Halve the image by two strided branches, one a pixel beside the other, that make half of the channels each."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.relu = nn.PReLU(entering)
        self.conv11 = nn.Conv2d(entering, entering, 1, stride=2, groups=entering, bias=False)
        self.conv12 = nn.Conv2d(entering, leaving // 2, 1, bias=False)
        self.conv21 = nn.Conv2d(entering, entering, 1, stride=2, groups=entering, bias=False)
        self.conv22 = nn.Conv2d(entering, leaving // 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(leaving)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H/2, W/2]; H and W are even."""
        x = self.relu(x)
        beside = self.conv22(self.conv21(x[:, :, 1:, 1:]))
        y: Tensor = self.bn(torch.cat([self.conv12(self.conv11(x)), beside], dim=1))
        return y


def _skip(channels: int, stride: int) -> nn.Module:
    return nn.Identity() if stride == 1 else _FactorizedReduce(channels, channels)


def _depthwise(kernel: int) -> Callable[[int, int], nn.Module]:
    def operation(channels: int, stride: int) -> nn.Module:
        return _DWConv(channels, channels, kernel, stride)

    return operation


def _max_pool(channels: int, stride: int) -> nn.Module:
    return _Pool(channels, nn.MaxPool2d(3, stride, padding=1))


def _avg_pool(channels: int, stride: int) -> nn.Module:
    return _Pool(channels, nn.AvgPool2d(3, stride, padding=1, count_include_pad=False))


_OPERATIONS: dict[str, Callable[[int, int], nn.Module]] = {
    **{f"dw_conv_{kernel}x{kernel}": _depthwise(kernel) for kernel in KERNELS},
    "max_pool_3x3": _max_pool,
    "avg_pool_3x3": _avg_pool,
    "skip_connect": _skip,
}


class Cell(nn.Module):
    """Four nodes on the outputs of the two cells before; the output joins them."""

    def __init__(
        self, before: int, last: int, width: int, genotype: Genotype, *, reduces: bool, after_reduction: bool
    ) -> None:
        super().__init__()
        self.preproc0 = _FactorizedReduce(before, width) if after_reduction else _DWConv(before, width, 1)
        self.preproc1 = _DWConv(last, width, 1)
        self.dag = nn.ModuleList(
            nn.ModuleList(_OPERATIONS[name](width, 2 if reduces and source < 2 else 1) for name, source in node)
            for node in genotype
        )
        self.sources = [(first[1], second[1]) for first, second in genotype]

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        """Map the two cells' outputs to [N, 4 * width, H, W]."""
        states: list[Tensor] = [self.preproc0(before), self.preproc1(last)]
        for operations, (first, second) in zip(self.dag.children(), self.sources, strict=True):
            one, other = operations.children()
            states.append(one(states[first]) + other(states[second]))
        return torch.cat(states[2:], dim=1)


class PocketNet(nn.Module):
    """Stem, cells (those at a third, two thirds and the end halve the image and double the width) and tail."""

    def __init__(self, plan: PocketNetPlan) -> None:
        super().__init__()
        self.plan = plan
        stem = _STEM_MULTIPLIER * plan.width
        self.stem = nn.Sequential(nn.Conv2d(3, stem, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(stem))
        self.cells = nn.ModuleList()
        before, last, width, after_reduction = stem, stem, plan.width, False
        for place in range(plan.cells):
            reduces = place in (plan.cells // 3, 2 * plan.cells // 3, plan.cells - 1)
            width *= 2 if reduces else 1
            genotype = plan.reduce if reduces else plan.normal
            self.cells.append(Cell(before, last, width, genotype, reduces=reduces, after_reduction=after_reduction))
            before, last, after_reduction = last, _NODES * width, reduces
        self.tail = _tail(last, plan.head, plan.embedding_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, 112, 112] to embeddings [N, D], not normalised."""
        before = last = self.stem(x)
        for cell in self.cells:
            before, last = last, cell(before, last)
        return torch.flatten(self.tail(last), 1)


def _tail(entering: int, head: int, embedding_size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.PReLU(entering),
        *(nn.Conv2d(entering, head, 1, bias=False), nn.BatchNorm2d(head), nn.PReLU(head)),
        *(nn.Conv2d(head, head, 7, groups=head, bias=False), nn.BatchNorm2d(head)),
        *(nn.Conv2d(head, embedding_size, 1, bias=False), nn.BatchNorm2d(embedding_size)),
    )


def read_pocketnet(shapes: Shapes) -> PocketNetPlan:
    """Read the plan of a `PocketNet` off its keys and shapes."""
    return PocketNetPlan(
        width=shapes["stem.0.weight"][0] // _STEM_MULTIPLIER,
        cells=count_children(shapes, "cells."),
        embedding_size=shapes["tail.6.weight"][0],
        head=shapes["tail.1.weight"][0],
    )


_SOURCE = "PocketNet, arXiv 2108.10710, genotype softmax_casia"

ENTRIES = {
    plan.name: Architecture(published=plan, read=read_pocketnet, source=_SOURCE)
    for plan in (
        PocketNetPlan(width=16, cells=18, embedding_size=128),
        PocketNetPlan(width=16, cells=18, embedding_size=256),
        PocketNetPlan(width=32, cells=9, embedding_size=128),
        PocketNetPlan(width=32, cells=9, embedding_size=256),
    )
}
