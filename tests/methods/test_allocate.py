"""Widths: the file is within its budget, no uniform width is better, and what cannot be had is said with what can."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from quantized import cosines, small_model, smooth_images
from tiers import in_tiers

from qface_toolkit.analysis.widths import rounded_layers
from qface_toolkit.canonical.graph import module
from qface_toolkit.errors import RecipeError
from qface_toolkit.methods import METHODS, Context, FileSizes, Record, allocate
from qface_toolkit.quantize.model import embed
from qface_toolkit.quantize.scheme import LayerScheme, Scheme, TensorScheme
from qface_toolkit.quantize.simulation import prepare
from qface_toolkit.quantize.target import ONNX, Deployment

ALLOCATE = METHODS.get("allocate")
FLOAT_BYTES = 100_000


def file_bytes(model):
    """A file whose graph takes more for some widths than for others, and has parts that no layer accounts for."""
    widths = {node.name: model.scheme.weight_bits(node.name) for node in rounded_layers(model)}
    codes = sum(-(-module(node).weight.numel() * widths[node.name] // 8) for node in rounded_layers(model))
    unpacking = sum({8: 0, 4: 40}.get(width, 60) for width in widths.values())
    return 3000 + codes + unpacking + (0 if model.scheme.compact else 2000)


def spare_bytes(model):
    return sum(len(module(node).weight) for node in rounded_layers(model)) * allocate.MARGIN_BITS // 8


SIZES = FileSizes(file_bytes, FLOAT_BYTES)


def context(images, told, sizes):
    record = Record(lambda gift, values: told.update({gift: values}))
    return Context(images, ONNX, 0, 8, lambda done, total: None, (record, sizes))


def allocated(model, images, told=None, sizes=SIZES, **options):
    return ALLOCATE.run(model, ALLOCATE.options(**options), context(images, {} if told is None else told, sizes))


@pytest.fixture(scope="module")
def model():
    return small_model("mobilefacenet")


@pytest.fixture(scope="module")
def images(model):
    return smooth_images(model.spec.input_size, 64, seed=2)


@pytest.fixture(scope="module")
def shares(model):
    """What files of one width take of the float file."""
    names = [node.name for node in rounded_layers(model)]
    return {
        width: file_bytes(model.with_weight_bits(dict.fromkeys(names, width))) / FLOAT_BYTES for width in range(2, 8)
    }


@pytest.fixture(scope="module")
def at(model, images):
    """Give what a share of the float file leads to, worked out once; nobody changes a model."""
    return functools.cache(lambda share: allocated(model, images, bytes=share))


def mean_cosine(model, images):
    return cosines(embed(prepare(model, ONNX), images), model.embed(images)).mean()


def widths_of(model):
    return [model.scheme.weight_bits(node.name) for node in rounded_layers(model)]


def uniform(model, width):
    return model.with_weight_bits({node.name: width for node in rounded_layers(model)})


@pytest.mark.parametrize("width", in_tiers((3, 5), fast=[3]))
def test_no_uniform_width_of_the_same_bytes_is_as_good(model, images, shares, width):
    told = {}
    found = allocated(model, images, told, bytes=round(shares[width] / (1 - allocate.MARGIN), 4) + 1e-4)
    assert file_bytes(found) <= shares[width] * FLOAT_BYTES * 1.01
    assert len(set(widths_of(found))) > 1
    better, plain = (1 - mean_cosine(one, images) for one in (found, uniform(model, width)))
    assert better < 0.8 * plain, f"{better} against {plain}"
    record = told["widths"]
    assert record["losses"] == "measured" and record["images"] == 16
    assert [layer["bits"] for layer in record["layers"]] == widths_of(found)
    assert record["bound"] <= record["loss_predicted"]
    assert record["size_bytes"] == file_bytes(found)


@pytest.mark.parametrize("share", in_tiers((0.09, 0.1, 0.11), fast=[0.1]))
def test_the_file_is_within_the_budget_and_close_to_it(model, at, share):
    """Later steps may widen each channel's bias: of many channels, that is more than a share of the budget."""
    spare = spare_bytes(model)
    assert spare > share * FLOAT_BYTES * allocate.MARGIN
    size = file_bytes(at(share))
    assert share * FLOAT_BYTES * 0.98 - spare < size <= share * FLOAT_BYTES - spare


@pytest.mark.slow
def test_more_bytes_lose_less(at, images):
    losses = [1 - mean_cosine(at(share), images) for share in (0.08, 0.1, 0.13)]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.slow
def test_a_budget_that_holds_everything_leaves_nearly_everything_in_eight_bits(model, images):
    assert np.mean(widths_of(allocated(model, images, bytes=0.9))) > 7.5


def test_only_allowed_widths_are_given(model, images):
    assert set(widths_of(allocated(model, images, bytes=0.1, widths=[8, 4, 4, 6]))) <= {4, 6, 8}


def test_layers_that_the_scheme_names_keep_their_width(model, images):
    first = rounded_layers(model)[0].name
    scheme = Scheme(TensorScheme(4, True, "channel"), layers=(LayerScheme(first, weights=3),))
    found = allocated(model.with_scheme(scheme), images, bytes=0.1)
    assert found.scheme.weight_bits(first) == 3
    assert max(widths_of(found)[1:]) > 4


@pytest.mark.slow
def test_a_form_that_takes_pixels_has_a_first_layer_of_eight_bits(model, images):
    pixels = replace(model, deployment=Deployment(image="uint8"))
    assert widths_of(allocated(pixels, images, bytes=0.09))[0] == 8


@pytest.mark.slow
def test_bytes_that_are_out_of_reach_are_refused_with_what_is_within(model, images, shares):
    with pytest.raises(RecipeError, match=r"smallest is 0\.\d+ \(\d,\d+ bytes\).*mean cosine") as raised:
        allocated(model, images, bytes=round(shares[2] - 0.002, 4))
    smallest = float(str(raised.value).split("ask for ")[1].split(" ")[0])
    assert shares[2] < smallest < shares[2] + 0.005
    assert np.median(widths_of(allocated(model, images, bytes=smallest))) == 2


def test_the_smallest_file_is_taken_where_the_estimate_says_too_much(model, images, shares, monkeypatch):
    """Sizes of layers are estimates: what alone tells that nothing fits is the smallest file itself."""
    estimated = allocate.ArtifactSize.of_layer
    monkeypatch.setattr(allocate.ArtifactSize, "of_layer", lambda *args: 2 * estimated(*args))
    wanted = shares[2] + 0.005
    found = allocated(model, images, bytes=wanted)
    assert np.median(widths_of(found)) == 2 and file_bytes(found) <= wanted * FLOAT_BYTES


@pytest.mark.slow
def test_a_cosine_is_reached_with_few_bytes(model, images):
    told, wanted = {}, 0.97
    found = allocated(model, images, told, cosine_mean=wanted)
    held_out = images[-8:]
    values = cosines(embed(prepare(found, ONNX), held_out), model.embed(held_out))
    reached = values.mean() - values.std() / np.sqrt(len(values))
    assert wanted - 1e-6 <= reached < 1 - (1 - wanted) / 2.5
    assert told["widths"]["cosine_mean"] == pytest.approx(values.mean(), abs=1e-6)
    same = allocated(model, images, bytes=(file_bytes(found) + spare_bytes(model)) / FLOAT_BYTES + 1e-4)
    assert mean_cosine(same, held_out) < 1 - (1 - wanted) / 3


@pytest.mark.slow
def test_a_cosine_needs_nobody_who_writes_files(model, images):
    plain = allocated(model, images, cosine_mean=0.97, sizes=None)
    assert 2 < np.mean(widths_of(plain)) < 8


def test_a_cosine_that_is_out_of_reach_is_refused_with_what_is_within(model, images):
    with pytest.raises(RecipeError, match=r"0\.9999999 is out of reach: the widest weights allowed reach 0\.\d{4}"):
        allocated(model, images, cosine_mean=0.9999999)


@pytest.mark.slow
def test_losses_are_predicted_where_measuring_takes_too_long(model, images, at, monkeypatch):
    told = {}
    monkeypatch.setattr(allocate, "MEASURING_BUDGET", 1)
    predicted = allocated(model, images, told, bytes=0.1)
    assert told["widths"]["losses"] == "predicted" and told["widths"]["images"] == 64
    monkeypatch.undo()
    measured = at(0.1)
    assert widths_of(predicted) == widths_of(allocated(model, images, bytes=0.1, losses="predicted"))
    ratio = (1 - mean_cosine(predicted, images)) / (1 - mean_cosine(measured, images))
    assert 0.5 < ratio < 2


def test_the_same_job_gives_the_same_widths(model, images, at):
    assert allocated(model, images, bytes=0.1).scheme == at(0.1).scheme


@pytest.mark.parametrize(
    "options",
    [
        {"bytes": 0},
        {"bytes": 1},
        {"bytes": 1.2},
        {"bytes": "0.2"},
        {"cosine_mean": 1.0},
        {"widths": []},
        {"widths": [1]},
        {"widths": [9]},
        {"widths": [4.5]},
        {"bytes": 0.2, "cosine_mean": 0.9},
        {"images": 0},
        {"losses": "guessed"},
    ],
)
def test_wishes_that_make_no_sense_are_refused(options):
    with pytest.raises(ValidationError):
        ALLOCATE.options(**options)


def test_without_a_rounded_layer_there_is_nothing_to_allocate(model, images):
    kept = model.with_kept([node.name for node in rounded_layers(model)])
    with pytest.raises(RecipeError, match="every layer is kept in float"):
        allocated(kept, images, bytes=0.5)
