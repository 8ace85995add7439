"""The OpenVINO form: what stands in it, that the runtime fuses all of it, and what happens without the extra."""

import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from quantized import calibrate, calibrated, cosines, opened, run, small_model, small_network, smooth_images, trained
from tiers import in_tiers
from torch import nn

from qface_toolkit.backends import BACKENDS, _openvino, _openvino_profile
from qface_toolkit.backends._float_files import export_float
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.errors import ArtifactError, BackendUnavailable, QFaceError
from qface_toolkit.integer import _fused
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.model import new_model
from qface_toolkit.quantize.simulation import prepare
from qface_toolkit.quantize.target import OPENVINO

BACKEND = BACKENDS.get("openvino")
SIZE = (16, 16)


@pytest.fixture(scope="module")
def model():
    return small_model("mobilefacenet")


@pytest.fixture(scope="module")
def written(model):
    return onnx.load_from_string(BACKEND.lower(model, {"qface.model": "small"}))


def readers(graph, name):
    """Return the operators that read a tensor."""
    return [node.op_type for node in graph.node if name in node.input]


def test_nothing_is_quantized_between_a_convolution_and_its_activation(written):
    graph = written.graph
    behind = [readers(graph, node.output[0]) for node in graph.node if node.op_type == "Conv"]
    assert behind.count(["PRelu"]) == [node.op_type for node in graph.node].count("PRelu") > 0
    assert {tuple(kinds) for kinds in behind} <= {("PRelu",), ("Add",), ("QuantizeLinear",)}


def test_weights_are_bytes_without_zero_points(written):
    stored = {tensor.name: tensor for tensor in written.graph.initializer}
    of_weights = [node for node in written.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in stored]
    layers = [node for node in written.graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(of_weights) == len(layers)
    assert all(len(node.input) == 2 and stored[node.input[0]].data_type == TensorProto.INT8 for node in of_weights)


def test_names_shapes_and_metadata(written):
    [entering], [leaving] = written.graph.input, written.graph.output
    assert (entering.name, leaving.name) == ("input", "embedding")
    assert entering.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert {entry.key: entry.value for entry in written.metadata_props}["qface.model"] == "small"
    onnx.checker.check_model(written, full_check=True)


@pytest.mark.parametrize(
    "name", in_tiers(("mobilefacenet", "mobilefacenet-relu6", "iresnet", "pocketnet"), fast=["mobilefacenet"])
)
def test_every_layer_runs_on_integers(name, tmp_path):
    opened("openvino", small_model(name), tmp_path)
    fusion = BACKEND.inspect(tmp_path / BACKEND.artifact)
    layers = fusion.convolutions + fusion.linear_layers
    assert len(fusion.convolutions) > 5
    assert not [layer for layer in layers if layer.reason], [layer for layer in layers if layer.reason]
    assert fusion.time_us > 0


def test_a_float_convolution_is_named_with_its_kernel(tmp_path):
    file = tmp_path / "float.onnx"
    network = nn.Sequential(nn.Conv2d(3, 8, 16), nn.ReLU(), nn.Flatten()).eval()
    file.write_bytes(export_float(network, ModelSpec("float", SIZE, 8), {}))
    fusion = BACKEND.inspect(file)
    assert not fusion.quantized
    [layer] = fusion.convolutions
    assert layer.reason
    assert [kind.arithmetic for kind in fusion.kinds() if kind.kind == "Convolution"] == ["float"]


def test_a_convolution_whose_input_is_not_quantized_is_told_from_the_others(model, tmp_path):
    """The first convolution reads the image past its rounding: it alone may run in float."""
    file = onnx.load_from_string(BACKEND.lower(model, {}))
    first = next(node for node in file.graph.node if node.op_type == "Conv")
    first.input[0] = "input"
    path = tmp_path / "cut.onnx"
    path.write_bytes(file.SerializeToString())
    in_float = [layer for layer in BACKEND.inspect(path).convolutions if layer.reason]
    assert [layer.name for layer in in_float] == [first.output[0]]
    assert "OpenVINO runs it in f32" in in_float[0].reason


class Odd(nn.Module):
    """Where the runtime has patterns of its own: pads, averages, sums of floats and codes, factors below zero."""

    def __init__(self):
        super().__init__()
        self.stem, self.act = nn.Conv2d(3, 8, 3, 1, 1), nn.PReLU(8)
        self.norm, self.wide = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, 1, 1)
        self.left, self.right = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.plain, self.fc = nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.Linear(32, 16)

    def forward(self, x):
        x = self.act(self.stem(x))
        x = x + self.wide(self.norm(x))
        x = self.left(x) + self.right(x)
        x = nn.functional.avg_pool2d(self.plain(x), 3, 2, 1)
        return self.fc(torch.flatten(nn.functional.avg_pool2d(x, 4), 1))


@pytest.mark.parametrize("seed", in_tiers(range(4), fast=[0]))
def test_the_file_computes_what_the_program_says(seed, tmp_path):
    torch.manual_seed(seed)
    images = smooth_images(SIZE, count=8, seed=seed)
    model = calibrated(trained(Odd()), SIZE, images)
    got, expected = opened("openvino", model, tmp_path)(images), embed_as_integers(model, OPENVINO, images)
    agreement = cosines(got, expected)
    assert agreement.min() > 0.9999, f"lowest cosine {agreement.min():.6f}"


def test_padding_codes_apart_changes_no_more_than_a_bias_in_another_form(monkeypatch, tmp_path):
    model = small_model("iresnet")
    images = smooth_images(model.spec.input_size)
    apart = embed_as_integers(model, OPENVINO, images)
    pads = [node.op_type for node in onnx.load_from_string(BACKEND.lower(model, {})).graph.node].count("Pad")
    monkeypatch.setattr(_fused, "LARGEST_PADDED", 0)
    within = embed_as_integers(model, OPENVINO, images)
    assert pads > 0
    assert "Pad" not in [node.op_type for node in onnx.load_from_string(BACKEND.lower(model, {})).graph.node]
    agreement = cosines(apart, within)
    assert agreement.min() > 0.9999, f"lowest cosine {agreement.min():.6f}"


def test_fake_quantization_rounds_what_the_file_rounds():
    network, size = small_network("mobilefacenet")
    images = smooth_images(size)
    spec = ModelSpec("test", size, run(network, images[:1]).shape[1])
    model = calibrate(new_model(canonicalise(network, size), spec), images)
    simulated = run(prepare(model, OPENVINO), images)
    expected = embed_as_integers(model, OPENVINO, images)
    agreement = cosines(simulated, expected).mean()
    assert agreement > 0.999, f"mean cosine {agreement:.6f} of fake-quantization to the program"


def test_any_batch_size_gives_the_same_numbers(model, tmp_path):
    embed, images = opened("openvino", model, tmp_path), smooth_images((32, 32), count=7)
    together = embed(images)
    assert (np.concatenate([embed(images[:3]), embed(images[3:4]), embed(images[4:])]) == together).all()
    assert (embed(images[::2]) == together[::2]).all(), "images that do not lie one after the other"


def test_without_the_extra_the_error_names_it(monkeypatch, model, tmp_path):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendUnavailable, match=r"qface_toolkit\[openvino\]"):
        opened("openvino", model, tmp_path)
    with pytest.raises(BackendUnavailable, match=r"qface_toolkit\[openvino\]"):
        BACKEND.inspect(tmp_path / BACKEND.artifact)
    assert BACKEND.lower(model, {}), "writing the file needs no runtime"


@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_a_damaged_file_is_refused_when_inspected(content, tmp_path):
    file = tmp_path / BACKEND.artifact
    file.write_bytes(content)
    with pytest.raises(QFaceError):
        BACKEND.inspect(file)


def test_a_run_that_takes_too_long_ends(monkeypatch, model, tmp_path):
    opened("openvino", model, tmp_path)
    monkeypatch.setattr(_openvino_profile, "LONGEST_RUN_S", 0.0)
    with pytest.raises(ArtifactError, match="takes more than 0 s"):
        BACKEND.inspect(tmp_path / BACKEND.artifact)


@pytest.mark.slow
def test_only_the_last_batch_sizes_are_kept(monkeypatch, model, tmp_path):
    embed, compiled = opened("openvino", model, tmp_path), []
    original = _openvino.compiled

    def counted(artifact, content, batch, threads, **options):
        compiled.append(batch)
        return original(artifact, content, batch, threads, **options)

    monkeypatch.setattr(_openvino, "compiled", counted)
    images = smooth_images((32, 32), count=3)
    for size in (1, 2, 2, 3, 3, 1):
        embed(images[:size])
    assert compiled == [2, 3, 1], "one is there from the start, the last two sizes are kept"
