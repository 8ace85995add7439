"""What papers would count of a network: every parameter once, at the width of its layer."""

import pytest
import torch
from torch import nn

from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.evidence.counted_sizes import counted_sizes
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.model import new_model
from qface_toolkit.quantize.scheme import Scheme, TensorScheme
from qface_toolkit.quantize.target import ONNX, TORCH_X86
from qface_toolkit.result.lowered import Lowered

CONVOLUTION, SLOPES, LINEAR = 8 * 3 * 9 + 8, 8, 4 * 8 + 4
ALL = CONVOLUTION + SLOPES + LINEAR


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.prelu = nn.Conv2d(3, 8, 3), nn.PReLU(8)
        self.pool, self.flatten, self.linear = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)

    def forward(self, images):
        return self.linear(self.flatten(self.pool(self.prelu(self.conv(images)))))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    spec = ModelSpec("net", (16, 16), 4)
    return new_model(canonicalise(Network().eval(), spec.input_size), spec)


def widths(model, default, **layers):
    names = {node.name for node in model.network.graph.nodes}
    assert names >= layers.keys()
    scheme = Scheme(TensorScheme(default, symmetric=True, per="channel"))
    return model.with_scheme(scheme).with_weight_bits(layers)


def test_float_parameters_have_four_bytes(model):
    assert counted_sizes(Lowered(model, {}), None) == {"nominal_bytes": 4 * ALL, "weight_bits_mean": 32}


@pytest.mark.parametrize(("bits", "expected"), [(8, 268), (6, 201), (3, 101), (2, 67)])
def test_every_parameter_has_the_width_of_the_scheme(model, bits, expected):
    assert counted_sizes(Lowered(widths(model, bits), {}), ONNX) == {
        "nominal_bytes": expected,
        "weight_bits_mean": bits,
    }


def test_layers_have_widths_of_their_own(model):
    found = counted_sizes(Lowered(widths(model, 8, conv=4), {}), ONNX)
    assert found["nominal_bytes"] == CONVOLUTION / 2 + SLOPES + LINEAR
    assert found["weight_bits_mean"] == pytest.approx(8 * found["nominal_bytes"] / ALL)


def test_layers_kept_in_float_have_four_bytes_where_they_are_kept(model):
    kept = Lowered(model.with_kept(["linear"]), {})
    assert counted_sizes(kept, ONNX)["nominal_bytes"] == CONVOLUTION + SLOPES + 4 * LINEAR
    assert counted_sizes(kept, TORCH_X86)["nominal_bytes"] == ALL
