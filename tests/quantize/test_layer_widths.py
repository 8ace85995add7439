"""What a layer loses at a width, walked through once, is that of a pass of its own; predictions rank layers alike."""

import copy

import numpy as np
import pytest
import torch
from quantized import small_model, smooth_images
from tiers import in_tiers

from qface_toolkit.analysis import widths
from qface_toolkit.analysis.widths import (
    measure_widths,
    predict_widths,
    rounded_layers,
    weights_loss,
    widths_effort,
)
from qface_toolkit.errors import MeasurementError
from qface_toolkit.quantize.quantizers import ActivationQuantizer
from qface_toolkit.quantize.simulation import prepare
from qface_toolkit.quantize.target import ONNX, TORCH_X86


@pytest.fixture(scope="module", params=in_tiers(("mobilefacenet", "iresnet"), fast=["mobilefacenet"]))
def model(request):
    return small_model(request.param)


def alone(model, target, layer, width, images):
    """1 - cosine to float of a whole simulation whose other layers keep their float weights."""
    narrowest = min(node.name for node in rounded_layers(model) if node.name != layer)
    prepared = prepare(model.with_weight_bits({layer: width, narrowest: 2}), target).prepared
    own = str(next(node for node in model.network.graph.nodes if node.name == layer).target)
    for name, module in prepared.named_modules():
        if isinstance(module, ActivationQuantizer):
            module.quantizes = False
        if hasattr(module, "weight_fake_quant") and name != own:
            module.weight_fake_quant.rounds = False
    reference = model.embed(images)
    with torch.no_grad():
        found = prepared(torch.from_numpy(images)).numpy()
    cosine = (found * reference).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(reference, axis=1)
    return 1 - cosine.mean()


@pytest.mark.parametrize("target", in_tiers((ONNX, TORCH_X86), fast=[ONNX]), ids=lambda target: target.name)
def test_every_loss_is_that_of_a_whole_pass(model, target, monkeypatch):
    images = smooth_images(model.spec.input_size, 4, seed=1)
    monkeypatch.setattr(widths, "BATCH", 3)
    found = measure_widths(model, target, images, (2, 5, 8))
    assert list(found) == [node.name for node in rounded_layers(model)]
    for layer in list(found)[:: max(len(found) // 4, 1)]:
        for width in (2, 5, 8):
            # Slopes lie on a grid in a compact scheme, which the measured losses leave out.
            whole = alone(model, target, layer, width, images)
            assert found[layer][width] == pytest.approx(whole, rel=0.15, abs=2e-4), (layer, width)


def test_losses_fall_with_each_bit(model):
    found = measure_widths(model, ONNX, smooth_images(model.spec.input_size, 4, seed=1), (2, 4, 6, 8))
    sums = [sum(losses[width] for losses in found.values()) for width in (2, 4, 6, 8)]
    assert all(more > 4 * fewer for more, fewer in zip(sums[1:], sums[2:], strict=False)), sums
    assert sums == sorted(sums, reverse=True)


def test_predictions_rank_layers_much_as_measurements_do(model):
    images = smooth_images(model.spec.input_size, 16, seed=1)
    measured = measure_widths(model, ONNX, images, (6,))
    predicted = predict_widths(model, ONNX, images, (6,), seed=0, batch_size=8)
    assert list(predicted) == list(measured)
    both = np.array([[losses[name][6] for name in measured] for losses in (measured, predicted)])
    ranks = both.argsort(1).argsort(1)
    assert np.corrcoef(*ranks)[0, 1] > 0.8
    assert 0.3 < both[1].sum() / both[0].sum() < 3


def test_the_loss_of_all_weights_is_about_the_sum_while_it_is_small(model):
    images = smooth_images(model.spec.input_size, 8, seed=1)
    found = measure_widths(model, ONNX, images, (7,))
    together = weights_loss(model.with_weight_bits(dict.fromkeys(found, 7)), ONNX, images)
    assert together == pytest.approx(sum(losses[7] for losses in found.values()), rel=0.5)


def test_layers_that_are_kept_in_float_have_no_width(model):
    first = rounded_layers(model)[0].name
    kept = model.with_kept([first])
    assert first not in [node.name for node in rounded_layers(kept)]
    assert first not in measure_widths(kept, ONNX, smooth_images(model.spec.input_size, 1), (4,))


def test_the_model_is_left_alone(model):
    before = {key: tensor.clone() for key, tensor in model.network.state_dict().items()}
    measure_widths(model, ONNX, smooth_images(model.spec.input_size, 1), (2, 8))
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.network.state_dict().items())


def test_effort_grows_with_widths(model):
    one, three = (widths_effort(model, ONNX, list(widths)) for widths in ((4,), (3, 4, 5)))
    assert 2 < three / one < 3


def test_embeddings_that_are_no_numbers_are_told():
    model = copy.deepcopy(small_model("mobilefacenet"))
    next(model.network.parameters()).data[0] = float("nan")
    with pytest.raises(MeasurementError, match="not finite"):
        measure_widths(model, ONNX, smooth_images(model.spec.input_size, 1), (4,))
