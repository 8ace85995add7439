"""Absorbed preprocessing is the same function of the pixels, at the border too, and pixels are their own codes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from quantized import calibrate, run
from torch import nn

from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.canonical.graph import inputs, module
from qface_toolkit.errors import UnsupportedModel
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.image_input import absorb_preprocessing, image_grid, image_inputs, input_convolution
from qface_toolkit.quantize.model import new_model
from qface_toolkit.quantize.scheme import activation_qparams
from qface_toolkit.quantize.target import ONNX, TORCH_X86, Deployment

SIZE = (8, 6)
IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
SPECS = {
    "usual": {},
    "128": {"std": (128.0, 128.0, 128.0)},
    "imagenet": IMAGENET,
    "imagenet bgr": {"mean": IMAGENET["mean"][::-1], "std": IMAGENET["std"][::-1], "color": "bgr"},
    "raw": {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)},
    "bright": {"mean": (250.0, 251.3, 252.0), "std": (10.0, 20.0, 30.0)},
    "far apart": {"mean": (0.0, 128.0, 255.0)},
}


@pytest.fixture(params=SPECS)
def spec(request):
    return ModelSpec("test", SIZE, 4 * 8 * 6, **SPECS[request.param])


def network(**options):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, **options), nn.Flatten()).eval()


def pixels(count=3):
    """Return random pixels, darkest and brightest among them."""
    drawn = np.random.default_rng(0).integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)
    drawn[0, 0, :3], drawn[0, -1, -3:] = 0, 255
    return drawn


def preprocessed(spec, drawn):
    ordered = drawn[..., ::-1] if spec.color == "bgr" else drawn
    scaled = (ordered.astype(np.float64) - spec.mean) / spec.std
    return scaled.transpose(0, 3, 1, 2).astype(np.float32)


def model_of(net, spec, image="uint8"):
    return new_model(canonicalise(net, spec.input_size), spec, Deployment(image=image))


@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_same_function_of_the_pixels_at_the_border_too(spec, bias):
    net, drawn = network(bias=bias), pixels()
    absorbed = absorb_preprocessing(calibrate(model_of(net, spec), preprocessed(spec, drawn)))
    expected = run(net, preprocessed(spec, drawn))
    off = abs(absorbed.embed(image_inputs(spec, drawn)) - expected).max() / max(1.0, abs(expected).max())
    assert off < 1e-4, f"{off:.2e} off"


def test_a_pixel_is_its_own_code(spec):
    net, drawn = network(), pixels()
    absorbed = absorb_preprocessing(calibrate(model_of(net, spec), preprocessed(spec, drawn)))
    entering = inputs(input_convolution(absorbed.network))[0].name
    scale, zero_point = activation_qparams(absorbed.range_of(entering, ONNX))
    grid = image_grid(spec)
    assert (scale, zero_point) == (1, grid.zero_point)
    assert 0 <= zero_point + grid.constant <= 255 and grid.constant != 0
    codes = image_inputs(spec, drawn) + zero_point
    assert np.array_equal(codes[:, :3], drawn.transpose(0, 3, 1, 2))
    assert (codes[:, 3] == zero_point + grid.constant).all()


@pytest.mark.parametrize("name", sorted(SPECS.keys() - {"far apart"}))
def test_no_weight_of_the_fourth_channel_is_the_largest(name):
    spec = ModelSpec("test", SIZE, 4, **SPECS[name])
    weight = module(input_convolution(absorb_preprocessing(_any_ranges(model_of(network(), spec))).network)).weight
    largest = weight.detach().abs().amax(dim=(0, 2, 3))
    assert largest[3] <= largest[:3].max() * 1.0001


def _any_ranges(model):
    return calibrate(model, preprocessed(model.spec, pixels()))


@pytest.mark.parametrize(("spec_name", "expected"), [("usual", (128, 2)), ("imagenet", (116, 21)), ("raw", (0, 1))])
def test_the_grid_comes_from_mean_alone(spec_name, expected):
    grid = image_grid(ModelSpec("test", SIZE, 4, **SPECS[spec_name]))
    assert (grid.zero_point, grid.constant) == expected


def test_the_model_itself_is_left_alone():
    model = _any_ranges(model_of(network(), ModelSpec("test", SIZE, 4 * 8 * 6)))
    before = {key: tensor.clone() for key, tensor in model.network.state_dict().items()}
    absorb_preprocessing(model)
    assert all(torch.equal(before[key], tensor) for key, tensor in model.network.state_dict().items())
    assert module(input_convolution(model.network)).in_channels == 3


def test_a_convolution_of_groups_reads_its_own_colours_alone():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, groups=3), nn.Flatten()).eval()
    spec, drawn = ModelSpec("test", SIZE, 6 * 8 * 6, **SPECS["imagenet bgr"]), pixels()
    absorbed = absorb_preprocessing(_any_ranges(model_of(net, spec)))
    assert abs(absorbed.embed(image_inputs(spec, drawn)) - run(net, preprocessed(spec, drawn))).max() < 1e-4


class TwoReaders(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x):
        return torch.flatten(self.left(x) + self.right(x), 1)


@pytest.mark.parametrize(
    ("net", "named"), [(TwoReaders(), "left.*right"), (nn.Sequential(nn.MaxPool2d(2), nn.Flatten()), "max_pool")]
)
def test_an_input_that_something_else_reads_is_refused(net, named):
    with pytest.raises(UnsupportedModel, match=rf"one convolution[\s\S]*{named}[\s\S]*export.input=float"):
        input_convolution(canonicalise(net.eval(), SIZE))


def test_pixels_come_back_from_inputs(spec):
    every = np.zeros((1, 112, 112, 3), np.uint8)
    every[0, 52:60, 53:59] = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
    for crops in (every, 255 - every):
        assert np.array_equal(spec.pixels_of(spec.preprocess(crops)), spec.middle(crops))


def test_only_onnx_files_take_pixels():
    spec = ModelSpec("test", SIZE, 4 * 8 * 6)
    model, images = _any_ranges(model_of(network(), spec)), preprocessed(spec, pixels())
    absorbed = replace(absorb_preprocessing(model), deployment=Deployment())
    as_pixels = embed_as_integers(absorbed, ONNX, image_inputs(spec, pixels()))
    assert np.array_equal(embed_as_integers(model, ONNX, images), as_pixels)
    as_told = _any_ranges(model_of(network(), spec, "float"))
    as_floats = {one: embed_as_integers(as_told, one, images) for one in (ONNX, TORCH_X86)}
    assert not np.array_equal(as_pixels, as_floats[ONNX]), "the two round alike by chance"
    as_told = _any_ranges(model_of(network(), spec, "uint8"))
    assert np.array_equal(embed_as_integers(as_told, TORCH_X86, images), as_floats[TORCH_X86])
