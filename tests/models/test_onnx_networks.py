"""Blocks of today's networks, exported by torch in each way that people export them, against ONNX Runtime."""

import pytest
import torch
import torch.nn.functional as F
from onnx_files import GIVEN, assert_same, export, write
from tiers import in_tiers
from torch import nn

from qface_toolkit.models import load_model


class Attention(nn.Module):
    """Attention as timm writes it, over the rows of a picture."""

    def __init__(self, width=12, heads=3):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        n, rows, width = x.shape
        q, k, v = self.qkv(x).reshape(n, rows, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weights = ((q * 0.5) @ k.transpose(-2, -1)).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, rows, width))


class Transformer(nn.Module):
    def __init__(self, attention=None, token=False):
        super().__init__()
        self.patches, self.norms = nn.Conv2d(3, 12, 4, 4), nn.ModuleList(nn.LayerNorm(12) for _ in range(2))
        self.attention, self.token = attention or Attention(), nn.Parameter(torch.randn(1, 1, 12)) if token else None
        self.place = nn.Parameter(torch.randn(1, 16 + token, 12))
        self.mlp = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        if self.token is not None:
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        x = x + self.place
        x = x + self.attention(self.norms[0](x))
        x = x + self.mlp(self.norms[1](x))
        return x[:, 0] if self.token is not None else x.mean(dim=1)


class TorchAttention(nn.Module):
    """torch's own, which puts rows before images and heads among images."""

    def __init__(self, **options):
        super().__init__()
        self.inner = nn.MultiheadAttention(12, 3, **options)
        self.first = options.get("batch_first", False)

    def forward(self, x):
        y = x if self.first else x.transpose(0, 1)
        y = self.inner(y, y, y, need_weights=False)[0]
        return y if self.first else y.transpose(0, 1)


class Windows(nn.Module):
    """Attention within windows that are shifted, as Swin has it."""

    def __init__(self):
        super().__init__()
        self.patches, self.attention = nn.Conv2d(3, 12, 2, 2), Attention()
        self.bias = nn.Parameter(torch.randn(4, 16, 16))

    def forward(self, x):
        x = self.patches(x).permute(0, 2, 3, 1)
        x = torch.roll(x, (-2, -2), (1, 2))
        n, height, width, channels = x.shape
        x = x.view(n, height // 4, 4, width // 4, 4, channels).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, channels)
        x = self.attention(x).view(-1, 4, 4, channels)
        x = x.view(n, height // 4, width // 4, 4, 4, -1).permute(0, 1, 3, 2, 4, 5).reshape(n, height, width, -1)
        return torch.roll(x, (2, 2), (1, 2)).mean(dim=(1, 2))


class Shuffle(nn.Module):
    def forward(self, x):
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class ShuffleNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.branch, self.mix = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(4, 4, 3, 1, 1, groups=4), Shuffle()

    def forward(self, x):
        one, other = self.stem(x).chunk(2, dim=1)
        return self.mix(torch.cat([one, self.branch(other)], dim=1)).flatten(1)


class Convolutional(nn.Module):
    """CBAM: which channels, by means and maxima; which pixels, likewise."""

    def __init__(self):
        super().__init__()
        self.stem, self.mlp = nn.Conv2d(3, 8, 3), nn.Sequential(nn.Linear(8, 2), nn.ReLU(), nn.Linear(2, 8))
        self.pixels = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        pooled = self.mlp(F.adaptive_avg_pool2d(x, 1).flatten(1)) + self.mlp(F.adaptive_max_pool2d(x, 1).flatten(1))
        x = x * pooled.sigmoid().unsqueeze(2).unsqueeze(3).expand_as(x)
        kept = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True).values], dim=1)
        return (x * self.pixels(kept).sigmoid()).flatten(1)


class Coordinates(nn.Module):
    """Coordinate attention: rows and columns pooled, joined, cut apart."""

    def __init__(self):
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)

    def forward(self, x):
        x = self.stem(x)
        _, _, height, width = x.shape
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).permute(0, 1, 3, 2)
        y = F.hardswish(self.one(torch.cat([rows, columns], dim=2)))
        rows, columns = torch.split(y, [height, width], dim=2)
        return (x * self.two(rows).sigmoid() * self.two(columns.permute(0, 1, 3, 2)).sigmoid()).flatten(1)


class Efficient(nn.Module):
    """ECA: a convolution along channels."""

    def __init__(self):
        super().__init__()
        self.stem, self.line = nn.Conv2d(3, 8, 3), nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x):
        x = self.stem(x)
        y = self.line(x.mean((2, 3), keepdim=True).squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return (x * y.sigmoid().expand_as(x)).flatten(1)


class GeM(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.p = nn.Conv2d(3, 8, 3), nn.Parameter(torch.full((1,), 2.6))

    def forward(self, x):
        x = self.stem(x).clamp(min=1e-6).pow(self.p)
        return F.normalize(F.adaptive_avg_pool2d(x, 1).pow(1.0 / self.p).flatten(1))


class NonLocal(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 6, 2, 2) for _ in range(3))

    def forward(self, x):
        one, two, three = (conv(x).flatten(2) for conv in self.convs)
        weights = torch.einsum("bci,bcj->bij", one, two).softmax(-1)
        return torch.bmm(weights, three.transpose(1, 2)).amax(1)


class Next(nn.Module):
    """A ConvNeXt block, channels last in between."""

    def __init__(self):
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm, self.mlp = (
            nn.LayerNorm(8, eps=1e-6),
            nn.Sequential(nn.Linear(8, 16), nn.GELU("tanh"), nn.Linear(16, 8)),
        )
        self.gamma = nn.Parameter(torch.rand(8))

    def forward(self, x):
        x = self.stem(x)
        y = self.gamma * self.mlp(self.norm(self.deep(x).permute(0, 2, 3, 1)))
        return (x + y.permute(0, 3, 1, 2)).mean([-2, -1])


class Pyramid(nn.Module):
    def __init__(self, mode):
        super().__init__()
        self.stem, self.deeper, self.mode = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, 2, 1), mode

    def forward(self, x):
        x = self.stem(x)
        corners = {"align_corners": False} if self.mode == "bilinear" else {}
        y = F.interpolate(self.deeper(x), size=x.shape[2:], mode=self.mode, **corners)
        return F.pixel_unshuffle(x - y, 4).amax((2, 3)) - F.interpolate(x, scale_factor=0.5).mean((2, 3)).repeat(1, 16)


class Normed(nn.Sequential):
    def __init__(self, norm):
        super().__init__(
            nn.Conv2d(3, 8, 3),
            norm,
            nn.ELU(),
            nn.Conv2d(getattr(norm, "out_channels", 8), 4, 3),
            nn.Mish(),
            nn.Flatten(),
        )


class Spelled(nn.Module):
    """Activations and norms written by hand."""

    def __init__(self):
        super().__init__()
        self.stem, self.scale = nn.Conv2d(3, 8, 3), nn.Parameter(torch.rand(1, 8, 1, 1))

    def forward(self, x):
        x = self.stem(x)
        x = F.relu(x) - self.scale * F.relu(-x)
        x = x + self.scale * (x - x.abs()) * 0.5
        x = (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, keepdim=True, unbiased=False) + 1e-6)
        x = x * torch.tanh(F.softplus(x)) + torch.maximum(x, self.scale * x) - x**2 / 7
        return x.flatten(1) / x.flatten(1).pow(2).sum(1, keepdim=True).sqrt()


NETWORKS = {
    "a transformer": Transformer,
    "a transformer with a token": lambda: Transformer(token=True),
    "torch's attention": lambda: Transformer(TorchAttention()),
    "torch's attention, images first": lambda: Transformer(TorchAttention(batch_first=True)),
    "windows": Windows,
    "channels shuffled": ShuffleNet,
    "CBAM": Convolutional,
    "coordinates": Coordinates,
    "ECA": Efficient,
    "GeM": GeM,
    "a non-local block": NonLocal,
    "ConvNeXt": Next,
    "a pyramid": lambda: Pyramid("nearest"),
    "a smooth pyramid": lambda: Pyramid("bilinear"),
    "groups normed": lambda: Normed(nn.GroupNorm(2, 8)),
    "each image normed": lambda: Normed(nn.InstanceNorm2d(8, affine=True)),
    "deconvolution": lambda: Normed(nn.ConvTranspose2d(8, 4, 3, 2, 1, 1)),
    "spelled by hand": Spelled,
}
WAYS = {
    "opset 17": {},
    "opset 14, one image": {"opset": 14, "batch": None},
    "opset 18": {"opset": 18},
}


@pytest.mark.parametrize("way", in_tiers(WAYS, fast=["opset 17"]))
@pytest.mark.parametrize("name", NETWORKS)
def test_computes_what_onnx_runtime_does(name, way, tmp_path):
    torch.manual_seed(0)
    path = write(tmp_path / "net.onnx", export(NETWORKS[name](), (16, 16), **WAYS[way]))
    assert_same(path, load_model(path, overrides=GIVEN), most=1e-4)
