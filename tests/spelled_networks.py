"""Networks with functions and modules of torch that are made of other ones: encoders, gated halves, lines."""

import math

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from odd_networks import Net, after_conv, conv, head, two_convs
from torch import nn


class Encoded(nn.Module):
    """Tokens of a class and a register beside those of the image, through torch's own encoder of two layers."""

    def __init__(self, norm_first, activation):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True, norm_first=norm_first, activation=activation)
        self.patches, self.encoder = nn.Conv2d(3, 16, 4, 4), nn.TransformerEncoder(layer, 2, nn.LayerNorm(16), False)
        self.first, self.last = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 2, 16))
        self.positions, self.fc = nn.Parameter(torch.randn(1, 19, 16) * 0.1), nn.Linear(16, 8)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.first.expand(x.shape[0], -1, -1), x, self.last.repeat(x.size(0), 1, 1)), 1)
        return self.fc(self.encoder(x + self.positions)[:, 0])


class Attentive(nn.Module):
    """Attention over channels by a convolution along them, and over pixels by their largest and mean channel."""

    def __init__(self):
        super().__init__()
        self.stem, self.line, self.spatial = conv(3, 16), nn.Conv1d(1, 1, 3, padding=1, bias=False), conv(2, 1, 5, 1, 2)
        self.mlp, self.fc = nn.Sequential(nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1)), nn.Linear(16, 8)

    def forward(self, x):
        x = F.relu(self.stem(x))
        line = self.line(F.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        x = x * torch.sigmoid(line).expand_as(x)
        x = x * torch.sigmoid(self.mlp(F.adaptive_avg_pool2d(x, 1)) + self.mlp(F.adaptive_max_pool2d(x, 1)))
        largest, _ = torch.max(x, dim=1, keepdim=True)
        x = x * torch.sigmoid(self.spatial(torch.cat([largest, torch.mean(x, 1, keepdim=True)], 1)))
        return self.fc(head(x))


class Selective(nn.Module):
    """Branches weighed against one another, as selective kernels are."""

    def __init__(self):
        super().__init__()
        self.stem, self.branches = conv(3, 8), nn.ModuleList(conv(8, 8, 3, 1, size, dilation=size) for size in (1, 2))
        self.weights, self.fc = nn.ModuleList(nn.Linear(8, 8) for _ in range(2)), nn.Linear(8, 8)

    def forward(self, x):
        x = F.relu(self.stem(x))
        parts = torch.cat([F.relu(branch(x)).unsqueeze_(dim=1) for branch in self.branches], 1)
        pooled = parts.sum(1).mean(-1).mean(-1)
        shares = torch.stack([weigh(pooled) for weigh in self.weights], 1).softmax(1)
        return self.fc(head((parts * shares.unsqueeze(-1).unsqueeze(-1)).sum(1)))


class Standardised(nn.Conv2d):
    """A convolution whose weights are standardised on the way."""

    def forward(self, x):
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        deviation = centred.view(centred.size(0), -1).std(1).view(-1, 1, 1, 1) + 1e-5
        return F.conv2d(x, centred / deviation.expand_as(centred), self.bias, self.stride, self.padding)


class Windows(nn.Module):
    """Attention inside windows that are shifted round the border, images and windows on one axis (Swin)."""

    def __init__(self, number):
        super().__init__()
        self.number, self.patches, self.norm = number, nn.Conv2d(3, 16, 2, 2), nn.LayerNorm(16)
        self.bias, self.mask = nn.Parameter(torch.randn(1, 2, 16, 16)), nn.Parameter(torch.randn(4, 16, 16))
        self.qkv, self.proj, self.fc = nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, 8)

    def attended(self, x):
        windows, tokens, channels = x.shape
        query, key, value = self.qkv(x).reshape(windows, tokens, 3, 2, channels // 2).permute(2, 0, 3, 1, 4).unbind(0)
        shares = (query * 0.35) @ key.transpose(-2, -1) + self.bias
        shares = shares.view(windows // 4, 4, 2, tokens, tokens) + self.mask.unsqueeze(1).unsqueeze(0)
        mixed = shares.view(-1, 2, tokens, tokens).softmax(-1) @ value
        return self.proj(mixed.transpose(1, 2).reshape(windows, tokens, channels))

    def forward(self, x):
        x = self.norm(self.patches(x).permute(0, 2, 3, 1))
        y = torch.roll(x, (-2, -2), (1, 2)).view(-1, 2, 4, 2, 4, 16).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 16)
        y = self.attended(y).view(-1, 4, 4, 16)
        y = y.view(self.number(y), 2, 2, 4, 4, 16).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, 8, 8, 16)
        return self.fc((x + torch.roll(y, 2, 1).flip(2)).mean((1, 2)))


class TokensFirst(nn.Module):
    """Tokens on the first axis and images on the second, as torch's attention has it unless told otherwise."""

    def __init__(self):
        super().__init__()
        self.patches, self.fc = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 8)
        self.encoder, self.other = nn.TransformerEncoderLayer(16, 2, 24), nn.MultiheadAttention(16, 2, bias=False)
        self.question = nn.Linear(16, 16)

    def forward(self, x):
        x = self.encoder(self.patches(x).flatten(2).permute(2, 0, 1))
        x = x + self.other(self.question(x), x, x, need_weights=False)[0]
        return self.fc(x.mean(0))


def _halves_by_places(x):
    """Even and odd channels apart, with images and channels on one axis for a moment."""
    batch, channels, height, width = x.size()
    x = x.reshape(batch * channels // 2, 2, height * width).permute(1, 0, 2)
    x = x.reshape(2, -1, channels // 2, height, width)
    return torch.cat([F.relu(x[0]), x[1]], 1)


def _of_two(x):
    return torch.max(x.view(x.size(0), 2, 4, 16, 16), dim=1).values.repeat(1, 2, 1, 1)


SPELLED_NETWORKS = {
    "encoder with normalisation first": Encoded(True, "gelu"),
    "encoder with normalisation last": Encoded(False, nn.ReLU()),
    "windows": Windows(lambda windows: windows.shape[0] // 4),
    "windows counted in Python": Windows(lambda windows: int(len(windows) / 4)),
    "tokens first": TokensFirst(),
    "one image after the other": after_conv(lambda s, x: torch.stack([one * 2 for one in x])),
    "halves by places": after_conv(lambda s, x: _halves_by_places(x)),
    "attention over channels and pixels": Attentive(),
    "selective kernels": Selective(),
    "pools of lines": Net(
        lambda s, x: s.fc(F.adaptive_max_pool1d(s.a(s.m(s.l(s.c(x).mean(3)))), 1).squeeze(-1)),
        c=conv(3, 8),
        l=nn.Conv1d(8, 12, 5, 1, 2, groups=2),
        m=nn.MaxPool1d(3, 1, 1),
        a=nn.AvgPool1d(2),
        fc=nn.Linear(12, 8),
    ),
    "norm of responses and power pool": after_conv(
        lambda s, x: s.p(s.n(x)), n=nn.LocalResponseNorm(4), p=nn.LPPool2d(2, 2)
    ),
    "uneven windows": Net(
        lambda s, x: s.fc(F.adaptive_avg_pool2d(s.c(x), (3, 5)).flatten(1)), c=conv(3, 4), fc=nn.Linear(60, 8)
    ),
    "generalised mean": after_conv(
        lambda s, x: F.avg_pool2d(x.clamp(min=1e-6).pow(s.p), x.size()[-2:]).pow(1.0 / s.p),
        p=nn.Parameter(torch.ones(1) * 3),
    ),
    "gated half": two_convs(lambda s, x: F.glu(torch.cat([x, s.c2(x)], 1), 1)),
    "larger half": after_conv(lambda s, x: _of_two(x)),
    "smallest channel": after_conv(lambda s, x: x - torch.min(x, 1, keepdim=True)[0]),
    "rarer activations": after_conv(
        lambda s, x: s.a(x), a=nn.Sequential(nn.SELU(), nn.CELU(0.7), nn.Softsign(), nn.LogSigmoid(), nn.Tanhshrink())
    ),
    "mean and deviation": Net(
        lambda s, x: (lambda y: s.fc(torch.cat([y.mean(2), y.std(2), y.var(2, correction=0)], 1)))(s.c(x).flatten(2)),
        c=conv(3, 4),
        fc=nn.Linear(12, 8),
    ),
    "root mean square": Net(
        lambda s, x: s.fc(s.r(s.c(x).flatten(2).transpose(1, 2)).mean(1)),
        c=conv(3, 8),
        r=nn.RMSNorm(8),
        fc=nn.Linear(8, 8),
    ),
    "sums by letters": Net(
        lambda s, x: (
            lambda y: s.fc(torch.einsum("bqk,bdk->bqd", torch.einsum("bcn,bcm->bnm", y, y).softmax(-1), y).mean(1))
        )(s.c(x).flatten(2)),
        c=conv(3, 8, 4, 4, 0),
        fc=nn.Linear(8, 8),
    ),
    "a learned question": Net(
        lambda s, x: (
            lambda y: s.fc(
                ((s.q.expand(y.shape[0], -1, -1) @ y / math.sqrt(8)).softmax(-1) @ y.transpose(1, 2)).squeeze(1)
            )
        )(s.c(x).flatten(2)),
        c=conv(3, 8),
        q=nn.Parameter(torch.randn(1, 1, 8)),
        fc=nn.Linear(8, 8),
    ),
    "copies over pixels": after_conv(
        lambda s, x: s.d(torch.cat([x, F.adaptive_avg_pool2d(x, 1).expand(-1, -1, 16, 16)], 1)), d=conv(16, 8)
    ),
    "strips": after_conv(
        lambda s, x: x.mean(2, keepdim=True).expand(-1, -1, 16, 16) + x.mean(3, keepdim=True).expand_as(x)
    ),
    "standardised weights": Net(
        lambda s, x: s.fc(head(s.c(x))), c=Standardised(3, 8, 3, padding=1), fc=nn.Linear(8, 8)
    ),
    "blurred by a buffer": after_conv(
        lambda s, x: F.conv2d(x, s.k, None, 2, 1, groups=8), k=nn.Parameter(torch.rand(8, 1, 3, 3))
    ),
    "brought to the CPU": after_conv(lambda s, x: x.cpu().float()),
    "brought to a device": after_conv(lambda s, x: x.to("cpu").data),
}
"""What must come out right, input 16x16."""
