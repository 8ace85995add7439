"""Activations below eight bits: the integer arithmetic has no more codes than the training simulation."""

import functools
from functools import partial

import numpy as np
import pytest
import torch
from quantized import both_sides, calibrate, codes_of, cosines, run, small_network, smooth_images
from tiers import in_tiers

from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.model import new_model
from qface_toolkit.quantize.scheme import LayerScheme, Scheme, TensorScheme
from qface_toolkit.quantize.simulation import prepare
from qface_toolkit.quantize.target import ONNX

NETWORKS = in_tiers(
    ("mobilefacenet", "mobilefacenet-relu6", "iresnet", "pocketnet"),
    fast=("mobilefacenet", "mobilefacenet-relu6"),
)


@functools.cache
def narrow(name, bits, *layers):
    """Return a calibrated small network whose activations have so many bits, and images."""
    network, size = small_network(name)
    images = smooth_images(size)
    scheme = Scheme(activations=TensorScheme(bits, False, "tensor"), layers=layers)
    spec = ModelSpec("test", size, run(network, images[:1]).shape[1])
    return calibrate(new_model(canonicalise(network, size), spec).with_scheme(scheme), images), images


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("bits", in_tiers((4, 6), fast=[4]))
def test_codes_fit_their_width_and_the_image_has_eight_bits(name, bits):
    model, images = narrow(name, bits)
    codes = codes_of(model, ONNX, images)
    image, *others = codes
    largest = {tensor: int(codes[tensor].max()) for tensor in others}
    assert max(largest.values()) == 2**bits - 1, largest
    assert codes[image].max() > 2**bits - 1


def test_it_rounds_as_the_training_simulation_does():
    model, images = narrow("mobilefacenet-relu6", 4)
    with torch.no_grad():
        simulated = prepare(model, ONNX)(torch.from_numpy(images)).numpy()
    off, eight = (
        1 - cosines(embed_as_integers(one, ONNX, images), simulated).mean()
        for one in (model, model.with_scheme(Scheme()))
    )
    assert off < 0.001 * eight, f"{off:.2e} from the simulation, which is {eight:.2e} from eight bits"


@pytest.mark.parametrize(
    "name", in_tiers(("mobilefacenet", "mbf", "mobilefacenet-relu6"), fast=["mobilefacenet-relu6"])
)
def test_the_first_codes_are_those_of_the_training_simulation(name):
    """Biases are whole numbers in integers, so a value in the middle may fall to the other side, and others follow."""
    model, images = narrow(name, 4)
    codes, simulation = codes_of(model, ONNX, images), prepare(model, ONNX)
    image, first, *_ = codes
    simulated = {}
    for tensor in (image, first):
        keep = partial(lambda tensor, module, given, made: simulated.update({tensor: made}), tensor)
        simulation.quantizers[tensor].register_forward_hook(keep)
    with torch.no_grad():
        simulation(torch.from_numpy(images))
    grids = {tensor: model.grid_of(tensor, ONNX) for tensor in (image, first)}
    restored = {name: (codes[name].astype(np.float32) - grid.zero_point) * grid.scale for name, grid in grids.items()}
    assert np.allclose(restored[image], simulated[image])
    apart = np.abs(restored[first] - simulated[first].numpy()) / grids[first].scale
    assert apart.max() < 1.01
    assert (apart > 0.5).mean() < 0.001, (apart > 0.5).mean()


def test_codes_mean_what_their_own_steps_say():
    model, images = narrow("mobilefacenet", 6)
    for name, (exact, values) in both_sides(model, ONNX, images).items():
        assert cosines(values.reshape(1, -1), exact.reshape(1, -1))[0] > 0.9, name
        assert np.abs(values).max() < 1.5 * np.abs(exact).max() + 1e-6, name


def test_a_tensor_may_have_more_bits_than_the_others():
    plan = narrow("mobilefacenet-relu6", 4)[0].plan
    wide = plan.owners()[5]
    model, images = narrow("mobilefacenet-relu6", 4, LayerScheme(wide, activations=7))
    codes = codes_of(model, ONNX, images)
    image, *others = codes
    widest = {plan.tensors[name].owner for name in others if codes[name].max() > 15}
    assert widest == {wide}
    assert 64 < max(int(codes[name].max()) for name in others) <= 127
