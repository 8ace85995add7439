"""Inception-ResNet-v1 (Szegedy et al., 2016, arXiv 1602.07261) as facenet-pytorch lays it out: FaceNet's network.

Three runs of residual blocks, whose branches look at windows of different shapes, and two reductions between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import Tensor, nn

from qface_toolkit.models._architecture import Architecture, Shapes, count_children

_EPSILON = 1e-3
_SCALES = (0.17, 0.10, 0.20)
"""What the blocks of each run multiply their branches by."""


@dataclass(frozen=True)
class InceptionResNetPlan:
    """How many blocks each of the three runs has, the last of which is followed by one without ReLU."""

    repeats: tuple[int, int, int] = (5, 10, 5)
    embedding_size: int = 512

    @property
    def name(self) -> str:
        """The published name, with the blocks where there are others."""
        usual = self.repeats == (5, 10, 5)
        return "inception-resnet-v1" + ("" if usual else "-" + "-".join(map(str, self.repeats)))

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input that the networks were trained for; they take others."""
        return 160, 160

    def build(self) -> nn.Module:
        """Return the network with fresh weights."""
        return InceptionResNet(self)


Window = int | tuple[int, int]


class _Unit(nn.Module):
    """Convolution, BatchNorm and ReLU."""

    def __init__(self, entering: int, leaving: int, window: Window, stride: int = 1, *, pads: bool = True) -> None:
        super().__init__()
        sides = (window, window) if isinstance(window, int) else window
        padding = (sides[0] // 2, sides[1] // 2) if pads else 0
        self.conv = nn.Conv2d(entering, leaving, sides, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(leaving, eps=_EPSILON)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H', W']."""
        y: Tensor = self.relu(self.bn(self.conv(x)))
        return y


def _branch(entering: int, *layers: tuple[int, Window]) -> nn.Module:
    """Return units of these widths and windows one after the other; a single one stands by itself."""
    widths = (entering, *(width for width, _ in layers))
    units = [_Unit(before, *layer) for before, layer in zip(widths, layers, strict=False)]
    return nn.Sequential(*units) if len(units) > 1 else units[0]


class _Branches(nn.Module):
    """Branches called `branch0` and on, whose results stand one behind the other."""

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.count = len(branches)
        for place, branch in enumerate(branches):
            self.add_module(f"branch{place}", branch)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H', W']."""
        return torch.cat([getattr(self, f"branch{place}")(x) for place in range(self.count)], 1)


class _Block(_Branches):
    """Branches, mixed and scaled, added to the input."""

    def __init__(
        self, width: int, branches: Sequence[nn.Module], mixed: int, scale: float, *, relu: bool = True
    ) -> None:
        super().__init__(branches)
        self.scale = scale
        self.conv2d = nn.Conv2d(mixed, width, 1)
        self.relu = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        y: Tensor = self.relu(self.conv2d(super().forward(x)) * self.scale + x)
        return y


def _block35(scale: float) -> _Block:
    branches = (_branch(256, (32, 1)), _branch(256, (32, 1), (32, 3)), _branch(256, (32, 1), (32, 3), (32, 3)))
    return _Block(256, branches, 96, scale)


def _block17(scale: float) -> _Block:
    return _Block(896, (_branch(896, (128, 1)), _branch(896, (128, 1), (128, (1, 7)), (128, (7, 1)))), 256, scale)


def _block8(scale: float, *, relu: bool = True) -> _Block:
    branches = (_branch(1792, (192, 1)), _branch(1792, (192, 1), (192, (1, 3)), (192, (3, 1))))
    return _Block(1792, branches, 384, scale, relu=relu)


def _halving(entering: int, leaving: int) -> _Unit:
    return _Unit(entering, leaving, 3, 2, pads=False)


def _mixed6a() -> _Branches:
    deep = nn.Sequential(_Unit(256, 192, 1), _Unit(192, 192, 3), _halving(192, 256))
    return _Branches((_halving(256, 384), deep, nn.MaxPool2d(3, 2)))


def _mixed7a() -> _Branches:
    wide = nn.Sequential(_Unit(896, 256, 1), _halving(256, 384))
    narrow = nn.Sequential(_Unit(896, 256, 1), _halving(256, 256))
    deep = nn.Sequential(_Unit(896, 256, 1), _Unit(256, 256, 3), _halving(256, 256))
    return _Branches((wide, narrow, deep, nn.MaxPool2d(3, 2)))


class InceptionResNet(nn.Module):
    """Stem, three runs of blocks, mean over the image, and an embedding of unit length."""

    def __init__(self, plan: InceptionResNetPlan) -> None:
        super().__init__()
        first, second, third = plan.repeats
        self.conv2d_1a = _halving(3, 32)
        self.conv2d_2a = _Unit(32, 32, 3, pads=False)
        self.conv2d_2b = _Unit(32, 64, 3)
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b = _Unit(64, 80, 1)
        self.conv2d_4a = _Unit(80, 192, 3, pads=False)
        self.conv2d_4b = _halving(192, 256)
        self.repeat_1 = nn.Sequential(*(_block35(_SCALES[0]) for _ in range(first)))
        self.mixed_6a = _mixed6a()
        self.repeat_2 = nn.Sequential(*(_block17(_SCALES[1]) for _ in range(second)))
        self.mixed_7a = _mixed7a()
        self.repeat_3 = nn.Sequential(*(_block8(_SCALES[2]) for _ in range(third)))
        self.block8 = _block8(1.0, relu=False)
        self.avgpool_1a = nn.AdaptiveAvgPool2d(1)
        self.last_linear = nn.Linear(1792, plan.embedding_size, bias=False)
        self.last_bn = nn.BatchNorm1d(plan.embedding_size, eps=_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to embeddings [N, D] of unit length."""
        x = self.maxpool_3a(self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x))))
        x = self.repeat_1(self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(x))))
        x = self.repeat_2(self.mixed_6a(x))
        x = self.block8(self.repeat_3(self.mixed_7a(x)))
        return F.normalize(self.last_bn(self.last_linear(torch.flatten(self.avgpool_1a(x), 1))), dim=1)


def read_inception_resnet(shapes: Shapes) -> InceptionResNetPlan:
    """Read the plan of an `InceptionResNet` off its keys and shapes."""
    first, second, third = (count_children(shapes, f"repeat_{place}.") for place in (1, 2, 3))
    return InceptionResNetPlan((first, second, third), shapes["last_linear.weight"][0])


ENTRIES = {
    "inception-resnet-v1": Architecture(
        published=InceptionResNetPlan(),
        read=read_inception_resnet,
        source="FaceNet, arXiv 1503.03832; layout of github.com/timesler/facenet-pytorch",
        std=(128.0, 128.0, 128.0),
        crop="facenet",
    )
}
