"""MobileFaceNet in the layouts that come down from InsightFace: QuantFace's, and arcface_torch's mbf and mbf_large.

Here every stage has a module of its own: one bottleneck that halves the image, then a run of residual ones. The plan is
the same as in `mobilefacenet.py`; bottlenecks before the first halving one make mbf_large's extra stage.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from qface_toolkit.models._architecture import Architecture, Shapes, count_children
from qface_toolkit.models._bottlenecks import Bottleneck, MobileFaceNetPlan, global_kernel, published_bottlenecks
from qface_toolkit.models.mobilefacenet import ConvUnit, LinearUnit, conv

_QUANTFACE_STAGES = (("conv_23", "conv_3"), ("conv_34", "conv_4"), ("conv_45", "conv_5"))


class _DepthWise(nn.Module):
    """A bottleneck whose three layers have names."""

    def __init__(self, plan: Bottleneck) -> None:
        super().__init__()
        hidden = plan.hidden
        self.conv = ConvUnit(conv(plan.entering, hidden, 1))
        self.conv_dw = ConvUnit(conv(hidden, hidden, 3, plan.stride, groups=hidden))
        self.project = LinearUnit(conv(hidden, plan.leaving, 1))
        self.adds = plan.adds

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H', W']."""
        y: Tensor = self.project(self.conv_dw(self.conv(x)))
        return x + y if self.adds else y


class _Run(nn.Module):
    """Residual bottlenecks one after the other, in the sequence `model`."""

    def __init__(self, plans: Sequence[Bottleneck]) -> None:
        super().__init__()
        self.model = nn.Sequential(*map(_DepthWise, plans))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        y: Tensor = self.model(x)
        return y


class _OutputLayer(nn.Module):
    """Global depthwise convolution, then the embedding with its BatchNorm."""

    def __init__(self, head: int, embedding_size: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.conv_6_dw = LinearUnit(conv(head, head, kernel, groups=head))
        self.linear = nn.Linear(head, embedding_size, bias=False)
        self.bn = nn.BatchNorm1d(embedding_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, D]."""
        y: Tensor = self.bn(self.linear(torch.flatten(self.conv_6_dw(x), 1)))
        return y


class _Trunk(nn.Module):
    """All of a MobileFaceNet up to the last feature map, each stage a module of its own."""

    def __init__(self, plan: MobileFaceNetPlan) -> None:
        super().__init__()
        (halve1, *run1), (halve2, *run2), (halve3, *run3) = _stages(plan.bottlenecks)
        self.conv1 = ConvUnit(conv(3, plan.stem, 3, stride=2))
        self.conv2_dw = ConvUnit(conv(plan.stem, plan.stem, 3, groups=plan.stem))
        self.conv_23, self.conv_3 = _DepthWise(halve1), _Run(run1)
        self.conv_34, self.conv_4 = _DepthWise(halve2), _Run(run2)
        self.conv_45, self.conv_5 = _DepthWise(halve3), _Run(run3)
        self.conv_6_sep = ConvUnit(conv(plan.bottlenecks[-1].leaving, plan.head, 1))

    def last_map(self, x: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to the last feature map [N, C, H/16, W/16]."""
        x = self.conv2_dw(self.conv1(x))
        x = self.conv_3(self.conv_23(x))
        x = self.conv_4(self.conv_34(x))
        y: Tensor = self.conv_6_sep(self.conv_5(self.conv_45(x)))
        return y


class QuantFaceMobileFaceNet(_Trunk):
    """MobileFaceNet with PReLU, modules named as in QuantFace's checkpoints (arXiv 2206.10526), and in cavaface's."""

    def __init__(self, plan: MobileFaceNetPlan) -> None:
        super().__init__(plan)
        self.output_layer = _OutputLayer(plan.head, plan.embedding_size, plan.kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to embeddings [N, D], not normalised."""
        embeddings: Tensor = self.output_layer(self.last_map(x))
        return embeddings


class EvolveMobileFaceNet(_Trunk):
    """The same with the last layers beside the others, as TreB1eN/InsightFace_Pytorch and face.evoLVe have them."""

    def __init__(self, plan: MobileFaceNetPlan) -> None:
        super().__init__(plan)
        self.conv_6_dw = LinearUnit(conv(plan.head, plan.head, plan.kernel, groups=plan.head))
        self.linear = nn.Linear(plan.head, plan.embedding_size, bias=False)
        self.bn = nn.BatchNorm1d(plan.embedding_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to embeddings [N, D], not normalised."""
        embeddings: Tensor = self.bn(self.linear(torch.flatten(self.conv_6_dw(self.last_map(x)), 1)))
        return embeddings


def _stages(bottlenecks: Sequence[Bottleneck]) -> list[list[Bottleneck]]:
    """Split before each bottleneck that halves the image; what stands before the first of them is left out."""
    stages: list[list[Bottleneck]] = []
    for bottleneck in bottlenecks:
        if bottleneck.stride == 2:
            stages.append([])
        if stages:
            stages[-1].append(bottleneck)
    return stages


def read_quantface(shapes: Shapes) -> MobileFaceNetPlan:
    """Read the plan of a `QuantFaceMobileFaceNet`, or of an `EvolveMobileFaceNet`, off its keys and shapes."""
    flat = "conv_6_dw.conv.weight" in shapes
    prefix = "" if flat else "output_layer."
    return MobileFaceNetPlan(
        name="mobilefacenet-evolve" if flat else "mobilefacenet-quantface",
        network=EvolveMobileFaceNet if flat else QuantFaceMobileFaceNet,
        stem=shapes["conv1.conv.weight"][0],
        bottlenecks=tuple(_read_quantface_bottlenecks(shapes)),
        head=shapes["conv_6_sep.conv.weight"][0],
        embedding_size=shapes[f"{prefix}linear.weight"][0],
        kernel=global_kernel(shapes[f"{prefix}conv_6_dw.conv.weight"]),
    )


def _read_quantface_bottlenecks(shapes: Shapes) -> Iterator[Bottleneck]:
    for halving, run in _QUANTFACE_STAGES:
        yield _read_bottleneck(shapes, f"{halving}.conv.conv", f"{halving}.project.conv", stride=2)
        for n in range(count_children(shapes, f"{run}.model.")):
            step = f"{run}.model.{n}"
            yield _read_bottleneck(shapes, f"{step}.conv.conv", f"{step}.project.conv", stride=1)


class _Layers(nn.Module):
    """A sequence under the name `layers`, as arcface_torch writes every one of its modules."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Run the layers one after the other."""
        y: Tensor = self.layers(x)
        return y


class _ResidualLayers(_Layers):
    """A sequence whose input is added to its output."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        return x + super().forward(x)


class MBF(nn.Module):
    """MobileFaceNet as arcface_torch's get_mbf and get_mbf_large build it."""

    def __init__(self, plan: MobileFaceNetPlan) -> None:
        super().__init__()
        opening = plan.bottlenecks[: _opening_length(plan.bottlenecks)]
        stages = ((_mbf_bottleneck(halving), _mbf_run(run)) for halving, *run in _stages(plan.bottlenecks))
        second = _mbf_run(opening) if opening else _unit(conv(plan.stem, plan.stem, 3, groups=plan.stem_groups))
        modules = (_unit(conv(3, plan.stem, 3, stride=2)), second, *chain.from_iterable(stages))
        self.layers = nn.Sequential(*modules)
        self.conv_sep = _unit(conv(plan.bottlenecks[-1].leaving, plan.head, 1))
        self.features = _Layers(
            _linear_unit(conv(plan.head, plan.head, plan.kernel, groups=plan.head)),
            nn.Flatten(),
            nn.Linear(plan.head, plan.embedding_size, bias=False),
            nn.BatchNorm1d(plan.embedding_size),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to embeddings [N, D], not normalised."""
        embeddings: Tensor = self.features(self.conv_sep(self.layers(x)))
        return embeddings


def _opening_length(bottlenecks: Sequence[Bottleneck]) -> int:
    return next(place for place, bottleneck in enumerate(bottlenecks) if bottleneck.stride == 2)


def _unit(layer: nn.Conv2d) -> _Layers:
    return _Layers(layer, nn.BatchNorm2d(layer.out_channels), nn.PReLU(layer.out_channels))


def _linear_unit(layer: nn.Conv2d) -> _Layers:
    return _Layers(layer, nn.BatchNorm2d(layer.out_channels))


def _mbf_bottleneck(plan: Bottleneck) -> _Layers:
    layers = (
        _unit(conv(plan.entering, plan.hidden, 1)),
        _unit(conv(plan.hidden, plan.hidden, 3, plan.stride, groups=plan.hidden)),
        _linear_unit(conv(plan.hidden, plan.leaving, 1)),
    )
    return _ResidualLayers(*layers) if plan.adds else _Layers(*layers)


def _mbf_run(plans: Sequence[Bottleneck]) -> _Layers:
    return _Layers(*map(_mbf_bottleneck, plans))


def read_mbf(shapes: Shapes) -> MobileFaceNetPlan:
    """Read the plan of an `MBF` off its keys and shapes; its second convolution, where it has one, is grouped."""
    stem = shapes["layers.0.layers.0.weight"][0]
    second = shapes.get("layers.1.layers.0.weight")
    return MobileFaceNetPlan(
        name="mobilefacenet-mbf" if second else "mobilefacenet-mbf-large",
        network=MBF,
        stem=stem,
        bottlenecks=tuple(_read_mbf_bottlenecks(shapes, opens=second is None)),
        head=shapes["conv_sep.layers.0.weight"][0],
        embedding_size=shapes["features.layers.2.weight"][0],
        kernel=global_kernel(shapes["features.layers.0.layers.0.weight"]),
        stem_groups=stem // second[1] if second else 1,
    )


def _read_mbf_bottlenecks(shapes: Shapes, *, opens: bool) -> Iterator[Bottleneck]:
    for stage in (1, 3, 5, 7) if opens else (3, 5, 7):
        if stage > 1:
            yield _read_mbf_bottleneck(shapes, f"layers.{stage - 1}", stride=2)
        for n in range(count_children(shapes, f"layers.{stage}.layers.")):
            yield _read_mbf_bottleneck(shapes, f"layers.{stage}.layers.{n}", stride=1)


def _read_mbf_bottleneck(shapes: Shapes, step: str, *, stride: int) -> Bottleneck:
    return _read_bottleneck(shapes, f"{step}.layers.0.layers.0", f"{step}.layers.2.layers.0", stride=stride)


def _read_bottleneck(shapes: Shapes, expand: str, project: str, *, stride: int) -> Bottleneck:
    hidden, entering = shapes[f"{expand}.weight"][:2]
    return Bottleneck(entering, hidden, shapes[f"{project}.weight"][0], stride)


def _published_mbf(name: str, width: int, repeats: tuple[int, int, int, int], *, stem_groups: int) -> MobileFaceNetPlan:
    opening, *rest = repeats
    rows = ((width, 128, width), (width, 256, 2 * width), (2 * width, 512, 2 * width))
    bottlenecks = [Bottleneck(width, 128, width, 1)] * opening
    for (entering, hidden, leaving), hidden_after, count in zip(rows, (128, 256, 256), rest, strict=True):
        bottlenecks.append(Bottleneck(entering, hidden, leaving, 2))
        bottlenecks += [Bottleneck(leaving, hidden_after, leaving, 1)] * count
    return MobileFaceNetPlan(
        name, MBF, width, tuple(bottlenecks), head=512, embedding_size=512, stem_groups=stem_groups
    )


_ARCFACE_TORCH = "MobileFaceNets, arXiv 1804.07573; layout of insightface's arcface_torch"

ENTRIES = {
    "mobilefacenet-quantface": Architecture(
        published=MobileFaceNetPlan(
            "mobilefacenet-quantface", QuantFaceMobileFaceNet, 64, published_bottlenecks(), head=512, embedding_size=128
        ),
        read=read_quantface,
        source="MobileFaceNets, arXiv 1804.07573; layout of QuantFace, arXiv 2206.10526",
    ),
    "mobilefacenet-evolve": Architecture(
        published=MobileFaceNetPlan(
            "mobilefacenet-evolve", EvolveMobileFaceNet, 64, published_bottlenecks(), head=512, embedding_size=512
        ),
        read=read_quantface,
        source="MobileFaceNets, arXiv 1804.07573; layout of TreB1eN/InsightFace_Pytorch and face.evoLVe",
        caution="took the colours as rgb, as face.evoLVe does; InsightFace_Pytorch has the same keys and takes bgr",
    ),
    "mobilefacenet-mbf": Architecture(
        published=_published_mbf("mobilefacenet-mbf", 128, (0, 4, 6, 2), stem_groups=64),
        read=read_mbf,
        source=_ARCFACE_TORCH,
    ),
    "mobilefacenet-mbf-large": Architecture(
        published=_published_mbf("mobilefacenet-mbf-large", 256, (2, 8, 12, 4), stem_groups=1),
        read=read_mbf,
        source=_ARCFACE_TORCH,
    ),
}
