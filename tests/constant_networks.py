"""Networks that compute with constants, pad with zeros, or flatten in another order: all of it folds into layers."""

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from odd_networks import Net, after_conv, conv, head, two_convs
from torch import nn

torch.manual_seed(0)  # the weights below do not depend on what was imported before


def _with(network, **buffers):
    """Return a network with constants registered as buffers."""
    for name, value in buffers.items():
        network.register_buffer(name, value)
    return network


def _of_input(change, padding=1):
    """Return change(net, images) -> conv -> average -> linear."""
    return Net(lambda s, x: s.fc(head(s.c(change(s, x)))), c=conv(3, 8, padding=padding), fc=nn.Linear(8, 8))


def _of_vectors(change, **modules):
    """Return conv -> average -> change(net, vectors) -> linear."""
    return Net(lambda s, x: s.fc(change(s, head(s.c(x)))), c=conv(3, 8), fc=nn.Linear(8, 8), **modules)


def _behind_linear(change):
    """Return conv -> average -> linear -> change(net, vectors)."""
    return Net(lambda s, x: change(s, s.fc(head(s.c(x)))), c=conv(3, 8), fc=nn.Linear(8, 8))


def _scaled_residual(s, x):
    y = F.relu(x)
    return F.relu(s.c2(y) * 0.17 + y)


def _multiplied_in_place(s, x):
    y = s.c2(x)
    y.mul_(0.5)
    y += 1
    return y


def _changed_before_it_is_read_again(s, x):
    y = F.relu(x, inplace=True)
    return s.c2(y) + x


def _changed_by_a_module(s, x):
    return s.c2(s.r(x)) + x


def _two_of_one_name(s, x):
    return s.relu(F.relu(s.c2(x)) - 0.3)


RAMP = torch.linspace(-1.5, 2, 8)

CONSTANT_NETWORKS = {
    "times a number": after_conv(lambda s, x: x * 0.17),
    "a number times": after_conv(lambda s, x: 0.17 * x),
    "plus a number": two_convs(lambda s, x: s.c2(x + 0.3)),
    "a number plus": two_convs(lambda s, x: s.c2(1 + F.relu(x))),
    "a number minus": two_convs(lambda s, x: s.c2(1 - x)),
    "minus a number": two_convs(lambda s, x: s.c2(F.relu(x) - 1.5)),
    "by a number": two_convs(lambda s, x: s.c2(x) / 6),
    "negated": two_convs(lambda s, x: s.c2(-x) + torch.neg(x) + x.neg()),
    "torch functions": two_convs(
        lambda s, x: torch.add(torch.mul(torch.div(torch.sub(s.c2(x), 2), 3), 0.5), 4, alpha=0.25)
    ),
    "methods": two_convs(lambda s, x: s.c2(x).sub(2).div(3).mul(0.5).add(4, alpha=0.25)),
    "other by name": two_convs(lambda s, x: torch.mul(torch.add(s.c2(x), other=1), other=2)),
    "in place": two_convs(_multiplied_in_place),
    "reversed": two_convs(lambda s, x: torch.rsub(s.c2(x), 1, alpha=2) + torch.rsub(x, s.c2(x), alpha=0.5)),
    "difference": two_convs(lambda s, x: s.c2(x) - x),
    "difference times a number": two_convs(lambda s, x: torch.sub(s.c2(x), x, alpha=0.3)),
    "sum times a number": two_convs(lambda s, x: torch.add(s.c2(x), F.relu(x), alpha=0.5)),
    "a constant and a sum": after_conv(lambda s, x: torch.add(torch.ones(1), x, alpha=-2)),
    "scaled residual": two_convs(_scaled_residual),
    "buffer of channels": _with(
        two_convs(lambda s, x: s.c2(x * s.w - s.v)), w=RAMP[:, None, None], v=RAMP.flip(0)[None, :, None, None]
    ),
    "parameter of one": after_conv(lambda s, x: x * s.w, w=nn.Parameter(torch.tensor(0.3))),
    "buffer reshaped": _with(two_convs(lambda s, x: s.c2(x) * s.w.exp().view(1, -1, 1, 1)), w=RAMP),
    "buffer moved": _with(
        _of_input(lambda s, x: (x - s.w.to(x.device)) / s.v.type_as(x)),
        w=torch.rand(1, 3, 1, 1),
        v=torch.rand(3, 1, 1) + 0.5,
    ),
    "times of the input": _of_input(lambda s, x: (x - 127.5) * 0.0078125),
    "times of the input, no border": _of_input(lambda s, x: (x * 127.5 - 127.5) * 0.0078125, padding=0),
    "scale before a padded conv": two_convs(lambda s, x: s.c2(F.relu(x) * 3)),
    "scale before groups": _with(
        after_conv(lambda s, x: s.c2(F.relu(x) * s.w), c2=conv(8, 8, groups=4)), w=RAMP[:, None, None]
    ),
    "scale behind a concat": two_convs(
        lambda s, x: s.c3(torch.cat([s.c2(x), s.c4(x)], 1) * 2), c3=conv(16, 8), c4=conv(8, 8)
    ),
    "vectors": _with(_of_vectors(lambda s, x: (F.relu(x) - s.w) * s.v), w=RAMP, v=RAMP[None].flip(1)),
    "vectors behind linear": _with(_behind_linear(lambda s, x: (x * s.w + 2) / 3), w=RAMP),
    "norm of averages": Net(lambda s, x: s.b(head(F.relu(s.c(x)))), c=conv(3, 8), b=nn.BatchNorm1d(8)),
    "norm of a flat conv": Net(
        lambda s, x: s.b(s.d(s.c(x)).flatten(1)), c=conv(3, 8), d=conv(8, 8, 16, 1, 0), b=nn.BatchNorm1d(8)
    ),
    "number times flat pixels": Net(lambda s, x: F.avg_pool2d(F.relu(s.c(x)), 8).flatten(1) * 2, c=conv(3, 8)),
    "averages read twice": Net(
        lambda s, x: (lambda y: s.b(y) + y)(head(F.relu(s.c(x)))), c=conv(3, 8), b=nn.BatchNorm1d(8)
    ),
    "changed in place": two_convs(_changed_before_it_is_read_again),
    "changed by a module": two_convs(_changed_by_a_module, r=nn.ReLU(inplace=True)),
    "two of one name": two_convs(_two_of_one_name, relu=nn.PReLU(8)),
    "inputs by name": two_convs(lambda s, x: F.relu(input=torch.add(input=s.c2(input=x), other=x, alpha=2))),
    "no-op": two_convs(lambda s, x: s.c2(x * 1.0 + 0.0).float().detach()),
}
"""What folds, input 16x16."""


def _padded(pad, kernel=3, stride=1, padding=0, **options):
    """Return conv -> pad(net, x) -> conv with these options -> average -> linear."""
    return two_convs(lambda s, x: s.d(pad(s, x)), d=conv(8, 8, kernel, stride, padding, **options))


def _pooled(pad, pool):
    """Return conv -> relu -> pad(x) -> pool -> average -> linear."""
    return after_conv(lambda s, x: pool(pad(F.relu(x))))


PADDED_NETWORKS = {
    "pad": _padded(lambda s, x: F.pad(x, (1, 1, 1, 1))),
    "pad by a module": two_convs(lambda s, x: s.d(s.p(x)), d=conv(8, 8, 5, 1, 0), p=nn.ZeroPad2d(2)),
    "pad by a constant": two_convs(
        lambda s, x: s.d(s.p(x)), d=conv(8, 8, 3, 2, 1), p=nn.ConstantPad2d((1, 1, 2, 2), 0)
    ),
    "pad below and right": _padded(lambda s, x: F.pad(x, [0, 1, 0, 1]), stride=2),
    "pad above and left": _padded(lambda s, x: F.pad(x, (1, 0, 2, 0), "constant", 0.0), stride=2),
    "pad and padding": _padded(lambda s, x: F.pad(x, (0, 1, 2, 0)), stride=2, padding=1),
    "pad columns": _padded(lambda s, x: F.pad(x, (2, 1))),
    "pad twice": _padded(lambda s, x: F.pad(F.pad(x, (0, 1)), (0, 0, 0, 1))),
    "pad and cut": _padded(lambda s, x: F.pad(x, (0, -1, -2, 1))),
    "pad of all axes": _padded(lambda s, x: F.pad(x, (1, 1, 1, 1, 0, 0, 0, 0))),
    "pad with dilation": _padded(lambda s, x: F.pad(x, (0, 2, 4, 2)), dilation=2),
    "pad for two": two_convs(
        lambda s, x: (lambda y: s.d(y) + s.e(y))(F.pad(x, (0, 1, 0, 1))),
        d=conv(8, 8, 3, 2, 0),
        e=conv(8, 8, 3, 2, 0, groups=8),
    ),
    "pad before an average": _pooled(lambda x: F.pad(x, (1, 1, 1, 1)), lambda x: F.avg_pool2d(x, 3, 2)),
    "uneven pad before an average": _pooled(lambda x: F.pad(x, (0, 1, 0, 1)), lambda x: F.avg_pool2d(x, 3, 2)),
    "pad before a maximum": _pooled(lambda x: F.pad(x, (1, 1, 1, 1)), lambda x: F.max_pool2d(x, 3, 2)),
    "padding same, even kernel": Net(
        lambda s, x: s.fc(head(s.c(x))), c=nn.Conv2d(3, 8, (4, 2), padding="same"), fc=nn.Linear(8, 8)
    ),
    "borders cut": _padded(lambda s, x: x[:, :, 1:, 2:-1], stride=2),
    "borders cut by dots": _padded(lambda s, x: x[..., 1:-1, :]),
    "everything kept": after_conv(lambda s, x: F.pad(s.d(x[:, :8, :, 0:])[..., :16], (0, 0)), d=conv(8, 8)),
    "size of the map": after_conv(lambda s, x: F.avg_pool2d(x, x.size()[2:])),
    "size of an axis": after_conv(lambda s, x: F.avg_pool2d(x, (x.size(2) // 2, x.shape[-1]))),
}
"""What padding and sizes fold into, input 16x16."""


def _flat(permuted):
    """Return conv -> relu -> permuted(net, x) -> linear."""
    return Net(
        lambda s, x: s.fc(permuted(s, F.relu(s.c(x)))), c=conv(3, 4, 3, 4), fc=nn.Linear(64, 8), b=nn.BatchNorm1d(64)
    )


PERMUTED_NETWORKS = {
    "channels last": _flat(lambda s, x: x.permute(0, 2, 3, 1).contiguous().view(x.size(0), -1)),
    "channels last, norm": _flat(lambda s, x: s.b(torch.permute(x, (0, 2, 3, 1)).flatten(1))),
    "columns first": _flat(lambda s, x: F.relu(torch.flatten(x.transpose(2, 3), 1))),
    "transposed twice": _flat(lambda s, x: x.transpose(1, 2).transpose(-2, -1).reshape(x.shape[0], -1)),
    "a pixel permuted": Net(lambda s, x: F.adaptive_avg_pool2d(s.c(x), 1).permute(0, 2, 3, 1).flatten(1), c=conv(3, 8)),
}
"""What is flattened in another order, input 16x16."""
