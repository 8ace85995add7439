"""ONNX files as people hold them become networks that compute the same, for any batch size."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from layouts import LAYOUTS
from onnx import numpy_helper
from onnx_files import GIVEN, RELATIVE, assert_same, build, export, functions, node, original, pictures, write
from state_dicts import random_state
from tiers import in_tiers, named_in_tiers
from torch import nn

from qface_toolkit.backends._float_files import export_float
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.errors import CheckpointError
from qface_toolkit.models import ARCHITECTURES, ModelSpec, load_model
from qface_toolkit.models._match import needed_shapes
from qface_toolkit.models.iresnet import IResNetPlan

SHARED = Path(__file__).parents[3] / "shared"
ONLY_BY_KEYS = ("adaface", "edgeface", "ghost", "inception", "ir5", "ir1", "irse", "magface", "mobilefacenet-evolve")
"""Their graphs are other networks' too, or are not told from graphs: whoever has such a file gives the facts."""
OPSETS = (9, 11, 13, 17)
EXPORTS = named_in_tiers(
    {f"{opset} {way}": (opset, way == "folded") for opset in OPSETS for way in ("folded", "as traced")},
    fast=["17 folded"],
)
"""Opset, and whether the exporter computes constants ahead."""


def randomised(network):
    network.load_state_dict(random_state({key: tuple(t.shape) for key, t in network.state_dict().items()}))
    return network.eval()


def assert_canonical(model):
    """Assert that the rest of the pipeline takes an imported network."""
    images = torch.from_numpy(pictures(model.spec.input_size, 2))
    with torch.no_grad():
        expected, found = model.network(images), canonicalise(model.network, model.spec.input_size)(images)
    off = float((found - expected).abs().max() / expected.abs().max())
    assert off < RELATIVE, f"the canonical form is off by {off:.2e}"


class Everything(nn.Module):
    """What small face networks are made of, with a tail that the test chooses."""

    def __init__(self, tail):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.PReLU(8))
        self.before = nn.BatchNorm2d(8)
        self.one = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU6(), nn.Conv2d(8, 8, 1), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(8, 8, 1), nn.LeakyReLU(0.1), nn.MaxPool2d(3, 2, 1))
        self.three = nn.Sequential(nn.Conv2d(8, 8, 1), nn.AvgPool2d(2))
        self.last = nn.BatchNorm2d(16)
        self.linear = nn.Linear(16 * 4, 6)
        self.norm = nn.BatchNorm1d(6)
        self.tail = tail

    def forward(self, x):
        x = self.stem(x)
        x = x + self.one(self.before(x))
        x = torch.cat([self.two(x), self.three(x)], 1)
        return self.tail(self, self.last(x))


TAILS = {
    "flatten": lambda net, x: net.norm(net.linear(torch.flatten(x, 1))),
    "view by size": lambda net, x: net.norm(net.linear(x.view(x.size(0), -1))),
    "view by sizes": lambda net, x: net.linear(x.reshape(x.size(0), x.size(1) * x.size(2) * x.size(3))),
    "view by minus one": lambda net, x: net.linear(x.view(-1, 64)),
    "channels last": lambda net, x: net.norm(net.linear(x.permute(0, 2, 3, 1).flatten(1))),
    "normalize": lambda net, x: F.normalize(net.linear(torch.flatten(x, 1))),
    "norm and divide": lambda net, x: (lambda y: y.div(torch.norm(y, 2, 1, True)))(net.linear(torch.flatten(x, 1))),
    "mean": lambda _, x: x.mean([2, 3]),
    "pool and squeeze": lambda _, x: F.adaptive_avg_pool2d(x, 1).squeeze(3).squeeze(2),
    "dropout": lambda net, x: net.linear(F.dropout(torch.flatten(x, 1), training=False)),
    "matmul": lambda net, x: torch.flatten(x, 1) @ net.linear.weight.t() + net.linear.bias,
}


@pytest.mark.parametrize(("opset", "folded"), EXPORTS)
@pytest.mark.parametrize("tail", TAILS)
def test_torch_exports_compute_the_same(tail, opset, folded, tmp_path):
    network = randomised(Everything(TAILS[tail]))
    path = write(tmp_path / "net.onnx", export(network, (8, 8), opset=opset, do_constant_folding=folded))
    model = load_model(path, overrides=GIVEN)
    assert_same(path, model)
    if opset == max(OPSETS):
        assert_canonical(model)
    assert set(functions(model)) <= {
        "Conv2d",
        "BatchNorm2d",
        "BatchNorm1d",
        "PReLU",
        "ReLU6",
        "ReLU",
        "LeakyReLU",
        "MaxPool2d",
        "AvgPool2d",
        "Linear",
        "AdaptiveAvgPool2d",
        "add",
        "cat",
        "flatten",
        "normalize",
    }, functions(model)


@pytest.mark.parametrize("opset", [9, 17])
@pytest.mark.parametrize("tail", ["flatten", "view by size", "channels last", "pool and squeeze"])
def test_a_file_for_one_image_takes_any_number(tail, opset, tmp_path):
    path = write(tmp_path / "net.onnx", export(randomised(Everything(TAILS[tail])), (8, 8), opset=opset, batch=None))
    assert_same(path, load_model(path, overrides=GIVEN))


class Modern(nn.Module):
    """Gates, swishes and borders."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 1, 0)
        self.squeeze, self.excite = nn.Linear(8, 4), nn.Linear(4, 8)
        self.acts = nn.Sequential(nn.SiLU(), nn.Hardswish(), nn.Hardsigmoid())
        self.linear = nn.Linear(8, 4)

    def forward(self, x):
        x = self.acts(self.conv(F.pad((x - 0.5) * 2, (1, 2, 1, 0))))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean([2, 3]))))).unsqueeze(-1).unsqueeze(-1)
        return self.linear(F.avg_pool2d(x * gate / 3, (7, 10)).flatten(1))


@pytest.mark.parametrize(("opset", "folded"), EXPORTS)
def test_gates_and_swishes_compute_the_same(opset, folded, tmp_path):
    path = write(tmp_path / "net.onnx", export(randomised(Modern()), (8, 9), opset=opset, do_constant_folding=folded))
    model = load_model(path, overrides=GIVEN)
    assert_same(path, model)
    assert {"SiLU", "Hardswish", "Hardsigmoid", "pad", "mul", "truediv"} <= set(functions(model))
    assert_canonical(model)
    assert any("subtracts and multiplies constants first: it may expect plain pixels" in note for note in model.notes)


@pytest.mark.parametrize("name", in_tiers(LAYOUTS, fast=["mobilefacenet"]))
def test_our_own_exports_come_back(name, tmp_path):
    plan = ARCHITECTURES.get(name).published
    network = plan.build().eval()
    network.load_state_dict(random_state(needed_shapes(plan)))
    path = write(
        tmp_path / "net.onnx", export_float(network, ModelSpec(name, plan.input_size, plan.embedding_size), {})
    )
    told = not name.startswith(ONLY_BY_KEYS)
    facts = {} if told else {key: getattr(ARCHITECTURES.get(name), key) for key in ("mean", "std", "color")}
    model = load_model(path, overrides=facts)
    assert (model.spec.input_size, model.spec.embedding_size) == (plan.input_size, plan.embedding_size)
    assert (model.spec.mean, model.spec.std) == (ARCHITECTURES.get(name).mean, ARCHITECTURES.get(name).std)
    assert not told or (model.spec.name == name and f"recognised as {name}, layer for layer" in model.notes)
    assert_same(path, model, counts=(2,))
    assert_canonical(model)


def insightface_like(tmp_path, **options):
    """Write a file as insightface's packs are: arithmetic on the image, batch 'None', BatchNorm kept, opset 11."""
    network = randomised(IResNetPlan((1, 1, 1, 1), (8, 8, 16, 16), 8, 16, grid=(2, 2)).build())
    data = export(
        network, (32, 32), opset=11, batch="None", names=("input.1", "embedding"), do_constant_folding=False, **options
    )
    model = onnx.load_from_string(data)
    for name, value in (("mean", 127.5), ("scale", 1 / 127.5)):
        model.graph.initializer.append(numpy_helper.from_array(np.full((1,), value, np.float32), name))
    for one in model.graph.node:
        one.input[:] = ["prepared" if name == "input.1" else name for name in one.input]
    model.graph.node.insert(0, onnx.helper.make_node("Mul", ["shifted", "scale"], ["prepared"]))
    model.graph.node.insert(0, onnx.helper.make_node("Sub", ["input.1", "mean"], ["shifted"]))
    return write(tmp_path / "w600k_small.onnx", model)


def test_a_file_like_insightfaces_computes_the_same(tmp_path):
    path = insightface_like(tmp_path)
    model = load_model(path, overrides={"mean": 0, "std": 1, "color": "rgb"})
    assert_same(path, model)
    assert functions(model)[:2] == ["sub", "mul"]
    assert functions(model)[-2:] == ["Linear", "BatchNorm1d"]
    assert (model.spec.name, model.spec.embedding_size) == ("w600k_small", 16)
    assert model.notes[0].startswith("ONNX opset 11, written by pytorch 2.")
    assert "the graph itself subtracts and multiplies constants first: it may expect plain pixels 0..255" in model.notes
    assert model.notes[-1] == "preprocessing (mean, std, color): given"
    with pytest.raises(CheckpointError, match="missing: mean, std, color"):
        load_model(path)


def test_weights_may_be_listed_as_inputs(tmp_path):
    network = randomised(Everything(TAILS["flatten"]))
    data = export(network, (8, 8), opset=9, keep_initializers_as_inputs=True)
    assert len(onnx.load_from_string(data).graph.input) > 1
    path = write(tmp_path / "net.onnx", data)
    assert_same(path, load_model(path, overrides=GIVEN))


def test_half_precision_becomes_single(tmp_path):
    weight = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float16)
    model = build([node("Conv", "x w", "c"), node("Flatten", "c", "y")], {"w": weight}, kind=onnx.TensorProto.FLOAT16)
    path = write(tmp_path / "net.onnx", model)
    loaded = load_model(path, overrides=GIVEN)
    assert loaded.network.the_Conv.weight.dtype is torch.float32
    assert "converted float16 weights to float32" in loaded.notes
    assert_same(path, loaded, most=2e-3)  # ONNX Runtime computes in half precision, we do not
    single = build([node("Conv", "x w", "c"), node("Flatten", "c", "y")], {"w": weight.astype(np.float32)})
    assert_same(write(tmp_path / "single.onnx", single), loaded)


@pytest.mark.shared
def test_the_real_file_is_its_checkpoints_twin():
    path = SHARED / "models" / "mobilefacenet_relu6_112.onnx"
    model, twin = load_model(path), load_model(SHARED / "models" / "mobilefacenet_relu6_112.pt")
    assert model.spec == twin.spec
    assert model.source_sha256.startswith("e72a5710cce378dc")
    assert model.notes[:2] == (
        "ONNX opset 11, written by pytorch 2.2.2",
        "recognised as mobilefacenet-relu6, layer for layer",
    )
    assert_same(path, model)
    images = torch.from_numpy(pictures((112, 112), 4))
    with torch.no_grad():
        expected = twin.network(images)
        off = float((model.network(images) - expected).abs().max())
        canonical = float((canonicalise(model.network, (112, 112))(images) - expected).abs().max())
    assert max(off, canonical) < 1e-4, f"off by {off:.2e}, in canonical form by {canonical:.2e}"
    assert json.dumps(original(path, images.numpy()).shape) == "[4, 128]"
