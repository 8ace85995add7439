"""IR and IR-SE (ArcFace's ResNets, arXiv 1801.07698) as face.evoLVe lays them out, and as TFace and AdaFace do.

The body is one flat sequence of units, which hides the strides: the first unit halves the image, and so does each that
widens it. A unit that halves without widening has no convolution in its shortcut: it takes every other pixel. TFace's
units have a BatchNorm more, behind the first convolution, and the deepest of them are bottlenecks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from qface_toolkit.models._architecture import Architecture, Shapes, count_children

_TOTAL_STRIDE = 16
_DEPTHS: dict[tuple[int, ...], int] = {(3, 13, 30, 3): 101, (3, 8, 36, 3): 152, (3, 24, 36, 3): 200}
"""What networks are called whose name does not follow from their units."""


@dataclass(frozen=True)
class IRPlan:
    """Units and channels of the stages; `grid` is the (height, width) of the last feature map.

    `squeeze` is how many times fewer channels the gate of squeeze-and-excitation has inside (0: there is none).
    `tface` says that each unit has the BatchNorm that TFace added; only then `bottleneck` units of three convolutions
    are known. `affine` says whether the last BatchNorm has weights of its own.
    """

    units: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem: int = 64
    squeeze: int = 0
    tface: bool = False
    bottleneck: bool = False
    affine: bool = True
    embedding_size: int = 512
    grid: tuple[int, int] = (7, 7)

    @property
    def name(self) -> str:
        """The usual name: family, gates and depth."""
        depth = _DEPTHS.get(self.units, (3 if self.bottleneck else 2) * sum(self.units) + 2)
        return f"{'adaface-' if self.tface else ''}ir{'se' if self.squeeze else ''}{depth}"

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input: each stage halves the image."""
        height, width = self.grid
        return height * _TOTAL_STRIDE, width * _TOTAL_STRIDE

    def build(self) -> nn.Module:
        """Return the network with fresh weights."""
        return IR(self)


class Gate(nn.Module):
    """Squeeze-and-excitation: each channel times a number between 0 and 1 that all channels' means decide."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, channels // squeeze, 1, bias=False)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(channels // squeeze, channels, 1, bias=False)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        y: Tensor = x * self.sigmoid(self.fc2(self.relu(self.fc1(self.avg_pool(x)))))
        return y


class Unit(nn.Module):
    """Residual unit: BatchNorm stands before the first convolution, the stride in the last."""

    def __init__(self, plan: IRPlan, entering: int, leaving: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer = _shortcut(entering, leaving, stride)
        basic = _tface if plan.tface else _evolve
        self.res_layer = (_bottleneck if plan.bottleneck else basic)(entering, leaving, stride)
        if plan.squeeze:
            name = "se_block" if plan.tface else str(len(self.res_layer))
            self.res_layer.add_module(name, Gate(leaving, plan.squeeze))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H/stride, W/stride]."""
        y: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return y


def _shortcut(entering: int, leaving: int, stride: int) -> nn.Module:
    if entering == leaving:
        return nn.MaxPool2d(1, stride)
    return nn.Sequential(nn.Conv2d(entering, leaving, 1, stride, bias=False), nn.BatchNorm2d(leaving))


def _evolve(entering: int, leaving: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm2d(entering),
        *(nn.Conv2d(entering, leaving, 3, padding=1, bias=False), nn.PReLU(leaving)),
        *(nn.Conv2d(leaving, leaving, 3, stride, padding=1, bias=False), nn.BatchNorm2d(leaving)),
    )


def _tface(entering: int, leaving: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm2d(entering),
        *(nn.Conv2d(entering, leaving, 3, padding=1, bias=False), nn.BatchNorm2d(leaving), nn.PReLU(leaving)),
        *(nn.Conv2d(leaving, leaving, 3, stride, padding=1, bias=False), nn.BatchNorm2d(leaving)),
    )


def _bottleneck(entering: int, leaving: int, stride: int) -> nn.Sequential:
    inside = leaving // 4
    return nn.Sequential(
        nn.BatchNorm2d(entering),
        *(nn.Conv2d(entering, inside, 1, bias=False), nn.BatchNorm2d(inside), nn.PReLU(inside)),
        *(nn.Conv2d(inside, inside, 3, padding=1, bias=False), nn.BatchNorm2d(inside), nn.PReLU(inside)),
        *(nn.Conv2d(inside, leaving, 1, stride, bias=False), nn.BatchNorm2d(leaving)),
    )


class IR(nn.Module):
    """Stem, one flat body of units, and an embedding taken from the whole of the last feature map."""

    def __init__(self, plan: IRPlan) -> None:
        super().__init__()
        last = plan.widths[-1]
        stem = nn.Conv2d(3, plan.stem, 3, padding=1, bias=False)
        self.input_layer = nn.Sequential(stem, nn.BatchNorm2d(plan.stem), nn.PReLU(plan.stem))
        self.body = nn.Sequential(*(Unit(plan, *sizes) for sizes in _units(plan)))
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(last),
            nn.Dropout(p=0.0),  # keeps the numbers in the keys; it must not disturb a fine-tune that copies a teacher
            nn.Flatten(),
            nn.Linear(last * plan.grid[0] * plan.grid[1], plan.embedding_size),
            nn.BatchNorm1d(plan.embedding_size, affine=plan.affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to embeddings [N, D], not normalised."""
        embeddings: Tensor = self.output_layer(self.body(self.input_layer(x)))
        return embeddings


def _units(plan: IRPlan) -> Iterator[tuple[int, int, int]]:
    """Yield the channels that enter and leave each unit, and its stride."""
    entering = plan.stem
    for width, count in zip(plan.widths, plan.units, strict=True):
        for place in range(count):
            yield entering, width, 2 if place == 0 else 1
            entering = width


def read_evolve(shapes: Shapes) -> IRPlan:
    """Read the plan of an `IR` in face.evoLVe's layout off its keys and shapes."""
    return _of_family(_read(shapes), tface=False)


def read_tface(shapes: Shapes) -> IRPlan:
    """Read the plan of an `IR` in TFace's layout off its keys and shapes."""
    return _of_family(_read(shapes), tface=True)


def _of_family(plan: IRPlan, *, tface: bool) -> IRPlan:
    if plan.tface is not tface:
        raise ValueError("its units are those of the other family, which was trained on other colours")
    return plan


def _read(shapes: Shapes) -> IRPlan:
    first = "body.0.res_layer"
    tface = f"{first}.2.running_mean" in shapes
    bottleneck = f"{first}.7.weight" in shapes
    gate = shapes.get(f"{first}.{'se_block' if tface else 5}.fc1.weight")
    widths, units = _stages(shapes, 7 if bottleneck else 4 if tface else 3)
    embedding_size, flattened = shapes["output_layer.3.weight"]
    return IRPlan(
        units=units,
        widths=widths,
        stem=shapes["input_layer.0.weight"][0],
        squeeze=gate[1] // gate[0] if gate else 0,
        tface=tface,
        bottleneck=bottleneck,
        affine="output_layer.4.weight" in shapes,
        embedding_size=embedding_size,
        grid=_grid(flattened, widths[-1]),
    )


def _stages(shapes: Shapes, last: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the width of each stage and how many units it has, from the last convolution of each unit."""
    count = count_children(shapes, "body.")
    leaving = [shapes[f"body.{place}.res_layer.{last}.weight"][0] for place in range(count)]
    starts = [n for n in range(count) if n == 0 or leaving[n] != leaving[n - 1]]
    if len(starts) != 4:
        raise ValueError("an IR halves the image four times")
    ends = (*starts[1:], count)
    return tuple(leaving[start] for start in starts), tuple(b - a for a, b in zip(starts, ends, strict=True))


def _grid(flattened: int, width: int) -> tuple[int, int]:
    """Return the last feature map's size, that of a square input or of the middle of an aligned crop."""
    for grid in ((7, 7), (14, 14), (7, 6)):
        if flattened == width * grid[0] * grid[1]:
            return grid
    raise ValueError("only inputs of 112x112, 224x224 and 112x96 are known")


_UNITS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 101: (3, 13, 30, 3)}
_EVOLVE = (
    *(IRPlan(units) for units in (_UNITS[50], _UNITS[101], (3, 8, 36, 3))),
    *(IRPlan(units, squeeze=16) for units in (_UNITS[50], _UNITS[101], (3, 8, 36, 3))),
)
_ADAFACE = (
    *(IRPlan(units, tface=True, affine=False) for units in _UNITS.values()),
    *(IRPlan(_UNITS[depth], squeeze=16, tface=True, affine=False) for depth in (50, 101)),
    IRPlan((3, 8, 36, 3), (256, 512, 1024, 2048), tface=True, bottleneck=True, affine=False),
)

ENTRIES = {
    plan.name: Architecture(
        published=plan,
        read=read_evolve,
        source="ArcFace, arXiv 1801.07698; layout of github.com/ZhaoJ9014/face.evoLVe",
        caution="took the colours as rgb, as face.evoLVe does; InsightFace_Pytorch has the same keys and takes bgr",
    )
    for plan in _EVOLVE
} | {
    plan.name: Architecture(
        published=plan,
        read=read_tface,
        source="AdaFace, arXiv 2204.00964; layout of github.com/Tencent/TFace",
        color="bgr",
        caution="took the colours as bgr, as AdaFace does; TFace's own networks have the same keys and take rgb",
    )
    for plan in _ADAFACE
}
