"""Weights below eight bits in every backend: codes that the integer arithmetic has, and nothing lost on the way."""

import functools

import numpy as np
import pytest
import torch
from quantized import calibrate, cosines, opened, run, small_network, smooth_images
from tiers import in_tiers

from qface_toolkit.backends import BACKENDS
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.image_input import absorb_preprocessing, input_convolution
from qface_toolkit.quantize.model import new_model
from qface_toolkit.quantize.scheme import LayerScheme, Scheme, TensorScheme
from qface_toolkit.quantize.simulation import prepare
from qface_toolkit.quantize.target import ONNX, Deployment

PLAIN = [name for name in BACKENDS.names() if not BACKENDS.get(name).narrow]


@functools.cache
def low(name, bits, image="float"):
    """Return a calibrated small network whose weights have few bits, three layers of them more, and images."""
    network, size = small_network(name)
    images = smooth_images(size)
    layers = (LayerScheme("*linear*", weights=7), LayerScheme("*conv1*", weights=8))
    scheme = Scheme(TensorScheme(bits, True, "channel"), layers=layers)
    spec = ModelSpec("test", size, run(network, images[:1]).shape[1])
    model = new_model(canonicalise(network, size), spec, Deployment(image=image))
    return calibrate(model.with_scheme(scheme), images), images


@functools.cache
def integers(name, bits, target):
    """Return the embeddings of its images by the integer arithmetic of a target."""
    model, images = low(name, bits)
    return embed_as_integers(model, target, images)


@pytest.mark.parametrize("name", in_tiers(("mobilefacenet", "mobilefacenet-relu6"), fast=["mobilefacenet"]))
@pytest.mark.parametrize("bits", in_tiers((2, 3, 5, 6), fast=(2, 6)))
@pytest.mark.parametrize("backend", in_tiers(PLAIN, fast=("onnx-x86", "torch-x86")))
def test_an_artifact_computes_what_its_codes_say(name, bits, backend, tmp_path):
    model, images = low(name, bits)
    got = opened(backend, model, tmp_path)(images)
    agreement = cosines(got, integers(name, bits, BACKENDS.get(backend).target))
    assert agreement.mean() > 0.9999, f"mean cosine {agreement.mean():.6f} to the integer arithmetic"


@pytest.mark.parametrize("bits", in_tiers((3, 5), fast=[3]))
def test_the_simulation_rounds_the_same_weights(bits):
    model, images = low("mobilefacenet", bits)
    simulated = prepare(model, ONNX)
    with torch.no_grad():
        found = simulated(torch.from_numpy(images)).numpy()
    agreement = cosines(found, integers("mobilefacenet", bits, ONNX))
    assert agreement.mean() > 0.99, f"mean cosine {agreement.mean():.5f}: float sums alone differ"


def test_fewer_bits_are_further_from_float():
    found = []
    for bits in (2, 4, 8):
        model, images = low("mobilefacenet", bits)
        found.append(cosines(integers("mobilefacenet", bits, ONNX), model.embed(images)).mean())
    assert found == sorted(found), found
    assert 1 - found[0] > 10 * (1 - found[1]), found


def test_a_file_that_takes_pixels_has_eight_bits_in_its_first_layer(tmp_path):
    model, images = low("mobilefacenet", 3, image="uint8")
    got = opened("onnx-x86", model, tmp_path)(images)
    agreement = cosines(got, embed_as_integers(model, ONNX, images))
    assert agreement.mean() > 0.9999, agreement
    assert np.isfinite(got).all()


def test_taking_pixels_leaves_the_grids_of_all_other_layers_as_they_are():
    network, size = small_network("mobilefacenet")
    spec = ModelSpec("test", size, 16)
    model = new_model(canonicalise(network, size), spec, Deployment(image="uint8"))
    first = input_convolution(model.network).name
    narrow = calibrate(model.with_scheme(Scheme(layers=(LayerScheme(first, weights=4),))), smooth_images(size))
    absorbed = absorb_preprocessing(narrow)
    assert absorbed.scheme.weight_bits(first) == 8
    assert absorbed.scheme.compact, "other layers were rounded with the scales of a compact scheme"
