"""Which tensors and operations are float when layers are kept in float."""

import json

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from odd_networks import CHANNELS, conv, two_convs
from quantized import calibrated, small_model, smooth_images
from tiers import in_tiers
from torch import nn

from qface_toolkit.canonical.graph import operation
from qface_toolkit.errors import ArtifactError
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.quantize.model import description, load_quantized, weights_bytes
from qface_toolkit.quantize.plan import LAYERS, everywhere
from qface_toolkit.quantize.simulation import prepare
from qface_toolkit.quantize.target import ONNX, OPENVINO, TORCH_X86

SIZE = (16, 16)


def quantized(forward, **modules):
    torch.manual_seed(0)
    return calibrated(two_convs(forward, **modules).eval(), SIZE)


def tensors(model):
    return {name for name in model.plan.tensors if model.plan.quantized(name, ONNX)}


def test_a_layer_between_others_reads_codes_and_is_read_as_codes():
    model = quantized(lambda s, x: s.c3(F.relu(s.c2(F.relu(x)))), c3=conv(CHANNELS, CHANNELS))
    kept = model.with_kept(["c2"])
    assert kept.plan.floats == {"c2", "relu_1"}
    assert tensors(kept) == tensors(model)


def test_what_lies_between_two_kept_layers_is_not_rounded():
    model = quantized(lambda s, x: s.c3(F.relu(s.c2(F.relu(x)))), c3=conv(CHANNELS, CHANNELS))
    assert tensors(model) - tensors(model.with_kept(["c2", "c"])) == {"x", "relu"}


def test_a_sum_is_float_while_one_of_its_parts_is():
    model = quantized(lambda s, x: s.c2(x) + x)
    kept = model.with_kept(["c2"])
    assert kept.plan.floats == {"c2", "add", "adaptive_avg_pool2d", "flatten"}
    assert tensors(model) - tensors(kept) == kept.plan.floats - {"flatten"}


def test_a_tensor_is_rounded_for_all_if_one_integer_layer_reads_it():
    """The first layer's output is read by an integer layer, so that the sum has only codes to read."""
    model = quantized(lambda s, x: s.c2(x) + x)
    assert model.with_kept(["c"]).plan.floats == {"c"}
    assert tensors(model) - tensors(model.with_kept(["c"])) == {"x"}


def test_a_shared_module_is_kept_as_one():
    model = quantized(lambda s, x: s.c2(F.relu(s.c2(x))))
    floats = model.with_kept(["c2"]).plan.floats
    assert {node.name for node in model.network.graph.nodes if str(node.target) == "c2"} <= floats


@pytest.mark.parametrize("name", in_tiers(("mobilefacenet", "mobilefacenet-relu6", "iresnet"), fast=["iresnet"]))
def test_all_layers_in_float_are_the_float_network(name):
    model = small_model(name)
    kept = model.with_kept([node.name for node in model.network.graph.nodes if operation(node) in LAYERS])
    images = smooth_images(model.spec.input_size, count=2)
    assert not tensors(kept)
    with torch.no_grad():
        simulated = prepare(kept, ONNX)(torch.from_numpy(images)).numpy()
    for found in (simulated, embed_as_integers(kept, ONNX, images)):
        assert abs(found - model.embed(images)).max() < 1e-4 * abs(found).max()


@pytest.mark.parametrize("target", [TORCH_X86, OPENVINO], ids=lambda target: target.name)
def test_other_targets_do_not_know_of_it(target):
    model = small_model("mobilefacenet")
    kept = model.with_kept([node.name for node in model.network.graph.nodes if operation(node) in LAYERS])
    images = smooth_images(model.spec.input_size, count=2)
    assert (embed_as_integers(kept, target, images) == embed_as_integers(model, target, images)).all()


def saved(model, folder, **changes):
    plain = json.loads(json.dumps(description(model)))
    plain["plan"] |= changes
    files = folder / "quantization.json", folder / "model.safetensors"
    files[0].write_text(json.dumps(plain))
    files[1].write_bytes(weights_bytes(model))
    return files


def test_kept_layers_are_saved_in_their_order(tmp_path):
    model = quantized(lambda s, x: F.relu(s.c2(F.relu(x)))).with_kept(["c2", "c"])
    assert load_quantized(*saved(model, tmp_path)).plan == model.plan
    assert load_quantized(*saved(model, tmp_path)).with_forms({}).plan.kept == ("c2", "c")
    assert "kept" not in description(model.with_kept(()))["plan"]


@pytest.mark.parametrize("kept", [["relu"], ["c2", "c2"], "c2", [["c2"]], None, ["c9"]])
def test_damaged_names_are_refused(kept, tmp_path):
    model = quantized(lambda s, x: F.relu(s.c2(F.relu(x))))
    with pytest.raises(ArtifactError):
        load_quantized(*saved(model, tmp_path, kept=kept))


def test_a_float_prelu_needs_no_room_for_its_input():
    """The scaled form joins two ranges; in float there is but one."""
    model = quantized(lambda s, x: s.a(s.c2(x)), a=nn.PReLU(CHANNELS)).with_forms(everywhere({"a": "scaled"}))
    assert model.plan.spanned("a", ONNX) != ("a",)
    assert model.with_kept(["c2"]).plan.spanned("a", ONNX) == ("a",)
