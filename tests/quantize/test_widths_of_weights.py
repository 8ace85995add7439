"""Weights of any width: scales of the table, codes that fit, and the same answer once weights lie on their codes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from qface_toolkit.quantize.compact import TABLE, places, table_scales
from qface_toolkit.quantize.scheme import SCALE_TABLE, LayerScheme, Scheme, TensorScheme
from qface_toolkit.quantize.target import ONNX, TORCH_FBGEMM, Deployment
from qface_toolkit.quantize.weights import Width, layer_grid

WIDTHS = range(2, 9)


def weight(seed=0, channels=32, inputs=144):
    return torch.randn(channels, inputs, generator=torch.Generator().manual_seed(seed)) * 0.1


def rounded(rows, bits):
    width = Width(bits, compact=True)
    scales = width.scales(rows, torch.full((len(rows),), float(width.largest_code)))
    codes = (rows * (1 / scales[:, None])).round().clamp(-width.largest_code, width.largest_code)
    return codes * scales[:, None], scales


def test_the_table_has_eight_scales_an_octave():
    assert np.all(np.diff(SCALE_TABLE) > 0)
    assert SCALE_TABLE[1:] / SCALE_TABLE[:-1] == pytest.approx(2 ** (1 / 8))
    assert np.all(np.log2(SCALE_TABLE[::8]) == np.arange(-28, 36)), "powers of two are exact"


@given(st.floats(2.0**-27, 8.0, width=32))
def test_the_next_scale_is_no_smaller_and_near(value):
    found = float(TABLE[places(torch.tensor([value]))])
    assert value <= found <= value * 2 ** (1 / 8) * 1.000001


@pytest.mark.parametrize("bits", WIDTHS)
def test_no_scale_of_the_table_rounds_better(bits):
    rows = weight()
    made, scales = rounded(rows, bits)
    if bits == 8:
        assert torch.all(rows.abs().amax(1) <= scales * 127), "eight bits clip nothing"
        return
    errors = (made - rows).pow(2).sum(1)
    largest = 2 ** (bits - 1) - 1
    for scale in TABLE:
        others = ((rows * (1 / scale)).round().clamp(-largest, largest) * scale - rows).pow(2).sum(1)
        assert torch.all(errors <= others * 1.00001)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("seed", range(5))
def test_rounded_weights_round_to_themselves(bits, seed):
    made, _ = rounded(weight(seed), bits)
    again, _ = rounded(made, bits)
    assert torch.equal(again, made)


def test_a_channel_of_zeros_and_a_huge_one_have_scales():
    rows = torch.stack([torch.zeros(9), torch.full((9,), 1e6), torch.full((9,), 1e30)])
    zeros, huge, beyond = table_scales(rows, torch.tensor(7.0), 7)
    assert zeros in TABLE
    assert 7 * huge > 0.95e6, "not clipped"
    assert beyond == TABLE[-1]


@pytest.mark.parametrize("bits", WIDTHS)
def test_codes_fit_their_width(bits):
    layer = nn.Conv2d(8, 4, 3)
    codes = layer_grid(layer, np.float32(0.02), ONNX, Deployment(), Width(bits, bits < 8)).codes(layer.weight)
    assert 2 ** (bits - 2) <= np.abs(codes).max() <= 2 ** (bits - 1) - 1


def test_kernels_that_add_pairs_get_no_larger_codes_than_they_can_add():
    layer = nn.Conv2d(8, 8, 3, groups=8)
    for bits, most in ((8, 63), (7, 63), (4, 7)):
        grid = layer_grid(layer, np.float32(0.02), TORCH_FBGEMM, Deployment(), Width(bits, compact=True))
        assert np.abs(grid.codes(layer.weight)).max() <= most


def test_a_bias_that_no_int32_holds_raises_the_scale_to_one_of_the_table():
    layer = nn.Conv2d(1, 2, 1)
    layer.weight.data.fill_(1e-7)
    layer.bias.data = torch.tensor([0.0, 1e3])
    scales = layer_grid(layer, np.float32(0.01), ONNX, Deployment(), Width(4, compact=True)).scales
    assert scales[1] > scales[0]
    assert set(scales.tolist()) <= set(SCALE_TABLE.tolist())
    assert 1e3 / (0.01 * scales[1]) <= 2**30


SCHEME = Scheme(
    weights=TensorScheme(4, True, "channel"),
    layers=(LayerScheme("conv1*", weights=8), LayerScheme("conv*", weights=6, activations=5)),
)


def test_the_first_match_counts():
    assert [SCHEME.weight_bits(name) for name in ("conv1_a", "conv2", "linear")] == [8, 6, 4]
    assert [SCHEME.activation_bits(name) for name in ("conv1_a", "linear")] == [5, 8]
    assert SCHEME.narrow
    assert not Scheme().narrow


def test_a_scheme_is_compact_with_any_weights_below_eight_bits():
    assert SCHEME.compact
    assert Scheme(layers=(LayerScheme("*", weights=7),)).compact
    assert not Scheme(layers=(LayerScheme("*", activations=4),)).compact


def test_a_scheme_comes_back_from_plain_values():
    assert Scheme.from_plain(SCHEME.as_plain()) == SCHEME
    assert "layers" not in Scheme().as_plain()


@pytest.mark.parametrize(("kind", "bits"), [("weights", 1), ("weights", 9), ("activations", 3), ("activations", 9)])
def test_other_widths_are_refused(kind, bits):
    plain = Scheme().as_plain()
    plain[kind]["bits"] = bits
    with pytest.raises(ValueError, match="are supported"):
        Scheme.from_plain(plain)
    with pytest.raises(ValueError, match="are supported"):
        Scheme.from_plain(Scheme().as_plain() | {"layers": [{"match": "*", kind: bits}]})


@pytest.mark.parametrize(
    "strange",
    [
        {"weights": {"bits": 4.0, "symmetric": True, "per": "channel"}},
        {"weights": {"bits": True, "symmetric": True, "per": "channel"}},
        {"weights": {"bits": 8, "symmetric": False, "per": "channel"}},
        {"activations": {"bits": 8, "symmetric": False, "per": "channel"}},
        {"activations": {"bits": [8], "symmetric": False, "per": "tensor"}},
        {"layers": [{"match": 3, "weights": 4}]},
        {"layers": [{"match": "*", "weights": 1e9}]},
        {"layers": [{"match": "*", "weights": "4"}]},
        {"layers": [{"match": "*", "depth": 4}]},
        {"layers": ["*"]},
        {"layers": {"match": "*"}},
        {"layers": 3},
    ],
)
def test_what_is_no_scheme_is_refused(strange):
    with pytest.raises((ValueError, TypeError)):
        Scheme.from_plain(Scheme().as_plain() | strange)
