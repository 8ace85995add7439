"""PReLU in integers: what stock torch gets wrong comes out right, whatever the slopes are."""

import copy
import functools

import pytest
import torch
from odd_networks import ISLAND_NETWORKS, ODD_NETWORKS
from quantized import calibrated, cosines, opened, run, smooth_images, trained
from spelled_networks import SPELLED_NETWORKS
from tiers import in_tiers
from token_networks import TOKEN_NETWORKS
from torch import nn
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

from qface_toolkit.backends import BACKENDS
from qface_toolkit.integer.arithmetic import Sums
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.quantize.simulation import convert, prepare
from qface_toolkit.quantize.target import ONNX, TORCH_QNNPACK, TORCH_X86

SIZE = (16, 16)
EVERY_BACKEND = pytest.mark.parametrize("backend", in_tiers(BACKENDS.names(), fast=["onnx-x86"]))
"""Those that torch must convert run with the slow tests; the small layouts, which have such slopes too, always do."""


def prelu_network(slope, layers=4):
    """Return a chain of convolutions, each with a PReLU of this slope behind it, and a linear layer."""
    torch.manual_seed(0)
    units = [part for i in range(layers) for part in (nn.Conv2d(8 if i else 3, 8, 3, padding=1), nn.PReLU(8, slope))]
    network = nn.Sequential(*units, nn.Flatten(), nn.Linear(2048, 16, bias=False))
    for layer in network[::2][:layers]:
        nn.init.normal_(layer.weight, std=(2 / (9 * layer.in_channels)) ** 0.5 / max(1, abs(slope)))
    return network.eval()


@pytest.mark.filterwarnings("ignore:.*reduce_range will be deprecated:UserWarning")
def test_stock_torch_multiplies_positive_values_by_the_slope_and_ours_does_not():
    network, images = prelu_network(0.25), smooth_images(SIZE, count=8)
    expected = run(network, images)
    torch.backends.quantized.engine = "x86"
    prepared = prepare_fx(copy.deepcopy(network), get_default_qconfig_mapping("x86"), (torch.zeros(1, 3, *SIZE),))
    prepared(torch.from_numpy(images))
    stock = cosines(run(convert_fx(prepared), images), expected).mean()
    ours = cosines(embed_as_integers(calibrated(network, SIZE, images), TORCH_X86, images), expected).mean()
    assert stock < 0.9, f"stock torch has a mean cosine of {stock:.4f}: the fault this file is about is gone"
    assert ours > 0.99, f"mean cosine {ours:.4f} (stock torch: {stock:.4f})"


def check_same(got, model, backend, images):
    """Check that a file gives what its program says: to the bit, but for a runtime that rounds in ways of its own."""
    target = BACKENDS.get(backend).target
    expected = embed_as_integers(model, target, images)
    off = abs(got - expected).max() / abs(expected).max()
    assert off <= (0.01 if target.rounds_kernels else 0), f"off by {off:.2e}"


@functools.cache
def with_slope(slope):
    """Return a network of this slope, images, and its model, calibrated once for all backends."""
    network, images = prelu_network(slope, layers=2), smooth_images(SIZE)
    return network, images, calibrated(network, SIZE, images)


@EVERY_BACKEND
@pytest.mark.parametrize("slope", [3.1, 1.0, 0.25, 1e-30, 0.0, -1e-6, -0.5, -1.0, -1.6])
def test_every_slope_is_exact(slope, backend, tmp_path):
    network, images, model = with_slope(slope)
    got = opened(backend, model, tmp_path)(images)
    check_same(got, model, backend, images)
    agreement = cosines(got, run(network, images)).mean()
    assert agreement > 0.99, f"mean cosine to the float network {agreement:.4f} for slope {slope}"


@functools.cache
def with_tiny_channels(factor):
    """Return a network, images, and its model; BatchNorm leaves some channels weights near zero and ordinary biases."""
    network = nn.Sequential(
        nn.Conv2d(3, 128, 3, padding=1),
        nn.BatchNorm2d(128),
        nn.PReLU(128),
        nn.Conv2d(128, 128, 3, padding=1, groups=128),
        nn.BatchNorm2d(128),
        nn.PReLU(128),
        nn.Conv2d(128, 8, 1, stride=4),
        nn.Flatten(),
        nn.Linear(128, 16),
    )
    trained(network)
    for norm in (network[1], network[4]):
        norm.weight.data[:40] *= factor
    images = smooth_images(SIZE)
    return network, images, calibrated(network, SIZE, images)


@EVERY_BACKEND
@pytest.mark.parametrize("factor", [1e-7, 0.0])
def test_biases_of_tiny_channels_do_not_overflow(factor, backend, tmp_path):
    network, images, model = with_tiny_channels(factor)
    got = opened(backend, model, tmp_path)(images)
    check_same(got, model, backend, images)
    agreement = cosines(got, run(network, images)).min()
    assert agreement > 0.999, f"minimum cosine {agreement:.5f}"


LOWERED = (
    "encoder with normalisation first",
    "attention over channels and pixels",
    "selective kernels",
    "strips",
    "windows",
)
"""Of what is spelled by its parts, the networks whose parts meet in ways that no other network here has."""

SPELLINGS = ODD_NETWORKS | ISLAND_NETWORKS | TOKEN_NETWORKS | {name: SPELLED_NETWORKS[name] for name in LOWERED}

QUICK = (
    "a conv read often",
    "add and prelu",
    "channels picked",
    "concat of relu6 and conv",
    "depthwise with many groups",
    "islands",
    "norm before a padded conv",
    "pad of ones",
    "prelu twice",
    "relu6 behind average",
    "shared modules",
    "steep slopes into two",
    "uneven pad with dilation",
)
"""A few of each kind; that the others compute the same in floats, the tests of `canonical` see in every run."""


@functools.cache
def with_spelling(name):
    """Return images, and the model of an odd network, calibrated once for all backends."""
    images = smooth_images(SIZE)
    return images, calibrated(trained(SPELLINGS[name]), SIZE, images)


@pytest.mark.parametrize("name", in_tiers(SPELLINGS, fast=QUICK))
@EVERY_BACKEND
def test_every_spelling_is_exact(name, backend, tmp_path):
    images, model = with_spelling(name)
    expected = embed_as_integers(model, BACKENDS.get(backend).target, images)
    got = opened(backend, model, tmp_path)(images)
    agreement = cosines(got - expected.mean(), expected - expected.mean()).mean()
    assert agreement > 0.9999, f"{backend}: mean cosine {agreement:.6f} to the integer arithmetic"


def test_simulation_is_close_and_integers_are_exact():
    network, images = prelu_network(0.25), smooth_images(SIZE, count=8)
    model = calibrated(network, SIZE, images)
    simulated = run(prepare(model, ONNX), images)
    agreement = cosines(simulated, embed_as_integers(model, ONNX, images)).mean()
    assert agreement > 0.999, f"mean cosine {agreement:.6f} of fake-quantization to integers"


def test_the_slope_grid_holds_one():
    network = prelu_network(0.25, layers=1)
    model = calibrated(network, SIZE)
    simulation = prepare(model, TORCH_X86)
    run(simulation, smooth_images(SIZE))
    converted = convert(simulation, TORCH_X86, "x86")
    weight = converted.get_submodule("1").weight
    one = torch.quantize_per_tensor(torch.ones(1), weight.q_scale(), weight.q_zero_point(), weight.dtype)
    assert one.dequantize().item() == 1.0
    assert weight.dequantize()[0].item() == pytest.approx(0.25, abs=0.5 / 127)


def test_converting_leaves_engine_and_simulation_alone():
    before = torch.backends.quantized.engine
    simulation = prepare(calibrated(prelu_network(0.25, layers=1), SIZE), TORCH_X86)
    images = smooth_images(SIZE)
    first = run(simulation, images)
    convert(simulation, TORCH_QNNPACK, "qnnpack")
    assert torch.backends.quantized.engine == before
    assert (run(simulation, images) == first).all()


def test_sums_too_large_for_float32_stay_exact(tmp_path):
    """Weights of one sign and 700 inputs reach sums of more than 24 bits."""
    network = nn.Sequential(nn.Conv2d(3, 700, 1), nn.ReLU(), nn.Conv2d(700, 24, 1), nn.Flatten(), nn.Linear(24 * 16, 8))
    for layer in (network[0], network[2]):
        nn.init.uniform_(layer.weight, 0.5, 1.0)
    model = calibrated(network, (4, 4))
    images = smooth_images((4, 4), 8)
    artifact = opened("onnx-x86", model, tmp_path)
    difference = abs(artifact(images) - embed_as_integers(model, ONNX, images)).max()
    assert difference == 0, difference


@pytest.mark.parametrize("largest", [2**10, 2**24 - 2**12, 2**24 - 1, 2**24])
@pytest.mark.parametrize("bias", [0, 3, 2**12 - 1, 2**12, 2**20 + 1])
def test_sums_are_those_of_whole_numbers(largest, bias):
    """Whichever way they are added up, what comes out is the whole number, rounded to float32 once."""
    draw = torch.Generator().manual_seed(largest + bias)
    products = torch.randint(-largest, largest + 1, (2, 3, 50, 50), generator=draw).float()
    products[0, :, 0, :2] = torch.tensor([-largest, largest]).float()
    codes = torch.tensor([-bias, 0, bias]).float().reshape(1, -1, 1, 1)
    one = torch.ones(1)
    sums = Sums(products, codes, codes, one, one, 3)
    expected = (products.to(torch.int64) + codes.to(torch.int64)).double().float()
    assert torch.equal(sums.integer(), expected)
