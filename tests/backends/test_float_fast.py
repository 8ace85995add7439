"""The fast float file: the float network to the last digits, for any batch size, in the runtime's fast layout."""

import platform

import numpy as np
import onnx
import pytest
import torch
from layouts import LAYOUTS
from quantized import QUICK_NETWORKS, SMALL_NETWORKS, cosines, run, small_network, smooth_images, trained
from tiers import in_tiers
from torch import nn

from qface_toolkit.backends._float_files import export_float, export_float_fast, write_float
from qface_toolkit.backends._onnxruntime import open_onnx
from qface_toolkit.backends._profile import inspect_onnx
from qface_toolkit.backends.onnx_qdq._floats import OPERATIONS, scaled_sum
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.canonical.graph import FUNCTIONS, MODULES
from qface_toolkit.canonical.islands import ISLANDS, MOVES
from qface_toolkit.models import ARCHITECTURES, ModelSpec
from qface_toolkit.models.iresnet import IResNetPlan
from qface_toolkit.sources import load_crops
from qface_toolkit.sources._sets import find_set

REGISTERED = in_tiers(LAYOUTS, fast=["mobilefacenet"])


def written(network, size, folder, facts=None):
    """Write the fast file of a network and open it; return what runs it, and the file."""
    spec = ModelSpec("test", size, run(network, smooth_images(size, count=1)).shape[1])
    file = folder / "float.fast.onnx"
    file.write_bytes(export_float_fast(canonicalise(network, size), spec, facts or {}))
    return open_onnx(file, threads=1), file


def check_same(network, size, folder):
    images = smooth_images(size, count=3)
    expected, got = run(network, images), written(network, size, folder)[0](images)
    error = abs(got - expected).max() / abs(expected).max()
    assert error < 1e-5, f"off by {error:.2e} of the largest number"


@pytest.mark.parametrize("name", in_tiers(SMALL_NETWORKS, fast=QUICK_NETWORKS))
def test_every_layout_computes_the_same(name, tmp_path):
    check_same(*small_network(name), tmp_path)


class Everything(nn.Module):
    """One of each operation, with PReLUs behind a convolution, a sum, a concatenation and the images themselves."""

    def __init__(self):
        super().__init__()
        self.first, self.stem, self.after_stem = nn.PReLU(3), nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.PReLU(16)
        self.side, self.after_sum = nn.Conv2d(16, 16, 3, 1, 2, dilation=2, groups=4), nn.PReLU(16)
        self.after_concat, self.norm, self.last = nn.PReLU(32), nn.BatchNorm2d(32), nn.Conv2d(32, 16, (1, 3), padding=1)
        self.max, self.mean = nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.AvgPool2d(2, 2, 1)
        self.one, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(16, 8)

    def forward(self, x):
        x = self.after_stem(self.stem(self.first(x)))
        x = self.after_concat(torch.cat([self.after_sum(self.side(x) + x), nn.functional.relu6(x)], 1))
        x = nn.functional.relu(self.last(self.norm(self.mean(self.max(x)))))
        return self.fc(torch.flatten(self.one(x), 1))


def test_every_operation_computes_the_same(tmp_path):
    check_same(trained(Everything()), (32, 32), tmp_path)


class Gated(nn.Module):
    """SiLU, hard-swish, a gate for each channel with a PReLU inside, and an embedding of unit length."""

    def __init__(self):
        super().__init__()
        self.stem, self.gate, self.act = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 1), nn.PReLU(16)
        self.fc = nn.Linear(16, 8)

    def forward(self, x):
        x = nn.functional.hardswish(nn.functional.silu(self.stem(x)))
        x = x * torch.sigmoid(self.act(self.gate(nn.functional.adaptive_avg_pool2d(x, 1))))
        return nn.functional.normalize(self.fc(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)))


def test_gates_and_unit_length_compute_the_same(tmp_path):
    check_same(trained(Gated()), (32, 32), tmp_path)


def test_an_embedding_of_zeros_is_not_divided_by_zero(tmp_path):
    network = trained(Gated())
    network.fc = nn.Linear(16, 8, bias=False)
    nn.init.zeros_(network.fc.weight)
    assert not written(network, (32, 32), tmp_path)[0](smooth_images((32, 32))).any()


@pytest.mark.parametrize("name", REGISTERED)
def test_agrees_with_the_float_reference(name, tmp_path):
    torch.manual_seed(0)
    plan = ARCHITECTURES.get(name).published
    network, size = trained(plan.build()), plan.input_size
    fast, _ = written(network, size, tmp_path)
    (tmp_path / "float.onnx").write_bytes(export_float(network, ModelSpec(name, size, plan.embedding_size), {}))
    reference = open_onnx(tmp_path / "float.onnx", threads=1)
    noise = np.random.default_rng(0).standard_normal((2, 3, *size)).astype(np.float32)
    for images in (noise, drawings(size)):
        lowest = cosines(fast(images), reference(images)).min()
        assert lowest >= 1 - 1e-6, f"1 - cosine is {1 - lowest:.1e}"


def drawings(size):
    """Return two drawn faces, cut or bordered to the size of a network's input."""
    crops = load_crops(find_set("drawings").open(count=2)).astype(np.float32)
    more = [(0, max(0, side - 112)) for side in size]
    crops = np.pad(crops, ((0, 0), *more, (0, 0)), mode="edge")[:, : size[0], : size[1]]
    return np.ascontiguousarray(((crops - 127.5) / 127.5).transpose(0, 3, 1, 2))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the runtime blocks channels on x86 alone")
def test_everything_stays_in_the_fast_layout(tmp_path):
    network = trained(IResNetPlan((1, 2, 1, 1), (16, 16, 32, 32), 16, 16, grid=(2, 2)).build())
    _, file = written(network, (32, 32), tmp_path)
    counts = [
        sum(isinstance(module, kind) for module in canonicalise(network, (32, 32)).modules())
        for kind in (nn.Conv2d, nn.PReLU)
    ]
    operators = inspect_onnx(file).counts
    # Both products of each PReLU are convolutions, and the ReLU and the sums are fused into them.
    expected = {"Conv": counts[0] + 2 * counts[1], "ReorderOutput": 1, "Flatten": 1, "Gemm": 1}
    assert operators == expected, f"ONNX Runtime made of it: {dict(operators)}"


def test_a_scale_before_a_prelu_is_part_of_it(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.BatchNorm2d(16), nn.PReLU(16), nn.Conv2d(16, 8, 30))
    network = trained(nn.Sequential(network, nn.Flatten()))
    model = write_float(canonicalise(network, (32, 32)), ModelSpec("test", (32, 32), 8))
    kinds = [node.op_type for node in model.graph.node]
    assert kinds == ["Conv", "Relu", "Conv", "Conv", "Relu", "Add", "Conv", "Flatten"]
    check_same(network, (32, 32), tmp_path)


def test_another_spelling_of_prelu_can_be_tried():
    network, size = small_network("mobilefacenet")

    def as_it_is(writer, node):
        slopes = writer.graph.constant(writer.slopes(node).reshape(-1, 1, 1), np.float32)
        return writer.graph.node("PRelu", [writer.read(node), slopes])

    canonical, spec = canonicalise(network, size), ModelSpec("test", size, 16)
    models = [write_float(canonical, spec, form) for form in (as_it_is, scaled_sum)]
    assert ["PRelu" in {node.op_type for node in model.graph.node} for model in models] == [True, False]


def test_names_shapes_metadata_and_the_same_bytes_each_time(tmp_path):
    network, size = small_network("iresnet")
    content = written(network, size, tmp_path, {"fact": "value"})[1].read_bytes()
    model = onnx.load_from_string(content)
    [entering], [leaving] = model.graph.input, model.graph.output
    shapes = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in (entering, leaving)
    ]
    assert (entering.name, leaving.name) == ("input", "embedding")
    assert shapes == [["batch", 3, 32, 32], ["batch", 16]]
    assert {entry.key: entry.value for entry in model.metadata_props} == {"fact": "value"}
    assert not {"PRelu", "BatchNormalization"} & {node.op_type for node in model.graph.node}
    assert written(network, size, tmp_path, {"fact": "value"})[1].read_bytes() == content


def test_every_canonical_operation_can_be_written():
    kinds = {*ISLANDS, *MOVES, *MODULES, *FUNCTIONS} - {"island", "move"}
    assert kinds <= set(OPERATIONS)
