"""Networks with gates (SiLU, hard-swish, squeeze-and-excitation) and with embeddings of unit length."""

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from odd_networks import Net, after_conv, conv, head, two_convs
from torch import nn

torch.manual_seed(0)  # the weights below do not depend on what was imported before


def _excited(excite, **modules):
    """Return conv -> relu -> excite(net, x, average of x) -> average -> linear."""
    return after_conv(lambda s, x: (lambda y: excite(s, y, F.adaptive_avg_pool2d(y, 1)))(F.relu(x)), **modules)


def _linears():
    return {"down": nn.Linear(8, 4), "up": nn.Linear(4, 8)}


def _by_view(s, x, y):
    batch, channels, _, _ = x.size()
    return x * torch.sigmoid(s.up(F.relu(s.down(y.view(batch, channels))))).view(batch, channels, 1, 1)


def _by_expansion(s, x, y):
    batch, channels = x.size(0), x.size(1)
    return x * s.gate(y.view(batch, channels)).view(batch, channels, 1, 1).expand_as(x)


def _sequential(*between):
    return nn.Sequential(nn.Linear(8, 4, bias=False), *between, nn.Linear(4, 8, bias=False), nn.Sigmoid())


def _residual_of_gates(s, x):
    y = s.c2(F.silu(x))
    return F.hardswish(y * torch.sigmoid(s.up(F.silu(s.down(F.adaptive_avg_pool2d(y, 1))))) + x)


GATED_NETWORKS = {
    "silu": after_conv(lambda s, x: s.a(x), a=nn.SiLU(inplace=True)),
    "functional silu": two_convs(lambda s, x: s.c2(F.silu(x))),
    "swish": two_convs(lambda s, x: s.c2(x * torch.sigmoid(x))),
    "swish of a constant": two_convs(lambda s, x: s.c2(x * (1.5 * x).sigmoid())),
    "sigmoid": after_conv(lambda s, x: s.a(x), a=nn.Sigmoid()),
    "functional sigmoid": two_convs(lambda s, x: s.c2(F.sigmoid(x))),
    "hard sigmoid": after_conv(lambda s, x: s.a(x) + F.hardsigmoid(x), a=nn.Hardsigmoid()),
    "hard swish": two_convs(lambda s, x: s.c2(s.a(x)), a=nn.Hardswish()),
    "functional hard swish": two_convs(lambda s, x: s.c2(F.hardswish(x, inplace=True))),
    "hard swish by relu6": two_convs(lambda s, x: s.c2(x * F.relu6(x + 3, inplace=True) / 6)),
    "hard swish by a gate": two_convs(lambda s, x: s.c2(x * (s.a(x + 3.0) / 6.0)), a=nn.ReLU6(inplace=True)),
    "hard sigmoid by a clamp": after_conv(lambda s, x: (x / 6 + 0.5).clamp(0, 1)),
    "hard sigmoid of another slope": after_conv(lambda s, x: torch.clamp(0.2 * x + 0.5, min=0.0, max=1.0)),
    "silu of the input": Net(lambda s, x: s.fc(head(s.c(F.silu(x)))), c=conv(3, 8), fc=nn.Linear(8, 8)),
    "silu of vectors": Net(
        lambda s, x: s.fc2(F.silu(s.fc(head(s.c(x))))), c=conv(3, 8), fc=nn.Linear(8, 8), fc2=nn.Linear(8, 8)
    ),
    "hard swish of vectors": Net(
        lambda s, x: s.fc2(F.hardswish(s.fc(head(s.c(x))))), c=conv(3, 8), fc=nn.Linear(8, 8), fc2=nn.Linear(8, 8)
    ),
    "product": two_convs(lambda s, x: s.c2(x) * x),
    "square": two_convs(lambda s, x: s.c2(x * x)),
    "product of relus": two_convs(lambda s, x: F.relu(F.relu(s.c2(x)) * F.relu(x))),
    "excitation by convs": _excited(
        lambda s, x, y: x * torch.sigmoid(s.up(F.relu(s.down(y)))), down=conv(8, 4, 1, 1, 0), up=conv(4, 8, 1, 1, 0)
    ),
    "excitation by a hard gate": _excited(
        lambda s, x, y: F.hardsigmoid(s.up(s.a(s.down(y)))) * x,
        down=conv(8, 4, 1, 1, 0),
        up=conv(4, 8, 1, 1, 0),
        a=nn.PReLU(4),
    ),
    "excitation by views": _excited(_by_view, **_linears()),
    "excitation by expansion": _excited(_by_expansion, gate=_sequential(nn.ReLU(inplace=True))),
    "excitation with norm": _excited(_by_expansion, gate=_sequential(nn.BatchNorm1d(4), nn.PReLU(4), nn.Dropout())),
    "excitation with silu": _excited(
        lambda s, x, y: x * s.up(F.silu(s.down(y.flatten(1)))).sigmoid()[:, :, None, None], **_linears()
    ),
    "excitation by the mean": _excited(
        lambda s, x, y: x * s.up(s.down(x.mean((2, 3)))).sigmoid().unsqueeze(-1).unsqueeze(-1), **_linears()
    ),
    "excitation by an average alone": _excited(lambda s, x, y: x * y.flatten(1).sigmoid().reshape(x.size(0), 8, 1, 1)),
    "excitation twice": _excited(lambda s, x, y: _by_view(s, x, y) + _by_view(s, x, y), **_linears()),
    "residual of gates": two_convs(_residual_of_gates, down=conv(8, 4, 1, 1, 0), up=conv(4, 8, 1, 1, 0)),
    "concat of gates": after_conv(
        lambda s, x: s.d(torch.cat([torch.sigmoid(x), F.max_pool2d(F.hardsigmoid(x), 3, 1, 1), x], 1)), d=conv(24, 8)
    ),
    "concat of flat gates": Net(
        lambda s, x: s.fc(torch.cat([head(s.c(x)).sigmoid(), head(x)], 1)), c=conv(3, 8), fc=nn.Linear(11, 8)
    ),
    "prelu of a gate": two_convs(lambda s, x: s.c2(s.a(F.hardsigmoid(x))), a=nn.PReLU(8, 0.5)),
    "concat of a swish": after_conv(lambda s, x: s.d(torch.cat([F.silu(x), F.relu(x)], 1)), d=conv(16, 8)),
}
"""What becomes sigmoids and products, input 16x16."""


def _tail(end, **modules):
    """Return conv -> average -> linear -> end(net, embedding)."""
    return Net(lambda s, x: end(s, s.fc(head(s.c(x)))), c=conv(3, 8), fc=nn.Linear(8, 8), **modules)


def _by_eps(s, x):
    return x / torch.clamp(x.norm(p=2, dim=1, keepdim=True), min=1e-3).expand_as(x)


NORMALISED_NETWORKS = {
    "normalize": _tail(lambda s, x: F.normalize(x)),
    "normalize with options": _tail(lambda s, x: F.normalize(x, p=2, dim=-1, eps=1e-2)),
    "normalize behind a norm": _tail(lambda s, x: F.normalize(s.b(x), 2.0, 1), b=nn.BatchNorm1d(8)),
    "divided by its length": _tail(lambda s, x: x / x.norm(dim=1, keepdim=True)),
    "divided by torch's length": _tail(lambda s, x: torch.div(x, torch.norm(x, 2, 1, True))),
    "divided by linalg's length": _tail(lambda s, x: x.div(torch.linalg.norm(x, dim=1, keepdim=True))),
    "divided by a vector length": _tail(lambda s, x: x / torch.linalg.vector_norm(x, dim=1).unsqueeze(1)),
    "divided by a length of at least": _tail(_by_eps),
    "normalised average": Net(lambda s, x: F.normalize(head(s.c(x))), c=conv(3, 8)),
    "normalised conv": Net(lambda s, x: F.normalize(s.d(s.c(x)).flatten(1)), c=conv(3, 8), d=conv(8, 8, 16, 1, 0)),
}
"""What ends in a normalisation, input 16x16."""
