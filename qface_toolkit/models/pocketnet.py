"""PocketNet (Boutros et al., 2021, arXiv 2108.10710): cells found by architecture search, stacked in two widths.

All published PocketNets share one genotype; the number of cells, their width and the embedding's size differ. A cell
sees the outputs of the two cells before it; four nodes, each the sum of two operations, are joined to its output.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qface_toolkit.models._architecture import Architecture, Shapes, count_children

_STEM_MULTIPLIER = 4
_NODES = 4

Genotype = tuple[tuple[tuple[str, int], tuple[str, int]], ...]
"""For each node its two operations, as (name, input); inputs 0 and 1 are the cells before, 2.. are earlier nodes."""

_NORMAL: Genotype = (
    (("dw_conv_3x3", 0), ("dw_conv_1x1", 1)),
    (("dw_conv_3x3", 2), ("dw_conv_5x5", 0)),
    (("dw_conv_3x3", 3), ("dw_conv_3x3", 0)),
    (("dw_conv_3x3", 4), ("skip_connect", 0)),
)
_REDUCE: Genotype = (
    (("dw_conv_3x3", 1), ("dw_conv_7x7", 0)),
    (("skip_connect", 2), ("dw_conv_5x5", 1)),
    (("max_pool_3x3", 0), ("skip_connect", 2)),
    (("max_pool_3x3", 0), ("max_pool_3x3", 1)),
)


@dataclass(frozen=True)
class PocketNetPlan:
    """Width of the first cell, number of cells, width of the tail and size of the embedding."""

    width: int
    cells: int
    embedding_size: int
    head: int = 512

    @property
    def name(self) -> str:
        """The paper's name, or one after width and cells for a network that is not in it."""
        size = {(16, 18): "s", (32, 9): "m"}.get((self.width, self.cells), f"{self.width}x{self.cells}")
        return f"pocketnet-{size}-{self.embedding_size}"

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input."""
        return 112, 112

    def build(self) -> nn.Module:
        """Return the network with fresh weights."""
        return PocketNet(self)


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


class _MaxPool(nn.Module):
    """Max pooling over 3 x 3 and BatchNorm."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(3, stride, padding=1)
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


_OPERATIONS: dict[str, Callable[[int, int], nn.Module]] = {
    **{f"dw_conv_{kernel}x{kernel}": _depthwise(kernel) for kernel in (1, 3, 5, 7)},
    "max_pool_3x3": _MaxPool,
    "skip_connect": _skip,
}


class Cell(nn.Module):
    """Four nodes on the outputs of the two cells before; the output joins them."""

    def __init__(self, before: int, last: int, width: int, *, reduces: bool, after_reduction: bool) -> None:
        super().__init__()
        genotype = _REDUCE if reduces else _NORMAL
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
        stem = _STEM_MULTIPLIER * plan.width
        self.stem = nn.Sequential(nn.Conv2d(3, stem, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(stem))
        self.cells = nn.ModuleList()
        before, last, width, after_reduction = stem, stem, plan.width, False
        for place in range(plan.cells):
            reduces = place in (plan.cells // 3, 2 * plan.cells // 3, plan.cells - 1)
            width *= 2 if reduces else 1
            self.cells.append(Cell(before, last, width, reduces=reduces, after_reduction=after_reduction))
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
