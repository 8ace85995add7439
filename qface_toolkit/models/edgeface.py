"""EdgeFace (George et al., 2023, arXiv 2307.01838): EdgeNeXt with an embedding for a classifier, in timm's layout.

Stages of depthwise convolutions end in a block that attends over channels (EdgeNeXt, arXiv 2206.10589). In the variants
called gamma, each linear layer is two of a lower rank.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import Tensor, nn

from qface_toolkit.models._architecture import Architecture, Shapes, count_children
from qface_toolkit.models._positions import Positions

_EPSILON = 1e-6
_NAMES = {24: "xxs", 32: "xs", 48: "s", 80: "base"}


@dataclass(frozen=True)
class EdgeFacePlan:
    """Blocks, channels, depthwise kernels, heads and scales of the four stages.

    `scales` counts the depthwise convolutions of each stage's attending block, 0 where it has none; only the stage of
    the first one knows positions. `rank` is the rank of each linear layer in hundredths of its shorter side (0: full).
    """

    depths: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (48, 96, 160, 304)
    kernels: tuple[int, ...] = (3, 5, 7, 9)
    heads: int = 8
    scales: tuple[int, ...] = (0, 1, 2, 3)
    embedding_size: int = 512
    rank: int = 0

    @property
    def name(self) -> str:
        """The published name of this width, and the rank behind gamma."""
        size = _NAMES.get(self.widths[0], str(self.widths[0]))
        return f"edgeface-{size}" + (f"-gamma-{self.rank / 10:02.0f}" if self.rank else "")

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input that the networks were trained for; they take others."""
        return 112, 112

    def build(self) -> nn.Module:
        """Return the network with fresh weights."""
        return EdgeFace(self)


class _LowRank(nn.Module):
    """A linear layer as the product of two."""

    def __init__(self, entering: int, leaving: int, rank: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(entering, rank, bias=False)
        self.linear2 = nn.Linear(rank, leaving)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., C] to [..., C']."""
        y: Tensor = self.linear2(self.linear1(x))
        return y


def _linear(plan: EdgeFacePlan, entering: int, leaving: int) -> nn.Module:
    if plan.rank:
        return _LowRank(entering, leaving, _rank(entering, leaving, plan.rank))
    return nn.Linear(entering, leaving)


def _rank(entering: int, leaving: int, hundredths: int) -> int:
    return max(2, int(min(entering, leaving) * (hundredths / 100)))


class _ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _MLP(nn.Module):
    """Two linear layers, four times as wide between them."""

    def __init__(self, plan: EdgeFacePlan, width: int) -> None:
        super().__init__()
        self.fc1 = _linear(plan, width, 4 * width)
        self.act = nn.GELU()
        self.fc2 = _linear(plan, 4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., C] to the same shape."""
        y: Tensor = self.fc2(self.act(self.fc1(x)))
        return y


class _ConvBlock(nn.Module):
    """A depthwise convolution, then an MLP of each pixel, added to the input."""

    def __init__(self, plan: EdgeFacePlan, width: int, kernel: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))
        self.conv_dw = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=_EPSILON)
        self.mlp = _MLP(plan, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        pixels = self.conv_dw(x).permute(0, 2, 3, 1)
        added: Tensor = (self.gamma * self.mlp(self.norm(pixels))).permute(0, 3, 1, 2)
        return x + added


class _ChannelAttention(nn.Module):
    """Attention of channels to channels, so that its cost grows with the pixels and not with their square."""

    def __init__(self, plan: EdgeFacePlan, width: int) -> None:
        super().__init__()
        self.heads = plan.heads
        self.temperature = nn.Parameter(torch.ones(plan.heads, 1, 1))
        self.qkv = _linear(plan, width, 3 * width)
        self.proj = _linear(plan, width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, L, C] to the same shape."""
        batch, length, width = x.shape
        split = self.qkv(x).reshape(batch, length, 3, self.heads, width // self.heads)
        queries, keys, values = split.permute(2, 0, 3, 4, 1).unbind(0)
        alike = F.normalize(queries, dim=-1) @ F.normalize(keys, dim=-1).transpose(-2, -1) * self.temperature
        mixed = alike.softmax(dim=-1) @ values
        y: Tensor = self.proj(mixed.permute(0, 3, 1, 2).reshape(batch, length, width))
        return y


class _SplitBlock(nn.Module):
    """Depthwise convolutions of parts of the channels, each with the part before it; then attention and an MLP."""

    def __init__(self, plan: EdgeFacePlan, width: int, scales: int, *, knows_positions: bool) -> None:
        super().__init__()
        part = -(-width // (scales + 1))
        self.gamma_xca = nn.Parameter(torch.ones(width))
        self.gamma = nn.Parameter(torch.ones(width))
        self.convs = nn.ModuleList(nn.Conv2d(part, part, 3, padding=1, groups=part) for _ in range(scales))
        self.pos_embd = Positions(width, 64) if knows_positions else None
        self.norm_xca = nn.LayerNorm(width, eps=_EPSILON)
        self.xca = _ChannelAttention(plan, width)
        self.norm = nn.LayerNorm(width, eps=_EPSILON)
        self.mlp = _MLP(plan, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        batch, channels, height, width = x.shape
        tokens = self._mixed(x).reshape(batch, channels, height * width).permute(0, 2, 1)
        if self.pos_embd is not None:
            tokens = tokens + self.pos_embd(height, width)
        tokens = tokens + self.gamma_xca * self.xca(self.norm_xca(tokens))
        pixels = tokens.reshape(batch, height, width, channels)
        added: Tensor = (self.gamma * self.mlp(self.norm(pixels))).permute(0, 3, 1, 2)
        return x + added

    def _mixed(self, x: Tensor) -> Tensor:
        parts = x.chunk(len(self.convs) + 1, dim=1)
        mixed = [self.convs[0](parts[0])]
        for place in range(1, len(self.convs)):
            mixed.append(self.convs[place](mixed[-1] + parts[place]))
        return torch.cat((*mixed, parts[len(self.convs)]), 1)


class _Stage(nn.Module):
    """A convolution that halves the image, but in the first stage, and blocks."""

    def __init__(self, plan: EdgeFacePlan, place: int) -> None:
        super().__init__()
        width, scales = plan.widths[place], plan.scales[place]
        self.downsample: nn.Module = nn.Identity()
        if place:
            before = plan.widths[place - 1]
            halve = nn.Conv2d(before, width, 2, stride=2)
            self.downsample = nn.Sequential(_ChannelNorm(before, eps=_EPSILON), halve)
        plain = plan.depths[place] - bool(scales)
        blocks: list[nn.Module] = [_ConvBlock(plan, width, plan.kernels[place]) for _ in range(plain)]
        if scales:
            first = not any(plan.scales[:place])
            blocks.append(_SplitBlock(plan, width, scales, knows_positions=first))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H/2, W/2], or the same size in the first stage."""
        y: Tensor = self.blocks(self.downsample(x))
        return y


class _Head(nn.Module):
    """Mean over the image, LayerNorm and the embedding."""

    def __init__(self, plan: EdgeFacePlan) -> None:
        super().__init__()
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.norm = _ChannelNorm(plan.widths[-1], eps=_EPSILON)
        self.fc = _linear(plan, plan.widths[-1], plan.embedding_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, D]."""
        y: Tensor = self.fc(torch.flatten(self.norm(self.global_pool(x)), 1))
        return y


class EdgeFace(nn.Module):
    """A stem of patches of 4x4 pixels, four stages, and an embedding."""

    def __init__(self, plan: EdgeFacePlan) -> None:
        super().__init__()
        first = plan.widths[0]
        self.stem = nn.Sequential(nn.Conv2d(3, first, 4, stride=4), _ChannelNorm(first, eps=_EPSILON))
        self.stages = nn.Sequential(*(_Stage(plan, place) for place in range(4)))
        self.head = _Head(plan)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 3, H, W] to embeddings [N, D], not normalised."""
        embeddings: Tensor = self.head(self.stages(self.stem(x)))
        return embeddings


def read_edgeface(shapes: Shapes) -> EdgeFacePlan:
    """Read the plan of an `EdgeFace` off its keys and shapes."""
    stages = [f"stages.{place}.blocks" for place in range(4)]
    depths = tuple(count_children(shapes, f"{stage}.") for stage in stages)
    lasts = [f"{stage}.{depth - 1}" for stage, depth in zip(stages, depths, strict=True)]
    scales = tuple(count_children(shapes, f"{last}.convs.") for last in lasts)
    attending = [last for last, count in zip(lasts, scales, strict=True) if count][0]
    fc = "head.fc.linear2.weight" if "head.fc.linear2.weight" in shapes else "head.fc.weight"
    return EdgeFacePlan(
        depths=depths,
        widths=tuple(shapes[f"{last}.gamma"][0] for last in lasts),
        kernels=tuple(shapes[f"{stage}.0.conv_dw.weight"][2] for stage in stages),
        heads=shapes[f"{attending}.xca.temperature"][0],
        scales=scales,
        embedding_size=shapes[fc][0],
        rank=_read_rank(shapes),
    )


def _read_rank(shapes: Shapes) -> int:
    """Return the rank in hundredths that all pairs of linear layers have, the roundest first; 0 if there are none."""
    pairs = list(_low_ranks(shapes))
    hundredths = sorted(range(1, 101), key=lambda n: (n % 10 != 0, n % 5 != 0))
    fitting = [n for n in hundredths if all(_rank(a, b, n) == rank for a, b, rank in pairs)]
    return fitting[0] if pairs else 0


def _low_ranks(shapes: Shapes) -> Iterator[tuple[int, int, int]]:
    for key, shape in shapes.items():
        if key.endswith(".linear1.weight"):
            rank, entering = shape
            yield entering, shapes[key.replace(".linear1.", ".linear2.")][0], rank


_TINY = EdgeFacePlan((2, 2, 6, 2), (24, 48, 88, 168), heads=4)
_SMALLER = (32, 64, 100, 192)

ENTRIES = {
    plan.name: Architecture(
        published=plan, read=read_edgeface, source="EdgeFace, arXiv 2307.01838; layout of timm's EdgeNeXt"
    )
    for plan in (
        _TINY,
        EdgeFacePlan(widths=_SMALLER, heads=4),
        EdgeFacePlan(widths=_SMALLER, heads=4, rank=60),
        EdgeFacePlan(),
        EdgeFacePlan(rank=50),
        EdgeFacePlan(widths=(80, 160, 288, 584)),
    )
}
