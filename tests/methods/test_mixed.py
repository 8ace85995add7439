"""Mixed precision: the target is reached with few layers, nothing is kept without need, and ranges stay."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from quantized import calibrated, cosines, small_model, smooth_images
from torch import nn

from qface_toolkit.analysis.sensitivity import measure_sensitivity
from qface_toolkit.canonical.graph import operation
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.methods import METHODS, Context, Reference
from qface_toolkit.methods._ranking import ranked_layers
from qface_toolkit.quantize.plan import LAYERS
from qface_toolkit.quantize.target import ONNX

MIXED = METHODS.get("mixed")


def context(images, target=ONNX, **more):
    return Context(images, target, 0, 8, lambda done, total: None, **more)


def mixed(model, images, wanted, **more):
    return MIXED.run(model, MIXED.options(cosine_mean=wanted), context(images, **more))


@pytest.fixture(scope="module")
def model():
    return small_model("mobilefacenet")


@pytest.fixture(scope="module")
def images(model):
    return smooth_images(model.spec.input_size, 32, seed=2)


def layers(model):
    return [node.name for node in model.network.graph.nodes if operation(node) in LAYERS]


def mean_cosine(model, images):
    return cosines(embed_as_integers(model, ONNX, images), model.embed(images)).mean()


def test_a_target_between_int8_and_float_is_reached_with_some_layers(model, images):
    held_out = images[-4:]
    before = mean_cosine(model, held_out)
    wanted = 1 - (1 - before) / 3
    found = mixed(model, images, wanted)
    assert mean_cosine(found, held_out) > wanted - (1 - before) / 20, f"{mean_cosine(found, held_out)} for {wanted}"
    assert 0 < len(found.plan.kept) < len(layers(model))
    assert found.ranges == model.ranges and found.plan.forms == model.plan.forms


def test_no_layer_is_kept_without_need(model, images):
    assert mixed(model, images, 0.5).plan.kept == ()
    assert mixed(model.with_kept(layers(model)), images, 0.5).plan.kept == ()


@pytest.mark.slow
def test_a_higher_target_keeps_more(model, images):
    loss = 1 - mean_cosine(model, images[-4:])
    counts = [len(mixed(model, images, 1 - loss / factor).plan.kept) for factor in (1.5, 4, 50)]
    assert counts == sorted(counts) and counts[0] < counts[-1]


@pytest.mark.slow
def test_a_target_out_of_reach_gives_the_closest(model, images):
    """The reference is another model's, as after training that lost something for good."""

    def reference(inputs):
        return model.embed(inputs) + 0.5 * np.abs(model.embed(inputs))

    found = mixed(model, images, 0.99999, services=(Reference(reference),))
    held_out = images[-4:]
    closest = cosines(embed_as_integers(found, ONNX, held_out), reference(held_out)).mean()
    assert closest >= cosines(embed_as_integers(model, ONNX, held_out), reference(held_out)).mean() - 1e-6
    assert closest < 0.99999


def test_the_layer_that_loses_most_for_its_size_comes_first(images):
    """One weight a channel is a hundred times as large as the others, so rounding leaves little of those."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.Flatten(),
        nn.Linear(8 * 10 * 10, 16),
    ).eval()
    bad = network[2].weight.data
    bad[:, 0, 0, 0] *= 1e2
    size = (16, 16)
    model = calibrated(network, size, smooth_images(size, 8))
    sensitivity = measure_sensitivity(model, ONNX, smooth_images(size, 4, seed=1))
    first, *others = ranked_layers(model, sensitivity)
    assert layers(model)[1] in first
    assert sorted([*first, *(name for group in others for name in group)]) == sorted(layers(model))


def test_the_same_job_keeps_the_same_layers(model, images):
    assert mixed(model, images, 0.999).plan == mixed(model, images, 0.999).plan


@pytest.mark.parametrize("wanted", [0, 1, 1.5, -0.5, "0.99", None, True, float("nan")])
def test_a_target_is_a_cosine_below_one(wanted):
    with pytest.raises(ValidationError):
        MIXED.options(cosine_mean=wanted)
