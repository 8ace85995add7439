"""MobileNet with PReLU (insightface's fmobilenet): what OpenCV's face_recognition_sface is (SFace, arXiv 2205.12010).

It takes pixels as they are and scales them itself. Files of it are ONNX, whose graph is recognised; a state dict has
the names of MXNet's layers.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qface_toolkit.models._architecture import Architecture, Shapes

_MEAN, _SCALE = 127.5, 0.0078125
_EPSILON, _LAST_EPSILON = 1e-3, 2e-5
_WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
_TOTAL_STRIDE = 16


@dataclass(frozen=True)
class SFacePlan:
    """Channels of the stem and behind each pair of a depthwise and a pointwise convolution."""

    stem: int = 32
    widths: tuple[int, ...] = _WIDTHS
    embedding_size: int = 128
    grid: tuple[int, int] = (7, 7)

    @property
    def name(self) -> str:
        """The published name, with the pairs' number where there are others."""
        return "sface" if self.widths == _WIDTHS else f"sface-{len(self.widths)}"

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input: the image is halved four times."""
        height, width = self.grid
        return height * _TOTAL_STRIDE, width * _TOTAL_STRIDE

    def build(self) -> nn.Module:
        """Return the network with fresh weights."""
        return SFace(self)


class SFace(nn.Module):
    """Stem, pairs of a depthwise and a pointwise convolution, and an embedding taken from the whole last map."""

    def __init__(self, plan: SFacePlan) -> None:
        super().__init__()
        last = plan.widths[-1]
        self.units = tuple(_units(plan))
        for name, layer in zip(self.units, _layers(plan), strict=True):
            self.add_module(f"{name}_conv2d", layer)
            self.add_module(f"{name}_batchnorm", nn.BatchNorm2d(layer.out_channels, eps=_EPSILON))
            self.add_module(f"{name}_relu", nn.PReLU(layer.out_channels))
        self.bn1 = nn.BatchNorm2d(last, eps=_LAST_EPSILON)
        self.pre_fc1 = nn.Linear(last * plan.grid[0] * plan.grid[1], plan.embedding_size)
        self.fc1 = nn.BatchNorm1d(plan.embedding_size, eps=_LAST_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, H, W] of pixels 0..255 to embeddings [N, D], not normalised."""
        x = (x - _MEAN) * _SCALE
        for name in self.units:
            for kind in ("conv2d", "batchnorm", "relu"):
                x = getattr(self, f"{name}_{kind}")(x)
        embeddings: Tensor = self.fc1(self.pre_fc1(torch.flatten(self.bn1(x), 1)))
        return embeddings


def _units(plan: SFacePlan) -> Iterator[str]:
    yield "conv_1"
    for place in range(2, len(plan.widths) + 2):
        yield from (f"conv_{place}_dw", f"conv_{place}")


def _layers(plan: SFacePlan) -> Iterator[nn.Conv2d]:
    yield nn.Conv2d(3, plan.stem, 3, padding=1, bias=False)
    entering = plan.stem
    for place, leaving in enumerate(plan.widths):
        stride = 2 if place and leaving > entering else 1
        yield nn.Conv2d(entering, entering, 3, stride, padding=1, groups=entering, bias=False)
        yield nn.Conv2d(entering, leaving, 1, bias=False)
        entering = leaving


def read_sface(shapes: Shapes) -> SFacePlan:
    """Read the plan of an `SFace` off its keys and shapes."""
    widths = tuple(_read_widths(shapes))
    embedding_size, flattened = shapes["pre_fc1.weight"]
    side = round((flattened / widths[-1]) ** 0.5)
    if widths[-1] * side * side != flattened or sum(a < b for a, b in zip(widths, widths[1:], strict=False)) != 4:
        raise ValueError("an SFace halves a square image four times")
    return SFacePlan(shapes["conv_1_conv2d.weight"][0], widths, embedding_size, (side, side))


def _read_widths(shapes: Shapes) -> Iterator[int]:
    place = 2
    while f"conv_{place}_conv2d.weight" in shapes:
        yield shapes[f"conv_{place}_conv2d.weight"][0]
        place += 1


ENTRIES = {
    "sface": Architecture(
        published=SFacePlan(),
        read=read_sface,
        source="SFace, arXiv 2205.12010; as OpenCV's zoo has it",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
}
