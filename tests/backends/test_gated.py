"""Blocks that face networks are made of, with gates and unit-length tails, in every artifact and on integers."""

import functools
import itertools

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from quantized import calibrated, cosines, opened, run, smooth_images, trained
from tiers import in_tiers
from torch import nn

from qface_toolkit.backends import BACKENDS
from qface_toolkit.canonical.graph import operation
from qface_toolkit.integer.simulate import embed_as_integers

SIZE = (24, 20)
"""Neither side nor channel count fills a vector register: kernels have other code for the rest."""


class Excitation(nn.Module):
    """Squeeze and excitation, by linear layers."""

    def __init__(self, channels):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, 4, bias=False), nn.ReLU(inplace=True), nn.Linear(4, channels), nn.Sigmoid()
        )

    def forward(self, x):
        batch, channels, _, _ = x.size()
        gate = self.fc(F.adaptive_avg_pool2d(x, 1).view(batch, channels)).view(batch, channels, 1, 1)
        return x * gate.expand_as(x)


class Block(nn.Module):
    """An inverted bottleneck with a residual, as MobileFaceNet has."""

    def __init__(self, channels, activation, excitation):
        super().__init__()
        wide = 3 * channels
        self.layers = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            activation(),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            activation(),
            excitation(wide),
            nn.Conv2d(wide, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x):
        return x + self.layers(x)


class Face(nn.Module):
    """A stem, two blocks, a global depthwise convolution and a linear layer with BatchNorm."""

    def __init__(self, activation, excitation=lambda channels: nn.Identity(), tail=lambda x: x):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 13, 3, 2, 1, bias=False), nn.BatchNorm2d(13), activation())
        self.blocks = nn.Sequential(*(Block(13, activation, excitation) for _ in range(2)))
        self.pool = nn.Conv2d(13, 13, (12, 10), groups=13, bias=False)
        self.fc, self.norm = nn.Linear(13, 10, bias=False), nn.BatchNorm1d(10)
        self.tail = tail

    def forward(self, x):
        x = self.pool(self.blocks(self.stem(x)))
        return self.tail(self.norm(self.fc(x.view(x.size(0), -1))))


class Scaled(Face):
    """The images preprocessed inside, residuals scaled, and an embedding of unit length."""

    def forward(self, x):
        x = self.stem((x * 127.5 + 127.5 - 127.5) * 0.0078125)
        for block in self.blocks:
            x = block.layers(x) * 0.17 + x
        x = F.pad(x, (1, 0, 0, 1))[:, :, 1:, :-1]
        embedding = self.norm(self.fc(self.pool(x).flatten(1)))
        return embedding / embedding.norm(p=2, dim=1, keepdim=True)


NETWORKS = {
    "silu": lambda: Face(nn.SiLU),
    "hard swish": lambda: Face(nn.Hardswish),
    "excitation": lambda: Face(nn.ReLU, Excitation),
    "prelu and excitation": lambda: Face(nn.PReLU, Excitation),
    "hard swish and excitation": lambda: Face(nn.Hardswish, Excitation, F.normalize),
    "constants and unit length": lambda: Scaled(nn.ReLU6),
}
FLOAT_TAIL = {"ReduceL2": 1, "Max": 1, "Div": 1}
"""What may work in float: behind the last layer, which makes the embedding."""


@functools.cache
def built(name):
    """Return a network, images, and its model, calibrated once for all backends."""
    torch.manual_seed(0)
    network, images = trained(NETWORKS[name]()), smooth_images(SIZE)
    return network, images, calibrated(network, SIZE, images)


CASES = list(itertools.product(NETWORKS, BACKENDS.names()))
QUICK = [
    ("hard swish and excitation", "onnx-x86"),
    ("prelu and excitation", "onnx-x86"),
    ("constants and unit length", "onnx-packed-arm"),
]
"""What other backends make of gates, and torch, which converts slowly, is for the slow tests."""


@pytest.mark.parametrize(("name", "backend"), in_tiers(CASES, fast=QUICK))
def test_an_artifact_computes_what_its_ranges_say(name, backend, tmp_path):
    network, images, model = built(name)
    got = opened(backend, model, tmp_path)(images)
    expected = embed_as_integers(model, BACKENDS.get(backend).target, images)
    agreement = cosines(got, expected)
    assert agreement.min() > 0.9999, f"lowest cosine {agreement.min():.6f} to the integer arithmetic"
    agreement = cosines(got, run(network, images))
    assert agreement.mean() > 0.97, f"mean cosine {agreement.mean():.5f} to the float network"


@pytest.mark.parametrize("name", in_tiers(NETWORKS, fast={name for name, _ in QUICK}))
def test_onnx_runtime_runs_all_of_it_as_integers(name, tmp_path):
    _, _, model = built(name)
    opened("onnx-x86", model, tmp_path)
    operators = dict(BACKENDS.get("onnx-x86").inspect(tmp_path / "int8.x86.onnx").counts)
    found = [operation(node) for node in model.network.graph.nodes]
    convolutions = found.count("conv") + found.count("prelu") + found.count("hard_sigmoid")
    tail = FLOAT_TAIL if found.count("normalize") else {}
    assert operators.pop("QLinearConv") == convolutions
    assert operators.pop("QGemm") == found.count("linear")
    assert operators.pop("QLinearMul", 0) == found.count("mul")
    assert operators.pop("QLinearSigmoid", 0) == found.count("sigmoid")
    assert operators.pop("QLinearAdd", 0) == found.count("add")
    assert operators.pop("QLinearGlobalAveragePool", 0) == found.count("global_average_pool")
    assert operators.pop("QuantizeLinear") == 1, "only the input is quantized"
    assert {kind: operators.pop(kind, 0) for kind in tail if kind != "Max"} == {k: 1 for k in tail if k != "Max"}
    maxima = found.count("prelu") + bool(found.count("normalize") and name != "constants and unit length")
    assert operators.pop("Max", 0) == maxima
    assert not set(operators) - {"Transpose", "Flatten", "Reshape", "Pad"}, f"left: {operators}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["silu", "hard swish and excitation"])
def test_torch_multiplies_codes_and_computes_gates_in_float_islands(name, tmp_path):
    _, _, model = built(name)
    opened("torch-x86", model, tmp_path)
    operators = BACKENDS.get("torch-x86").inspect(tmp_path / "int8.x86.ts").counts
    found = [operation(node) for node in model.network.graph.nodes]
    assert operators["quantized::mul"] == found.count("mul")
    gates = found.count("sigmoid") + found.count("hard_sigmoid")
    assert operators["aten::sigmoid"] + operators["aten::hardsigmoid"] == gates
    assert operators["aten::quantize_per_tensor"] == gates + 1
    assert not {"aten::mul", "aten::conv2d", "aten::linear"} & set(operators)


@pytest.mark.parametrize(
    ("backend", "islands"),
    in_tiers([("onnx-x86", set()), ("torch-x86", {"aten::sigmoid", "aten::hardsigmoid"})], fast=[("onnx-x86", set())]),
)
def test_inspection_names_the_gates_that_are_float_and_lets_the_tail_be(backend, islands, tmp_path):
    _, _, model = built("hard swish and excitation")
    opened(backend, model, tmp_path)
    fusion = BACKENDS.get(backend).inspect(tmp_path / BACKENDS.get(backend).artifact)
    assert {kind for island in fusion.islands for kind in island.kinds} == islands
    assert all(layer.reason is None for layer in fusion.convolutions), "a convolution runs in float"
    assert any(island.of_embedding for island in fusion.all_islands), "the unit length is made in float"
