"""MobileFaceNet (Chen et al., 2018, arXiv 1804.07573, Table 1) as its two flat public layouts name their modules.

Both list the bottlenecks in one sequence, which hides the strides; they follow from the table: the first bottleneck
halves the image, and so does each one that expands more than the one before it. The layouts that come down from
InsightFace's own code are in `mobilefacenet_insightface.py`.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from qface_toolkit.models._architecture import Architecture, Shapes, count_children
from qface_toolkit.models._bottlenecks import Bottleneck, MobileFaceNetPlan, global_kernel, published_bottlenecks


class LinearUnit(nn.Module):
    """Convolution and BatchNorm, no activation."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.bn = nn.BatchNorm2d(conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H', W']."""
        y: Tensor = self.bn(self.conv(x))
        return y


class ConvUnit(LinearUnit):
    """Convolution, BatchNorm and PReLU."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv)
        self.prelu = nn.PReLU(conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H', W']."""
        y: Tensor = self.prelu(super().forward(x))
        return y


def conv(entering: int, leaving: int, kernel: int | tuple[int, int], stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a bias-free convolution that keeps the image's size at stride 1; the global one (a pair) does not pad."""
    padding = kernel // 2 if isinstance(kernel, int) else 0
    return nn.Conv2d(entering, leaving, kernel, stride, padding, groups=groups, bias=False)


class _Residual(nn.Module):
    """A bottleneck whose layers stand in the sequence `conv`."""

    def __init__(self, layers: nn.Sequential, *, adds: bool) -> None:
        super().__init__()
        self.conv = layers
        self.adds = adds

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H', W']."""
        y: Tensor = self.conv(x)
        return x + y if self.adds else y


class PReLUMobileFaceNet(nn.Module):
    """MobileFaceNet with PReLU, modules named as in the public repository Xiaoccer/MobileFaceNet_Pytorch."""

    def __init__(self, plan: MobileFaceNetPlan) -> None:
        super().__init__()
        last = plan.bottlenecks[-1].leaving
        self.conv1 = ConvUnit(conv(3, plan.stem, 3, stride=2))
        self.dw_conv1 = ConvUnit(conv(plan.stem, plan.stem, 3, groups=plan.stem))
        self.blocks = nn.Sequential(*map(_prelu_bottleneck, plan.bottlenecks))
        self.conv2 = ConvUnit(conv(last, plan.head, 1))
        self.linear7 = LinearUnit(conv(plan.head, plan.head, plan.kernel, groups=plan.head))
        self.linear1 = LinearUnit(conv(plan.head, plan.embedding_size, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to embeddings [N, D], not normalised."""
        x = self.blocks(self.dw_conv1(self.conv1(x)))
        return torch.flatten(self.linear1(self.linear7(self.conv2(x))), 1)


def _prelu_bottleneck(plan: Bottleneck) -> nn.Module:
    hidden = plan.hidden
    layers = nn.Sequential(
        *(conv(plan.entering, hidden, 1), nn.BatchNorm2d(hidden), nn.PReLU(hidden)),
        *(conv(hidden, hidden, 3, plan.stride, groups=hidden), nn.BatchNorm2d(hidden), nn.PReLU(hidden)),
        *(conv(hidden, plan.leaving, 1), nn.BatchNorm2d(plan.leaving)),
    )
    return _Residual(layers, adds=plan.adds)


def read_prelu(shapes: Shapes) -> MobileFaceNetPlan:
    """Read the plan of a `PReLUMobileFaceNet` off its keys and shapes."""
    steps = (f"blocks.{n}.conv" for n in range(count_children(shapes, "blocks.")))
    return MobileFaceNetPlan(
        name="mobilefacenet",
        network=PReLUMobileFaceNet,
        stem=shapes["conv1.conv.weight"][0],
        bottlenecks=_with_strides((shapes[f"{step}.0.weight"], shapes[f"{step}.6.weight"]) for step in steps),
        head=shapes["conv2.conv.weight"][0],
        embedding_size=shapes["linear1.conv.weight"][0],
        kernel=global_kernel(shapes["linear7.conv.weight"]),
    )


class _SeparableConv(nn.Module):
    """Depthwise then pointwise convolution, each with BatchNorm and a ReLU that, unlike the others, is not cut at 6."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = conv(channels, channels, 3, groups=channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.pointwise = conv(channels, channels, 1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        x = self.relu1(self.bn1(self.depthwise(x)))
        y: Tensor = self.relu2(self.bn2(self.pointwise(x)))
        return y


class _GlobalConv(nn.Module):
    """The global depthwise convolution, which weighs the places of the last feature map."""

    def __init__(self, channels: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.depthwise = conv(channels, channels, kernel, groups=channels)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C, 1, 1]."""
        y: Tensor = self.bn(self.depthwise(x))
        return y


class ReLU6MobileFaceNet(nn.Module):
    """MobileFaceNet on MobileNetV2's blocks with ReLU6, modules named as in the public foamliu/MobileFaceNet."""

    def __init__(self, plan: MobileFaceNetPlan) -> None:
        super().__init__()
        self.conv1 = _relu6_unit(conv(3, plan.stem, 3, stride=2))
        self.dw_conv = _SeparableConv(plan.stem)
        self.features = nn.Sequential(*map(_relu6_bottleneck, plan.bottlenecks))
        self.conv2 = _relu6_unit(conv(plan.bottlenecks[-1].leaving, plan.head, 1))
        self.gdconv = _GlobalConv(plan.head, plan.kernel)
        self.conv3 = nn.Conv2d(plan.head, plan.embedding_size, 1)
        self.bn = nn.BatchNorm2d(plan.embedding_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to embeddings [N, D], not normalised."""
        x = self.features(self.dw_conv(self.conv1(x)))
        return torch.flatten(self.bn(self.conv3(self.gdconv(self.conv2(x)))), 1)


def _relu6_unit(layer: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU6())


def _relu6_bottleneck(plan: Bottleneck) -> nn.Module:
    layers = nn.Sequential(
        _relu6_unit(conv(plan.entering, plan.hidden, 1)),
        _relu6_unit(conv(plan.hidden, plan.hidden, 3, plan.stride, groups=plan.hidden)),
        conv(plan.hidden, plan.leaving, 1),
        nn.BatchNorm2d(plan.leaving),
    )
    return _Residual(layers, adds=plan.adds)


def read_relu6(shapes: Shapes) -> MobileFaceNetPlan:
    """Read the plan of a `ReLU6MobileFaceNet` off its keys and shapes."""
    steps = (f"features.{n}.conv" for n in range(count_children(shapes, "features.")))
    return MobileFaceNetPlan(
        name="mobilefacenet-relu6",
        network=ReLU6MobileFaceNet,
        stem=shapes["conv1.0.weight"][0],
        bottlenecks=_with_strides((shapes[f"{step}.0.0.weight"], shapes[f"{step}.2.weight"]) for step in steps),
        head=shapes["conv2.0.weight"][0],
        embedding_size=shapes["conv3.weight"][0],
        kernel=global_kernel(shapes["gdconv.depthwise.weight"]),
    )


def _with_strides(pairs: Iterable[tuple[tuple[int, ...], tuple[int, ...]]]) -> tuple[Bottleneck, ...]:
    """Turn (expanding, projecting) weight shapes into bottlenecks, with the strides of the paper's table."""
    bottlenecks: list[Bottleneck] = []
    previous = 0.0
    for expand, project in pairs:
        expansion = expand[0] / expand[1]
        stride = 2 if expansion > previous else 1
        bottlenecks.append(Bottleneck(expand[1], expand[0], project[0], stride))
        previous = expansion
    if sum(block.stride == 2 for block in bottlenecks) != 3:
        raise ValueError("a MobileFaceNet halves the image three times after its stem")
    return tuple(bottlenecks)


ENTRIES = {
    "mobilefacenet": Architecture(
        published=MobileFaceNetPlan(
            "mobilefacenet",
            PReLUMobileFaceNet,
            64,
            published_bottlenecks(),
            head=512,
            embedding_size=128,
            kernel=(7, 6),
        ),
        read=read_prelu,
        source="MobileFaceNets, arXiv 1804.07573; layout of github.com/Xiaoccer/MobileFaceNet_Pytorch",
        std=(128.0, 128.0, 128.0),
    ),
    "mobilefacenet-relu6": Architecture(
        published=MobileFaceNetPlan(
            "mobilefacenet-relu6", ReLU6MobileFaceNet, 64, published_bottlenecks(), head=512, embedding_size=128
        ),
        read=read_relu6,
        source="MobileFaceNets, arXiv 1804.07573; layout of github.com/foamliu/MobileFaceNet",
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
    ),
}
