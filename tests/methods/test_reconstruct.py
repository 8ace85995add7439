"""Reconstruction: what is learned survives the file, and held-out images come nearer to float."""

import json

import numpy as np
import pytest
import torch
from quantized import SMALL_NETWORKS, calibrated, cosines, opened, run, small_model, smooth_images
from tiers import in_tiers
from torch import nn

from qface_toolkit.canonical.graph import inputs, module, operation
from qface_toolkit.errors import CalibrationError
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.methods import METHODS, Context
from qface_toolkit.quantize.model import description, load_quantized, weights_bytes
from qface_toolkit.quantize.plan import LAYERS
from qface_toolkit.quantize.scheme import Range, activation_qparams
from qface_toolkit.quantize.simulation import prepare
from qface_toolkit.quantize.target import ONNX, TORCH_FBGEMM
from qface_toolkit.quantize.weights import weight_grid

RECONSTRUCT = METHODS.get("reconstruct")
SIZE = (16, 16)


def context(images, target=ONNX, told=lambda done, total: None, seed=0):
    return Context(images, target, seed, 4, told)


def reconstructed(model, images, target=ONNX, seed=0, **options):
    given = {"batch_size": 4, "iterations": 10, **options}
    return RECONSTRUCT.run(model, RECONSTRUCT.options(**given), context(images, target, seed=seed))


def coarse_network():
    """Return a network with a tiny channel in each tensor: the large weights that read it leave few codes to others."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.PReLU(8), nn.Conv2d(8, 12, 3, 2), nn.PReLU(12), nn.Conv2d(12, 16, 3, 2), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 12)).eval()
    for first, second in ((0, 2), (2, 4)):
        layers[first].weight.data[0] /= 30
        layers[first].bias.data[0] /= 30
        layers[second].weight.data[:, 0] *= 30
    return network


@pytest.fixture(scope="module")
def images():
    return smooth_images(SIZE, 48, seed=1)


@pytest.fixture(scope="module")
def model(images):
    return calibrated(coarse_network(), SIZE, images)


def codes(model, target=ONNX):
    """Return each layer's codes and scales as backends write them."""
    found = {}
    for node in model.network.graph.nodes:
        if operation(node) in LAYERS:
            scale, _ = activation_qparams(model.range_of(inputs(node)[0].name, target), target.levels)
            grid = weight_grid(node, scale, target, model.deployment, model.scheme)
            found[node.name] = grid.codes(module(node).weight), grid.scales
    return found


def test_held_out_images_come_nearer_to_float(model, images):
    held_out = smooth_images(SIZE, 32, seed=2)
    expected = run(model.network, held_out)
    after = reconstructed(model, images, iterations=100)
    losses = [1 - cosines(embed_as_integers(one, ONNX, held_out), expected).mean() for one in (model, after)]
    assert losses[1] < 0.8 * losses[0], f"{losses[0]:.6f} before, {losses[1]:.6f} after"


def test_learned_codes_survive_in_the_weights(model, images):
    after = reconstructed(model, images, iterations=40)
    before, found = codes(model), codes(after)
    assert any(not np.array_equal(before[name][0], found[name][0]) for name in found)
    for name, (learned, scales) in found.items():
        layer = module(next(node for node in after.network.graph.nodes if node.name == name))
        weight = layer.weight.detach().numpy()
        by_channel = scales.reshape((-1,) + (1,) * (weight.ndim - 1))
        np.testing.assert_array_equal(scales, before[name][1], err_msg=name)
        np.testing.assert_allclose(weight / by_channel, learned, atol=1e-3, err_msg=name)


def test_the_file_computes_what_was_learned(model, images, tmp_path):
    after = reconstructed(model, images)
    written = opened("onnx-x86", after, tmp_path)(images[:8])
    np.testing.assert_allclose(written, embed_as_integers(after, ONNX, images[:8]), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        simulated = prepare(after, ONNX)(torch.from_numpy(images[:8])).numpy()
    assert cosines(written, simulated).min() > 0.999


@pytest.mark.parametrize("name", in_tiers(SMALL_NETWORKS, fast=("mobilefacenet", "iresnet")))
def test_layouts_are_reconstructed(name):
    model = small_model(name)
    images = smooth_images(model.spec.input_size, 4)
    after = reconstructed(model, images, iterations=2, ranges_rate=0.01)
    assert set(after.ranges) == set(model.ranges)
    assert np.isfinite(embed_as_integers(after, ONNX, images)).all()
    assert any(not np.array_equal(codes(after)[layer][0], found[0]) for layer, found in codes(model).items())


def test_ranges_stay_unless_they_are_learned(model, images):
    assert reconstructed(model, images, ranges_rate=0.0).ranges == model.ranges
    wide = model.with_ranges({owner: Range(4 * one.low, 4 * one.high) for owner, one in model.ranges.items()})
    owners = model.plan.owners()
    learned = reconstructed(wide, images, iterations=60, ranges_rate=0.05).ranges
    assert learned[owners[0]] == wide.ranges[owners[0]], "the image's range is known"
    narrower = [owner for owner in owners if learned[owner].high < 0.9 * wide.ranges[owner].high]
    assert narrower, "ranges four times as wide as needed do not shrink"


def test_clamps_and_known_ranges_stay():
    model = small_model("mobilefacenet-relu6")
    after = reconstructed(model, smooth_images(model.spec.input_size, 8), iterations=20, ranges_rate=0.1)
    assert model.plan.clamps
    assert all(after.ranges[owner].high <= 6 and after.ranges[owner].low == 0 for owner in model.plan.clamps)


def test_a_target_with_fewer_levels_is_reconstructed(model, images):
    after = reconstructed(model, images, TORCH_FBGEMM, ranges_rate=0.01)
    assert np.isfinite(embed_as_integers(after, TORCH_FBGEMM, images[:4])).all()


def test_layers_in_float_stay(model, images):
    layers = [node.name for node in model.network.graph.nodes if operation(node) in LAYERS]
    mixed = model.with_kept(layers[1:2])
    after = reconstructed(mixed, images)
    moved = [not torch.equal(_weight(mixed, name), _weight(after, name)) for name in layers]
    assert moved == [True, False, True, True]
    assert torch.equal(_weight(reconstructed(model.with_kept(layers), images), layers[-1]), _weight(model, layers[-1]))


def _weight(model, name):
    return module(next(node for node in model.network.graph.nodes if node.name == name)).weight


def test_same_seed_gives_the_same_weights(model, images):
    first, second, other = (reconstructed(model, images, seed=seed).network.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in first.items())


def test_the_model_given_is_left_alone(model, images):
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    reconstructed(model, images)
    assert all(torch.equal(tensor, model.network.state_dict()[name]) for name, tensor in before.items())


def test_progress_ends_at_its_total(model, images):
    told = []
    options = RECONSTRUCT.options(iterations=2)
    RECONSTRUCT.run(model, options, context(images, told=lambda *done: told.append(done)))
    assert told[-1][0] == told[-1][1]


def test_needs_images_for_a_step(model, images):
    with pytest.raises(CalibrationError, match="too few"):
        reconstructed(model, images[:3])


@pytest.mark.slow
def test_a_time_becomes_iterations_that_can_be_repeated(model, images, tmp_path):
    timed = reconstructed(model, images, seconds=0.5)
    iterations = timed.choices["reconstruct.iterations"]
    assert iterations > 0
    again = reconstructed(model, images, iterations=iterations)
    assert not again.choices
    state = again.network.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in timed.network.state_dict().items())
    (tmp_path / "q.json").write_text(json.dumps(description(timed)))
    (tmp_path / "w.safetensors").write_bytes(weights_bytes(timed))
    assert load_quantized(tmp_path / "q.json", tmp_path / "w.safetensors").choices == timed.choices


def test_a_time_that_is_up_leaves_one_iteration(model, images):
    assert reconstructed(model, images, seconds=1e-6).choices == {"reconstruct.iterations": 1}
