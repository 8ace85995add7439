"""Loading what training programs really write: wrappers, prefixes, heads, half precision, and overridden facts."""

import hashlib
import io
import zipfile
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from state_dicts import random_state, read_fact

from qface_toolkit.errors import CheckpointError, RecipeError, UnknownName
from qface_toolkit.models import _checkpoint as checkpoint
from qface_toolkit.models import load_model

SHAPES = read_fact("mobilefacenet").shapes


@pytest.fixture(scope="module")
def state():
    return random_state(SHAPES)


@pytest.fixture
def save(tmp_path):
    def save_as(content, name="weights.pth", **options):
        torch.save(content, tmp_path / name, **options)
        return tmp_path / name

    return save_as


def prefixed(prefix, state):
    return {f"{prefix}{key}": tensor for key, tensor in state.items()}


WRAPPINGS = {
    "plain": lambda state: state,
    "ordered": OrderedDict,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state},
    "net_state_dict": lambda state: {"epoch": 68, "net_state_dict": state},
    "arcface_torch": lambda state: {
        "epoch": 1,
        "state_dict_backbone": state,
        "state_dict_softmax_fc": {"weight": torch.zeros(1000, 128)},
        "state_optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
    },
    "data_parallel": lambda state: prefixed("module.", state),
    "lightning": lambda state: {"pytorch-lightning_version": "2.1", "state_dict": prefixed("model.", state)},
    "lightning_parallel": lambda state: {"state_dict": prefixed("model.module.", state)},
    "compiled": lambda state: {"model": {"state_dict": prefixed("_orig_mod.", state)}},
}


def test_says_which_weights_beside_the_backbone_were_left_out(state, save):
    notes = load_model(save(WRAPPINGS["arcface_torch"](state))).notes
    assert "left out the weights beside it: state_dict_softmax_fc" in notes


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_unwraps_what_training_programs_save(wrapping, state, save):
    model = load_model(save(WRAPPINGS[wrapping](state)))
    assert model.spec.name == "mobilefacenet"
    assert not model.network.training
    loaded = model.network.state_dict()
    assert loaded.keys() == state.keys()
    for key, tensor in state.items():
        assert torch.equal(loaded[key], tensor), key


def test_facts_of_the_network_come_along(state, save):
    path = save(state)
    model = load_model(path)
    assert model.spec.input_size == (112, 96)
    assert model.spec.embedding_size == 128
    assert model.spec.mean == (127.5, 127.5, 127.5)
    assert model.spec.std == (128.0, 128.0, 128.0)
    assert model.source_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.notes == ()


def test_reads_the_format_from_before_torch_1_6(state, save):
    model = load_model(save(state, _use_new_zipfile_serialization=False))
    assert torch.equal(model.network.conv1.conv.weight, state["conv1.conv.weight"])


def test_reads_safetensors_and_its_provenance(state, tmp_path):
    save_file(state, tmp_path / "w.safetensors", metadata={"license": "Apache-2.0", "origin": "drawn", "other": "x"})
    model = load_model(tmp_path / "w.safetensors")
    assert (model.spec.license, model.spec.origin) == ("Apache-2.0", "drawn")
    assert torch.equal(model.network.linear1.conv.weight, state["linear1.conv.weight"])


HEADS = {
    "head.weight": (1000, 128),
    "classifier.weight": (1000, 128),
    "classifier.bias": (1000,),
    "head.kernel": (128, 1000),
    "arcface.weight": (1000, 128),
    "softmax_fc.weight": (1000, 128),
    "margin_head.W": (1000, 128),
    "weight": (1000, 128),
}


@pytest.mark.parametrize("head", HEADS)
def test_drops_the_classifier_head_and_says_so(head, state, save):
    model = load_model(save({**state, head: torch.zeros(HEADS[head])}))
    assert model.notes == (f"dropped the classifier head: {head} {list(HEADS[head])}",)


def test_drops_a_head_beside_a_wrapped_backbone(state, save):
    model = load_model(save({"state_dict": {**prefixed("model.", state), "head.kernel": torch.zeros(128, 9)}}))
    assert "dropped the classifier head: head.kernel [128, 9]" in model.notes


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype, state, save):
    converted = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    model = load_model(save(converted))
    assert {parameter.dtype for parameter in model.network.parameters()} == {torch.float32}
    assert torch.equal(model.network.conv1.conv.weight, converted["conv1.conv.weight"].float())
    assert model.notes == (f"converted {str(dtype).removeprefix('torch.')} weights to float32",)


def test_old_batchnorm_without_counters_loads(state, save):
    model = load_model(save({key: tensor for key, tensor in state.items() if "num_batches" not in key}))
    assert model.network.conv1.bn.num_batches_tracked == 0


def test_weights_do_not_share_memory(state, save):
    shared = {**state, "blocks.1.conv.0.weight": state["blocks.2.conv.0.weight"]}
    network = load_model(save(shared)).network
    one, other = network.blocks[1].conv[0].weight, network.blocks[2].conv[0].weight
    assert torch.equal(one, other)
    assert one.data_ptr() != other.data_ptr()


def test_name_forces_the_architecture(state, save):
    path = save(state)
    assert load_model(path, name="mobilefacenet").spec.name == "mobilefacenet"
    with pytest.raises(CheckpointError, match="not that of mobilefacenet-relu6"):
        load_model(path, name="mobilefacenet-relu6")
    with pytest.raises(UnknownName, match="mobilefacenot"):
        load_model(path, name="mobilefacenot")


def test_name_of_a_relative_says_what_it_looks_like(save):
    shapes = read_fact("pocketnet-s-128").shapes
    path = save({key: torch.zeros(shape) for key, shape in shapes.items()})
    with pytest.raises(CheckpointError, match="not that of pocketnet-m-128; it looks like pocketnet-s-128"):
        load_model(path, name="pocketnet-m-128")


def test_overrides_replace_facts(state, save):
    facts = {"mean": 120, "std": [58.395, 57.12, 57.375], "color": "bgr", "license": "MIT", "origin": "here"}
    spec = load_model(save(state), overrides=facts).spec
    assert spec.mean == (120.0, 120.0, 120.0)
    assert spec.std == (58.395, 57.12, 57.375)
    assert (spec.color, spec.license, spec.origin) == ("bgr", "MIT", "here")


def test_wrong_overrides_are_all_listed(state, save):
    facts = {"mean": [1, 2], "std": 0, "color": "grey", "license": 7, "size": 112}
    with pytest.raises(RecipeError) as caught:
        load_model(save(state), overrides=facts)
    for key in facts:
        assert f"model.{key}: " in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, True, "127.5", None, [1, 2, "3"]])
def test_mean_must_be_numbers(value, state, save):
    with pytest.raises(RecipeError, match="model.mean"):
        load_model(save(state), overrides={"mean": value})


def test_demo_is_a_file_of_the_package(state, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_DEMO_FILE", tmp_path / "demo.safetensors")
    with pytest.raises(CheckpointError, match="embedded model"):
        load_model("demo")
    save_file(state, tmp_path / "demo.safetensors")
    assert load_model("demo").spec.name == "mobilefacenet"


def test_missing_keys_are_listed_and_counted(state, save):
    path = save({key: tensor for key, tensor in state.items() if not key.startswith("blocks.3.")})
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    text = str(caught.value)
    assert "mobilefacenet" in text
    assert "17 missing: blocks.3.conv.0.weight" in text
    assert "and 5 more" in text
    assert str(path) in text


def test_unexpected_keys_are_listed(state, save):
    with pytest.raises(CheckpointError, match="1 unexpected: blocks.3.se.weight"):
        load_model(save({**state, "blocks.3.se.weight": torch.zeros(4)}))


def test_wrong_embedding_size_is_listed(state, save):
    with pytest.raises(CheckpointError, match=r"linear1.bn.weight \[64\] instead of \[128\]"):
        load_model(save({**state, "linear1.bn.weight": torch.zeros(64)}))


def test_unknown_network_names_the_closest(save):
    shapes = read_fact("iresnet18").shapes
    strange = {key.replace("prelu", "act"): torch.zeros(shape) for key, shape in shapes.items()}
    strange["fc.weight"] = torch.zeros(512, 1024)
    with pytest.raises(CheckpointError, match="fits no architecture known here; the closest is iresnet18") as caught:
        load_model(save(strange))
    assert "fc.weight [512, 1024] instead of [512, 25088]" in str(caught.value)


def test_nan_weights_are_named(state, save):
    weight = state["conv2.conv.weight"].clone()
    weight[3, 4] = float("nan")
    with pytest.raises(CheckpointError, match="NaN or infinite: conv2.conv.weight, linear1.bn.bias"):
        load_model(save({**state, "conv2.conv.weight": weight, "linear1.bn.bias": torch.full((128,), torch.inf)}))


def test_negative_variances_are_named(state, save):
    with pytest.raises(CheckpointError, match="negative variances: conv1.bn.running_var"):
        load_model(save({**state, "conv1.bn.running_var": torch.full((64,), -1.0)}))


def test_integer_weights_are_named(state, save):
    with pytest.raises(CheckpointError, match="integer weights.*conv1.conv.weight"):
        load_model(save({**state, "conv1.conv.weight": state["conv1.conv.weight"].to(torch.int8)}))


def test_entries_that_are_no_tensors_are_named(state, save):
    with pytest.raises(CheckpointError, match=r"not plain tensors: epoch \(int\)"):
        load_model(save({**state, "epoch": 3}))


@pytest.mark.parametrize("content", [{}, [], 7, {"epoch": 3}, {"state_dict": {}}, torch.zeros(3)])
def test_files_without_a_state_dict_are_refused(content, save):
    with pytest.raises(CheckpointError, match="no state dict"):
        load_model(save(content))


def test_the_same_weights_twice_are_refused(state, save):
    with pytest.raises(CheckpointError, match="with and without 'module.'"):
        load_model(save({**state, "module.conv1.bn.weight": torch.zeros(64)}))


def test_save_by_hand_without_zip_folder_is_no_checkpoint(tmp_path):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("readme.txt", "hello")
    (tmp_path / "w.pt").write_bytes(memory.getvalue())
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_model(tmp_path / "w.pt")
