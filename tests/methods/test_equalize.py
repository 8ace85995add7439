"""Equalization: the float function stays, and the quantized one comes closer to it."""

import numpy as np
import pytest
import torch
from quantized import calibrate, cosines, run, small_network, smooth_images, trained
from torch import nn

from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.errors import CalibrationError
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.methods import METHODS, Context
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.model import new_model
from qface_toolkit.quantize.target import ONNX

EQUALIZE = METHODS.get("equalize")


def equalized(model, images, seed=0, **options):
    context = Context(images, ONNX, seed, 4, lambda done, total: None)
    return EQUALIZE.run(model, EQUALIZE.options(**options), context)


def model_of(network, size, images):
    return new_model(canonicalise(network, size), ModelSpec("test", size, run(network, images[:1]).shape[1]))


def loss(model, images, expected):
    return float((1 - cosines(embed_as_integers(model, ONNX, images), expected)).mean())


@pytest.fixture(scope="module")
def unequal():
    """Give a network whose channels differ a hundredfold, as BatchNorm folding leaves them."""
    network, size = small_network("mobilefacenet")
    draw = torch.Generator().manual_seed(3)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            factors = torch.exp(torch.randn(layer.num_features, generator=draw) * 1.2)
            layer.weight.data *= factors
            layer.bias.data *= factors
    return network.eval(), size, smooth_images(size, 16)


def test_the_float_function_stays(unequal):
    network, size, images = unequal
    model = model_of(network, size, images)
    after = equalized(model, images)
    assert not torch.equal(after.network.conv1.conv.weight, model.network.conv1.conv.weight)
    expected = model.embed(images)
    assert np.abs(after.embed(images) - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.slow
def test_quantizing_costs_less(unequal):
    network, size, images = unequal
    model = model_of(network, size, images)
    # Many: of few, how they happen to round decides.
    seen, unseen = images, smooth_images(size, 256, seed=5)
    before = loss(calibrate(model, seen), unseen, run(network, unseen))
    after = loss(calibrate(equalized(model, seen), seen), unseen, run(network, unseen))
    assert after < 0.8 * before, (before, after)


@pytest.mark.slow
def test_channels_behind_relu6_stay_below_its_clamp():
    network, size = small_network("mobilefacenet-relu6")
    images = smooth_images(size, 16)
    after = equalized(model_of(network, size, images), images)
    assert cosines(after.embed(images), run(network, images)).min() > 0.999


def test_ranges_are_gone(unequal):
    network, size, images = unequal
    model = calibrate(model_of(network, size, images), images)
    assert model.ranges and not equalized(model, images, iterations=1).ranges


def test_same_seed_gives_the_same_weights(unequal):
    network, size, images = unequal
    model = model_of(network, size, images)
    first, second, third = (equalized(model, images, seed, iterations=5).network.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], third[name]) for name in first)


@pytest.mark.slow
def test_every_layout_can_be_equalized():
    for name in ("iresnet", "pocketnet", "quantface"):
        network, size = small_network(name)
        images = smooth_images(size, 2)
        after = equalized(model_of(network, size, images), images, iterations=3)
        assert cosines(after.embed(images), run(network, images)).min() > 0.9999, name


def test_infinite_activations_are_refused():
    network = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 4)))
    images = smooth_images((16, 16), 2)
    model = model_of(network, (16, 16), images)
    with torch.no_grad():
        next(iter(model.network.parameters())).fill_(3e38)
    with pytest.raises(CalibrationError, match="infinite or not a number"):
        equalized(model, images)
