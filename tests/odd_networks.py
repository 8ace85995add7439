"""Networks written the way strangers write them: each spells something in a way that our own layouts do not."""

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import nn

CHANNELS = 8
torch.manual_seed(0)  # the weights below do not depend on what was imported before


class Net(nn.Module):
    """A forward given as a function of the module and the images."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.given = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        """Run the given forward."""
        return self.given(self, x)


def conv(entering, leaving, kernel=3, stride=1, padding=1, **options):
    """Return a convolution that keeps the size unless told otherwise."""
    return nn.Conv2d(entering, leaving, kernel, stride, padding, **options)


def head(x):
    """Average over the pixels and flatten."""
    return torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)


def after_conv(activation, **modules):
    """Return conv -> activation(net, x) -> average -> linear."""
    return Net(
        lambda s, x: s.fc(head(activation(s, s.c(x)))), c=conv(3, CHANNELS), fc=nn.Linear(CHANNELS, 8), **modules
    )


def after_average(vectors):
    """Return conv -> average -> vectors(averages, x) -> linear."""
    network = after_conv(lambda s, x: x)
    network.given = lambda s, x: s.fc(vectors(F.adaptive_avg_pool2d(s.c(x), 1), x))
    return network


def two_convs(between, **modules):
    """Return conv -> between(net, x) -> average -> linear, with a second convolution c2 at hand."""
    return after_conv(between, c2=conv(CHANNELS, CHANNELS), **modules)


def _read_often(s, x):
    return s.c2(F.relu(x) + s.a(x)) + F.relu6(x) + x


def _residual_in_place(s, x):
    y = s.c2(x)
    y += x
    return F.relu(y)


def _concat(first, second, channels):
    return after_conv(
        lambda s, x: s.c3(torch.cat([first(s, x), second(s, x)], 1)),
        c2=conv(CHANNELS, CHANNELS),
        c3=conv(channels, CHANNELS),
        a=nn.PReLU(CHANNELS),
    )


ODD_NETWORKS = {
    "functional relu": after_conv(lambda s, x: F.relu(x)),
    "method relu": after_conv(lambda s, x: x.relu()),
    "functional prelu": after_conv(lambda s, x: F.prelu(x, s.w), w=nn.Parameter(torch.linspace(-2, 2, CHANNELS))),
    "one slope": after_conv(lambda s, x: s.a(x), a=nn.PReLU(1)),
    "leaky relu": after_conv(lambda s, x: s.a(x), a=nn.LeakyReLU(0.2)),
    "functional leaky relu": after_conv(lambda s, x: F.leaky_relu(x, negative_slope=0.3)),
    "hardtanh": after_conv(lambda s, x: s.a(x), a=nn.Hardtanh(0, 6)),
    "functional hardtanh": after_conv(lambda s, x: F.hardtanh(x, 0.0, 6.0)),
    "clamp": after_conv(lambda s, x: torch.clamp(x, 0, 6)),
    "clamp from below": after_conv(lambda s, x: x.clamp(min=0)),
    "shared modules": two_convs(lambda s, x: s.b(s.c2(s.a(s.b(s.c2(x))))), b=nn.BatchNorm2d(8), a=nn.PReLU(8)),
    "view": after_average(lambda y, x: y.view(x.size(0), -1)),
    "view with a shape": after_average(lambda y, x: y.view(x.shape[0], -1)),
    "squeeze twice": after_average(lambda y, x: y.squeeze(-1).squeeze(-1)),
    "index": after_average(lambda y, x: y[:, :, 0, 0]),
    "mean": Net(lambda s, x: s.fc(s.c(x).mean([2, 3])), c=conv(3, 8), fc=nn.Linear(8, 8)),
    "average of a padded map": after_conv(lambda s, x: s.p(x), p=nn.AvgPool2d(3, 2, 1)),
    "average like resnet-d": after_conv(lambda s, x: s.p(x), p=nn.AvgPool2d(2, 2, 0, True, False)),
    "max pool with ceil": after_conv(lambda s, x: s.p(x), p=nn.MaxPool2d(3, 2, ceil_mode=True)),
    "no bias": Net(lambda s, x: s.fc(head(s.c(x))), c=conv(3, 8, bias=False), fc=nn.Linear(8, 8, bias=False)),
    "padding same": Net(lambda s, x: s.fc(head(s.c(x))), c=nn.Conv2d(3, 8, 3, padding="same"), fc=nn.Linear(8, 8)),
    "norm before a padded conv": two_convs(lambda s, x: s.c2(s.b(F.relu(x))), b=nn.BatchNorm2d(8)),
    "norm of the input": Net(
        lambda s, x: s.fc(head(s.c(s.b(x)))), b=nn.BatchNorm2d(3), c=conv(3, 8), fc=nn.Linear(8, 8)
    ),
    "norm without weights": after_conv(lambda s, x: s.b(x), b=nn.BatchNorm2d(8, affine=False)),
    "norm behind linear": Net(
        lambda s, x: s.b(s.fc(head(s.c(x)))), c=conv(3, 8), fc=nn.Linear(8, 8), b=nn.BatchNorm1d(8)
    ),
    "norm before linear": Net(
        lambda s, x: s.fc(s.b(head(s.c(x)))), c=conv(3, 8), fc=nn.Linear(8, 8), b=nn.BatchNorm1d(8)
    ),
    "linear and relu": Net(
        lambda s, x: s.fc2(F.relu(s.fc(head(s.c(x))))), c=conv(3, 8), fc=nn.Linear(8, 8), fc2=nn.Linear(8, 8)
    ),
    "add and relu": two_convs(_residual_in_place),
    "add and relu6": two_convs(lambda s, x: F.relu6(s.c2(x).add(x))),
    "add and prelu": two_convs(lambda s, x: s.a(s.c2(x) + x), a=nn.PReLU(8)),
    "add to itself": two_convs(lambda s, x: s.c2(x + x)),
    "relu behind max pool": after_conv(lambda s, x: F.relu(F.max_pool2d(x, 2))),
    "relu6 behind average": after_conv(lambda s, x: F.relu6(F.avg_pool2d(x, 2))),
    "relu of vectors": Net(lambda s, x: s.fc(F.relu(head(s.c(x)))), c=conv(3, 8), fc=nn.Linear(8, 8)),
    "prelu of the input": Net(lambda s, x: s.fc(head(s.c(s.a(x)))), a=nn.PReLU(3), c=conv(3, 8), fc=nn.Linear(8, 8)),
    "relu6 of the input": Net(lambda s, x: s.fc(head(s.c(F.relu6(x)))), c=conv(3, 8), fc=nn.Linear(8, 8)),
    "prelu twice": after_conv(lambda s, x: s.b(s.a(x)), a=nn.PReLU(8), b=nn.PReLU(8)),
    "a conv read often": two_convs(_read_often, a=nn.PReLU(8)),
    "steep slopes into groups": after_conv(lambda s, x: s.c2(s.a(x)), a=nn.PReLU(8), c2=conv(8, 8, groups=4)),
    "steep slopes into two": two_convs(lambda s, x: (lambda y: s.c2(y) + y)(s.a(x)), a=nn.PReLU(8)),
    "concat": _concat(lambda s, x: x, lambda s, x: s.c2(x), 16),
    "concat with itself": _concat(lambda s, x: x, lambda s, x: x, 16),
    "concat of relu and conv": _concat(lambda s, x: F.relu(x), lambda s, x: s.c2(x), 16),
    "concat of relu6 and conv": _concat(lambda s, x: F.relu6(x), lambda s, x: s.c2(x), 16),
    "concat of two relu6": _concat(lambda s, x: F.relu6(x), lambda s, x: F.relu6(s.c2(x)), 16),
    "prelu of a concat": after_conv(lambda s, x: s.c2(s.a(torch.cat([x, x], -3))), a=nn.PReLU(16), c2=conv(16, 8)),
    "depthwise with many groups": Net(
        lambda s, x: s.fc(head(s.d(s.c(x)))), c=conv(3, 128), d=conv(128, 128, groups=128), fc=nn.Linear(128, 8)
    ),
    "embedding from an average": Net(lambda s, x: head(s.c(x)), c=conv(3, 8)),
    "embedding from a conv": Net(lambda s, x: torch.flatten(s.d(s.c(x)), 1), c=conv(3, 8), d=conv(8, 8, 16, 1, 0)),
    "embedding from 1x1 and norm": Net(
        lambda s, x: s.b(s.d(F.adaptive_avg_pool2d(s.c(x), 1))).view(x.size(0), -1),
        c=conv(3, 8),
        d=conv(8, 8, 1, 1, 0),
        b=nn.BatchNorm2d(8),
    ),
    "embedding from relu": Net(lambda s, x: F.relu(s.fc(head(s.c(x)))), c=conv(3, 8), fc=nn.Linear(8, 8)),
    "embedding from a sum": Net(
        lambda s, x: s.fc(head(s.c(x))) + s.fc2(head(x)), c=conv(3, 8), fc=nn.Linear(8, 8), fc2=nn.Linear(3, 8)
    ),
    "dropout": Net(
        lambda s, x: s.fc(s.d(F.dropout(head(s.c(x)), training=s.training))),
        c=conv(3, 8),
        d=nn.Dropout(),
        fc=nn.Linear(8, 8),
    ),
}
"""What must come out right, input 16x16."""

REFUSED_NETWORKS = {
    "images mixed": (
        after_conv(lambda s, x: s.d(x.transpose(0, 1)).transpose(0, 1), d=nn.Mish()),
        "not on the first axis",
    ),
    "windows as columns": (
        Net(lambda s, x: s.fc(F.unfold(s.c(x), 4, stride=4).mean(2)), c=conv(3, 8), fc=nn.Linear(128, 8)),
        "unfold",
    ),
    "normalize by maximum": (
        Net(lambda s, x: F.normalize(s.fc(head(s.c(x))), p=1.0), c=conv(3, 8), fc=nn.Linear(8, 8)),
        "normalisation other than",
    ),
    "two outputs": (
        Net(lambda s, x: (lambda y: (y, y.norm(2, 1, True)))(s.fc(head(s.c(x)))), c=conv(3, 8), fc=nn.Linear(8, 8)),
        "more outputs|norm",
    ),
    "rounded quotient": (after_conv(lambda s, x: torch.div(x, 2, rounding_mode="floor")), "div"),
    "view changed": (
        two_convs(lambda s, x: s.c2(x) + (x.view(-1, 8, 256).mul_(2).view(-1, 8, 16, 16) + x)),
        "view of a tensor is changed",
    ),
    "transposed": (after_conv(lambda s, x: s.d(x), d=nn.ConvTranspose2d(8, 8, 2)), "ConvTranspose2d"),
    "dilated max": (after_conv(lambda s, x: F.max_pool2d(x, 3, 2, 0, 2)), "dilation"),
    "batch statistics": (after_conv(lambda s, x: s.b(x), b=nn.BatchNorm2d(8, track_running_stats=False)), "running"),
    "control flow": (after_conv(lambda s, x: x if x.sum() > 0 else -x), "cannot be traced"),
}

ISLAND_NETWORKS = {
    "early normalize": after_conv(lambda s, x: F.normalize(x)),
    "scaled embedding": Net(lambda s, x: F.normalize(s.fc(head(s.c(x)))) * 64, c=conv(3, 8), fc=nn.Linear(8, 8)),
    "normalize and relu": Net(lambda s, x: F.relu(F.normalize(s.fc(head(s.c(x))))), c=conv(3, 8), fc=nn.Linear(8, 8)),
    "tanh": after_conv(lambda s, x: torch.tanh(x)),
    "gelu": after_conv(lambda s, x: s.a(x), a=nn.GELU()),
    "constant of columns": after_conv(lambda s, x: x + s.w, w=nn.Parameter(torch.rand(16))),
    "constant product": after_conv(lambda s, x: x * s.w, w=nn.Parameter(torch.rand(8, 1, 16))),
    "quotient": two_convs(lambda s, x: x / (1 + s.c2(x).abs())),
    "inverse": after_conv(lambda s, x: 1 / (1 + x * x)),
    "map of attention": two_convs(lambda s, x: x * torch.sigmoid(s.d(x)), d=conv(8, 1)),
    "pad of ones": after_conv(lambda s, x: s.d(F.pad(x, (1, 1, 1, 1), value=1.0)), d=conv(8, 8)),
    "pad reflected": after_conv(lambda s, x: s.d(s.p(x)), d=conv(8, 8), p=nn.ReflectionPad2d(1)),
    "pad before a maximum": after_conv(lambda s, x: F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3)),
    "pad of channels": after_conv(lambda s, x: s.d(F.pad(x, (0, 0, 0, 0, 1, 1))), d=conv(10, 8)),
    "cut before padding": after_conv(lambda s, x: s.d(x[:, :, 1:, 1:]), d=conv(8, 8)),
    "uneven pad with dilation": after_conv(lambda s, x: s.d(F.pad(x, (0, 1, 0, 1))), d=conv(8, 8, dilation=2)),
    "permuted embedding": Net(lambda s, x: s.c(x).permute(0, 2, 3, 1).flatten(1), c=conv(3, 2, 3, 8)),
    "shuffle": after_conv(lambda s, x: x.view(-1, 2, 4, 16, 16).transpose(1, 2).reshape(-1, 8, 16, 16)),
    "another clamp": after_conv(lambda s, x: x.clamp(0, 5)),
    "reflection": after_conv(lambda s, x: s.d(x), d=conv(8, 8, padding_mode="reflect")),
    "slice": after_conv(lambda s, x: x[:, :, 1:, 1:]),
    "four pixels": Net(
        lambda s, x: s.fc(F.adaptive_avg_pool2d(s.c(x), 2).flatten(1)), c=conv(3, 8), fc=nn.Linear(32, 8)
    ),
    "uncounted border": after_conv(lambda s, x: F.avg_pool2d(x, 3, 2, 1, False, False)),
    "slope of vectors": Net(lambda s, x: s.a(s.fc(head(s.c(x)))), c=conv(3, 8), fc=nn.Linear(8, 8), a=nn.PReLU(8)),
    "lonely norm": Net(
        lambda s, x: s.b(F.relu(s.fc(head(s.c(x))))), c=conv(3, 8), fc=nn.Linear(8, 8), b=nn.BatchNorm1d(8)
    ),
}
"""What integer kernels know no form of: some of it computes in float, the rest moves codes."""
