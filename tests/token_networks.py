"""Networks that are no row of convolutions: attention over tokens and over channels, shuffled channels."""

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import nn


class Mlp(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first, self.last = nn.Linear(channels, 2 * channels), nn.Linear(2 * channels, channels)

    def forward(self, x):
        return self.last(F.gelu(self.first(x)))


class ChannelAttention(nn.Module):
    """Attention between channels (XCiT), which moves the batch behind the three parts of its only projection."""

    def __init__(self, channels, heads):
        super().__init__()
        self.heads, self.temperature = heads, nn.Parameter(torch.full((heads, 1, 1), 1.3))
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x):
        batch, tokens, channels = x.shape
        parts = self.qkv(x).reshape(batch, tokens, 3, self.heads, channels // self.heads).permute(2, 0, 3, 4, 1)
        query, key, value = parts.unbind(0)
        mixed = (F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)) * self.temperature
        return self.proj((mixed.softmax(dim=-1) @ value).permute(0, 3, 1, 2).reshape(batch, tokens, channels))


class LastNorm(nn.LayerNorm):
    """Normalises channels where they are the second axis."""

    def forward(self, x):
        last = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return last.permute(0, 3, 1, 2)


class Edge(nn.Module):
    """A small EdgeNeXt: a convolution with tokens last, a split, attention between channels, scaled residuals."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 2, 2), LastNorm(16)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.norms = nn.ModuleList(nn.LayerNorm(16, eps=1e-6) for _ in range(3))
        self.mlps = nn.ModuleList(Mlp(16) for _ in range(2))
        self.gammas = nn.ParameterList(nn.Parameter(torch.full((16,), 0.5)) for _ in range(3))
        self.spatial, self.attention = nn.Conv2d(8, 8, 3, padding=1, groups=8), ChannelAttention(16, 4)
        self.pool, self.last, self.fc = nn.AdaptiveAvgPool2d(1), LastNorm(16), nn.Linear(16, 8)

    def forward(self, x):
        x = self.norm(self.stem(x))
        x = x + (self.gammas[0] * self.mlps[0](self.norms[0](self.depthwise(x).permute(0, 2, 3, 1)))).permute(
            0, 3, 1, 2
        )
        first, second = x.chunk(2, 1)
        y = torch.cat((self.spatial(first), second), 1)
        batch, channels, height, width = y.shape
        y = y.reshape(batch, channels, height * width).permute(0, 2, 1)
        y = (y + self.gammas[1] * self.attention(self.norms[1](y))).reshape(batch, height, width, channels)
        x = x + (self.gammas[2] * self.mlps[1](self.norms[2](y))).permute(0, 3, 1, 2)
        return self.fc(self.last(self.pool(x)).flatten(1))


class Tokens(nn.Module):
    """A transformer of one block, with positions that are added and a BatchNorm behind its embedding."""

    def __init__(self, channels=32, heads=4):
        super().__init__()
        self.heads, self.patches = heads, nn.Conv2d(3, channels, 4, 4)
        self.positions = nn.Parameter(torch.randn(1, 16, channels) * 0.1)
        self.norms, self.mlp = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2)), Mlp(channels)
        self.qkv, self.proj = nn.Linear(channels, 3 * channels, bias=False), nn.Linear(channels, channels)
        self.fc, self.norm = nn.Linear(16 * channels, 8), nn.BatchNorm1d(8)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        batch, tokens, channels = x.shape
        parts = self.qkv(self.norms[0](x)).reshape(batch, tokens, 3, self.heads, channels // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = ((query * 0.35) @ key.transpose(-2, -1)).softmax(-1) @ value
        x = x + self.proj(mixed.transpose(1, 2).reshape(batch, tokens, channels))
        x = x + self.mlp(self.norms[1](x))
        return self.norm(self.fc(x.reshape(batch, -1)))


class Shuffled(nn.Module):
    """Half of the channels go past the layers, then all are shuffled (ShuffleNet V2)."""

    def __init__(self, function):
        super().__init__()
        self.function, self.stem = function, nn.Conv2d(3, 16, 3, 2, 1)
        self.layer, self.depthwise, self.prelu = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.PReLU(8)
        self.last, self.fc = nn.Conv2d(16, 4, 1), nn.Linear(4 * 64, 8)

    def forward(self, x):
        past, through = F.relu(self.stem(x)).chunk(2, dim=1)
        x = torch.cat([past, self.prelu(self.depthwise(self.layer(through)))], 1)
        return self.fc(torch.flatten(self.last(self.function(x)), 1))


class Islands(nn.Module):
    """One of each: norms of groups and pixels, a maximum, absolute values, slices with steps, a border, vectors."""

    def __init__(self):
        super().__init__()
        self.stem, self.groups, self.elu = nn.Conv2d(3, 16, 3, 2, 1), nn.GroupNorm(4, 16), nn.ELU()
        self.layer, self.pixels = nn.Conv2d(16, 16, 3, 1, 1), nn.InstanceNorm2d(16, affine=True)
        self.narrow, self.fc, self.prelu = nn.Conv2d(16, 8, 1), nn.Linear(8, 12), nn.PReLU()
        self.norm, self.last = nn.BatchNorm1d(12), nn.Linear(12, 8)

    def forward(self, x):
        x = self.elu(self.groups(self.stem(x)))
        y = torch.clamp(self.pixels(torch.maximum(self.layer(x), x)) + torch.abs(x), -1, 2)
        y = F.interpolate(y[:, :, ::2, 1:-1], scale_factor=2, mode="nearest")
        y = F.pad(self.narrow(y), (1, 2, 0, 1))
        y = y * torch.tanh(F.softplus(y))
        return self.last(torch.sigmoid(self.norm(self.prelu(self.fc(y.amax((2, 3)) + y.mean((2, 3)))))))


class Mixer(nn.Module):
    """Tokens mixed by a linear layer among them, added to what was never brought behind the channels (MLP-Mixer)."""

    def __init__(self):
        super().__init__()
        self.patches, self.norm, self.tokens = nn.Conv2d(3, 12, 4, 4), nn.LayerNorm(12), nn.Linear(16, 16)
        self.channels, self.fc = Mlp(12), nn.Linear(12, 8)

    def forward(self, x):
        x = self.patches(x).flatten(2)
        x = x + self.tokens(self.norm(x.transpose(1, 2)).transpose(1, 2))
        x = x.transpose(1, 2)
        return self.fc((x + self.channels(x)).mean(1))


class Encoder(nn.Module):
    """Tokens attend to one another through torch's own module, or its function, as networks of recent years do."""

    def __init__(self, own):
        super().__init__()
        self.own, self.patches, self.norm = own, nn.Conv2d(3, 16, 4, 4), nn.LayerNorm(16)
        self.attention, self.qkv = nn.MultiheadAttention(16, 2, batch_first=True), nn.Linear(16, 48)
        self.fc = nn.Linear(16, 8)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        y = self.norm(x)
        if self.own:
            y = self.attention(y, y, y)[0]
        else:
            batch, tokens, channels = y.shape
            query, key, value = self.qkv(y).view(batch, tokens, 3, 2, channels // 2).permute(2, 0, 3, 1, 4).unbind(0)
            y = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(batch, tokens, channels)
        return self.fc((x + y).mean(1))


def by_views(x):
    batch, channels, height, width = x.size()
    return x.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous().view(batch, -1, height, width)


TOKEN_NETWORKS = {
    "attention between channels": Edge(),
    "transformer": Tokens(),
    "mixer": Mixer(),
    "attention by a module": Encoder(own=True),
    "attention by a function": Encoder(own=False),
    "shuffle by views": Shuffled(by_views),
    "shuffle by a module": Shuffled(nn.ChannelShuffle(4)),
    "channels picked": Shuffled(lambda x: torch.index_select(x, 1, torch.tensor([3, 1, 2, 0, *range(15, 3, -1)]))),
    "shuffle of pixels": Shuffled(lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2)),
    "islands": Islands(),
}
"""What must come out right, input 16x16."""
