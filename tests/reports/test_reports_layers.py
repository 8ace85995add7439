"""Layers that converters did not know: called as functions, pooled otherwise, attention by pools, norms by halves."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from reported import (
    EMBEDDING,
    SIZE,
    WIDTH,
    assert_read,
    exported,
    images,
    lived_in,
    module_rows,
    off,
    runtime_rows,
    saved,
)
from torch import nn

import qface_toolkit as qf
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.errors import UnsupportedModel


class Given(nn.Module):
    """A convolution, a matrix, and what a function makes of both and of the images."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.conv, self.fc, self.given = nn.Conv2d(3, WIDTH, 3, 2, 1), nn.Linear(WIDTH, EMBEDDING), forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        """Return the embedding."""
        return self.given(self, x)


def pooled(x):
    return torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)


def assert_both(tmp_path, network):
    """Assert that a module, and the ONNX file that torch exports of it, are brought to integers as they compute."""
    lived_in(network)
    model = qf.from_module(network, input_size=SIZE)
    found = module_rows(canonicalise(model.network, SIZE), images(2))
    assert off(found, module_rows(network, images(2))) < 1e-5
    path = saved(tmp_path, exported(network))
    assert_read(path, runtime_rows(path, images(2)), images(2))


def _standardised(weight):
    centred = weight - weight.mean((1, 2, 3), keepdim=True)
    return centred / (centred.flatten(1).std(1).view(-1, 1, 1, 1) + 1e-5)


FUNCTIONS = {
    "convolution": lambda s, x: s.fc(pooled(F.relu(F.conv2d(x, s.conv.weight, s.conv.bias, 2, 1)))),
    "by names alone": lambda s, x: F.linear(
        input=pooled(F.conv2d(input=x, weight=s.conv.weight, bias=s.conv.bias, stride=2, padding=1)),
        weight=s.fc.weight,
        bias=s.fc.bias,
    ),
    "no bias": lambda s, x: F.linear(pooled(F.relu(F.conv2d(x, s.conv.weight, padding="same"))), s.fc.weight),
    "weights of length one": lambda s, x: F.linear(F.normalize(pooled(s.conv(x))), F.normalize(s.fc.weight)),
    "standardised weights": lambda s, x: s.fc(
        pooled(F.relu(F.conv2d(x, _standardised(s.conv.weight), s.conv.bias, s.conv.stride, s.conv.padding)))
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_layers_called_as_functions(name, tmp_path):
    assert_both(tmp_path, Given(FUNCTIONS[name]))


def _normed(s, x):
    norm = s.norm
    state = norm.running_mean, norm.running_var, norm.weight, norm.bias
    return s.fc(pooled(F.relu(F.batch_norm(s.conv(x), *state, s.training, eps=norm.eps))))


def _normed_rows(s, x):
    return F.batch_norm(s.fc(pooled(s.conv(x))), s.rows.running_mean, s.rows.running_var)


@pytest.mark.parametrize("forward", [_normed, _normed_rows])
def test_norms_called_as_functions(forward, tmp_path):
    rows = nn.BatchNorm1d(EMBEDDING)
    rows.running_var.uniform_(0.5, 2)
    network = Given(forward, norm=nn.BatchNorm2d(WIDTH, eps=1e-3), rows=rows).eval()
    canonical = canonicalise(qf.from_module(network, input_size=SIZE).network, SIZE)
    assert off(module_rows(canonical, images(2)), module_rows(network, images(2))) < 1e-5
    assert not any(isinstance(module, nn.BatchNorm2d) for module in canonical.modules())


OF_THE_IMAGE = {
    "weights": lambda s, x: F.linear(pooled(s.conv(x)), s.fc.weight * x.mean()),
    "bias": lambda s, x: F.linear(pooled(s.conv(x)), s.fc.weight, s.fc.bias * x.mean()),
    "norm": lambda s, x: F.batch_norm(s.conv(x), x.mean((0, 2, 3)).repeat(4)[:WIDTH], torch.ones(WIDTH)).flatten(1),
}


@pytest.mark.parametrize("name", OF_THE_IMAGE)
def test_layers_of_what_is_made_of_all_images_are_refused(name):
    with pytest.raises(UnsupportedModel, match="images|linear|batch_norm") as raised:
        canonicalise(Given(OF_THE_IMAGE[name]), SIZE)
    assert raised.value.fix


class GeneralisedMean(nn.Module):
    """The mean of powers, whose exponent is learned or fixed."""

    def __init__(self, exponent):
        super().__init__()
        self.exponent = exponent

    def forward(self, x):
        """Return [N, C, 1, 1]."""
        return F.adaptive_avg_pool2d(x.clamp(min=1e-6).pow(self.exponent), 1).pow(1.0 / self.exponent)


def _operator_mean(s, x):
    return s.fc((F.relu(s.conv(x)).clamp(min=1e-6) ** s.power).mean((2, 3)) ** (1 / s.power))


@pytest.mark.parametrize("exponent", [3.0, nn.Parameter(torch.ones(1) * 3), nn.Parameter(torch.tensor(2.37))])
def test_generalised_means(exponent, tmp_path):
    pool = GeneralisedMean(exponent)
    assert_both(tmp_path, Given(lambda s, x: s.fc(s.pool(s.conv(x)).flatten(1)), pool=pool))
    if isinstance(exponent, nn.Parameter):
        assert_both(tmp_path, Given(_operator_mean, power=exponent))


LARGEST = {
    "adaptive": lambda x: F.adaptive_max_pool2d(x, 1).flatten(1),
    "to a map": lambda x: F.adaptive_max_pool2d(x, (4, 2)).flatten(1)[:, :WIDTH],
    "amax": lambda x: x.amax((2, 3)),
    "twice": lambda x: x.max(3)[0].max(2)[0],
    "of lines": lambda x: torch.max(x.flatten(2), dim=2).values,
    "unpacked": lambda x: _first(*torch.max(x.flatten(2), -1)),
}


def _first(values, _places):
    return values


@pytest.mark.parametrize("name", LARGEST)
def test_largest_numbers(name, tmp_path):
    assert_both(tmp_path, Given(lambda s, x: s.fc(LARGEST[name](s.conv(x)))))


def test_places_of_largest_numbers_are_refused():
    with pytest.raises(UnsupportedModel, match="max"):
        canonicalise(Given(lambda s, x: s.fc(s.conv(x).flatten(2).max(2)[1].float())), SIZE)


class ByPools(nn.Module):
    """Attention to channels by both pools, and then to pixels by both over channels."""

    def __init__(self, channels):
        super().__init__()
        layers = nn.Conv2d(channels, channels // 4, 1, bias=False), nn.Conv2d(channels // 4, channels, 1, bias=False)
        self.shared = nn.Sequential(layers[0], nn.ReLU(), layers[1])
        self.average, self.largest = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)
        self.pixels = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x):
        """Scale channels and pixels."""
        x = x * torch.sigmoid(self.shared(self.average(x)) + self.shared(self.largest(x)))
        both = torch.cat([torch.mean(x, dim=1, keepdim=True), torch.max(x, dim=1, keepdim=True)[0]], dim=1)
        return x * torch.sigmoid(self.pixels(both))


def test_attention_by_pools(tmp_path):
    assert_both(tmp_path, Given(lambda s, x: s.fc(pooled(s.attend(s.conv(x)))), attend=ByPools(WIDTH)))


class ByHalves(nn.Module):
    """Instance norm for half of the channels, BatchNorm for the others."""

    def __init__(self, channels):
        super().__init__()
        self.half = channels // 2
        self.one, self.other = nn.InstanceNorm2d(self.half, affine=True), nn.BatchNorm2d(channels - self.half)

    def forward(self, x):
        """Normalise each half its own way."""
        one, other = torch.split(x, self.half, 1)
        return torch.cat((self.one(one.contiguous()), self.other(other.contiguous())), 1)


def test_norms_by_halves(tmp_path):
    assert_both(tmp_path, Given(lambda s, x: s.fc(pooled(F.relu(s.norm(s.conv(x))))), norm=ByHalves(WIDTH)))


def test_a_norm_of_maps_behind_a_matrix(tmp_path):
    def forward(s, x):
        maps = s.norm(s.fc(pooled(s.conv(x))).view(-1, EMBEDDING // 4, 2, 2))
        return torch.flatten(maps, 1)

    assert_both(tmp_path, Given(forward, norm=nn.BatchNorm2d(EMBEDDING // 4)))
