"""What wrappers, counters and averages leave in a checkpoint is taken off and named; near misses are said in words."""

import pytest
import torch
from state_dicts import random_state, read_fact
from tiers import in_tiers

from qface_toolkit.errors import CheckpointError
from qface_toolkit.models import load_model

SHAPES = read_fact("mobilefacenet").shapes
IRESNET = read_fact("iresnet18").shapes


@pytest.fixture(scope="module")
def state():
    return random_state(SHAPES)


@pytest.fixture(scope="module")
def iresnet():
    return {key: torch.full(shape, 0.5) for key, shape in IRESNET.items() if not key.endswith("tracked")}


@pytest.fixture
def load(tmp_path):
    def save_and_load(content, **options):
        torch.save(content, tmp_path / "weights.pth")
        return load_model(tmp_path / "weights.pth", **options)

    return save_and_load


def prefixed(prefix, state):
    return {f"{prefix}{key}": tensor for key, tensor in state.items()}


def within(word, state):
    """Put a word behind the first part of each key that has parts enough."""
    parts = (key.split(".") for key in state)
    return {".".join((first, word, *rest)): value for (first, *rest), value in zip(parts, state.values(), strict=True)}


def same_weights(model, state):
    loaded = model.network.state_dict()
    return loaded.keys() == state.keys() and all(torch.equal(loaded[key], state[key]) for key in state)


WORDS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_forward_module", "_checkpoint_wrapped_module")


@pytest.mark.parametrize("word", in_tiers(WORDS, fast=("module", "_orig_mod")))
def test_words_of_wrappers_are_taken_out_wherever_they_stand(word, state, load):
    for wrapped in (prefixed(f"{word}.", state), within(word, state), prefixed("model.", within(word, state))):
        model = load({"state_dict": wrapped})
        assert same_weights(model, state)
        assert f"stripped '{word}.' from the keys" in model.notes


def test_counters_of_a_profiler_are_dropped_and_named(state, load):
    owners = {key.rpartition(".")[0] for key in state} | {""}
    counted = {f"{owner}.total_ops".removeprefix("."): torch.zeros(1, dtype=torch.float64) for owner in owners}
    counted |= {key.replace("total_ops", "total_params"): value for key, value in counted.items()}
    model = load({**state, **counted})
    assert same_weights(model, state)
    assert model.notes == (f"dropped a profiler's counters: total_ops and total_params ({2 * len(owners)} of them)",)


def test_the_count_of_averaged_weights_is_dropped(state, load):
    model = load({**prefixed("module.", state), "n_averaged": torch.tensor(7)})
    assert same_weights(model, state)
    assert "dropped the count of averaged weights: n_averaged" in model.notes


@pytest.mark.parametrize("name", ["ema", "model_ema", "state_dict_ema", "ema_state_dict"])
def test_a_moving_average_is_taken_where_there_is_nothing_else(name, state, load):
    for content in ({name: state, "epoch": 3}, {name: {"module": state}, "optimizer": {"state": {}}}):
        model = load(content)
        assert same_weights(model, state)
        assert "a moving average (EMA)" in model.notes[0]


def test_the_weights_go_before_their_moving_average(state, load):
    average = {key: tensor + 1 for key, tensor in state.items()}
    model = load({"state_dict_ema": average, "state_dict": state, "optimizer": {"state": {0: {"step": 3}}}})
    assert same_weights(model, state)
    assert "took the weights themselves, not their moving average (EMA) beside them: state_dict_ema" in model.notes


def test_a_copy_of_the_network_in_the_same_state_is_left_out(state, load):
    average = {key: tensor + 1 for key, tensor in state.items()}
    content = {**prefixed("online_model.", state), **prefixed("ema_model.", average), "step": torch.tensor(3.0)}
    content.pop("step")
    model = load(content)
    assert same_weights(model, state)
    assert model.notes == ("took the weights under 'online_model'", "left out the same network under ema_model")


@pytest.mark.parametrize("word", ["student", "face_net.inner", "m.a.b"])
def test_any_word_before_all_keys_is_taken_off(word, state, load):
    model = load(prefixed(f"{word}.", state))
    assert same_weights(model, state)
    assert f"took the weights under {word.partition('.')[0]!r}" in model.notes


def test_weights_under_an_unknown_name_are_found(state, load):
    model = load({"epoch": 3, "my_face_net": state, "best": torch.tensor(0.99), "optimizer": {"state": {}}})
    assert same_weights(model, state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_counters_of_another_type_become_whole_numbers(dtype, state, load):
    halved = {key: tensor.to(dtype) for key, tensor in state.items()}
    halved["conv1.bn.num_batches_tracked"] = torch.tensor(70000.0).to(dtype)
    model = load(halved)
    assert "made whole numbers of BatchNorm's counters" in model.notes
    assert model.network.conv1.bn.num_batches_tracked.dtype is torch.int64
    assert torch.equal(model.network.conv1.conv.weight, halved["conv1.conv.weight"].float())


HEADS = {
    "features.module.": "fc.weight",
    "module.features.": "module.fc.weight",
    "features.": "fc.weight",
    "features.module._orig_mod.": "fc.weight",
}


@pytest.mark.parametrize("prefix", in_tiers(HEADS, fast=["features.module."]))
def test_magface_is_told_by_its_keys(prefix, iresnet, load):
    content = {**prefixed(prefix, iresnet), HEADS[prefix]: torch.zeros(512, 200)}
    model = load({"epoch": 25, "arch": "iresnet18", "state_dict": content, "optimizer": {"state": {}}})
    assert model.spec.name == "magface-iresnet18"
    assert (model.spec.color, model.spec.mean[0], model.spec.std[0]) == ("bgr", 0.0, 255.0)
    assert {module.eps for module in model.network.modules() if isinstance(module, torch.nn.BatchNorm2d)} == {2e-5}
    assert "dropped the classifier head: fc.weight [512, 200]" in model.notes


def test_a_classifier_called_as_a_layer_is_left_out_beside_the_backbone(iresnet, load):
    model = load({**prefixed("backbone.", iresnet), "fc.weight": torch.zeros(200, 512)})
    assert model.spec.name == "iresnet18"
    assert "left out what stands outside 'backbone.': fc.weight" in model.notes


def test_a_layer_beside_the_backbone_that_may_count_is_not_left_out(state, load):
    with pytest.raises(CheckpointError, match=r"neck\.weight"):
        load({**prefixed("student.", state), "neck.weight": torch.zeros(128, 128)})


SPELLINGS = {
    "one word": (("prelu.", "act."), ["9 keys have 'act' where 'prelu' is expected"]),
    "a run of words": (
        ("downsample.", "shortcut.path."),
        ["20 keys have 'shortcut.path' where 'downsample' is expected"],
    ),
    "two words": (("layer", "stage"), ["35 keys have 'stage1' where 'layer1' is expected"]),
}


@pytest.mark.parametrize("case", in_tiers(SPELLINGS, fast=["two words"]))
def test_other_words_in_the_keys_are_said_once(case, iresnet, load):
    (ours, theirs), lines = SPELLINGS[case]
    strange = {key.replace(ours, theirs): tensor for key, tensor in iresnet.items()}
    with pytest.raises(CheckpointError, match="the closest is iresnet18, whose keys are spelt otherwise") as caught:
        load(strange)
    text = str(caught.value)
    assert all(line in text for line in lines), text
    assert len(caught.value.what) + len(caught.value.fix) < 600, "the file's own place may be of any length"
    assert same_weights_by_advice(caught.value.fix, strange, iresnet)


def same_weights_by_advice(fix, state, expected):
    """Do what the message says: the Python after its colon."""
    advice = fix.partition("again: ")[2]
    renamed = eval(advice, {"state": state})  # noqa: S307 - our own words
    return renamed.keys() == expected.keys()


def test_what_no_word_explains_is_listed_beside_the_words(iresnet, load):
    strange = {key.replace("prelu.", "act."): tensor for key, tensor in iresnet.items()}
    del strange["bn1.weight"]
    with pytest.raises(CheckpointError, match="1 missing: bn1.weight") as caught:
        load(strange)
    assert "9 keys have 'act' where 'prelu' is expected" in str(caught.value)


def test_a_network_that_was_prepared_for_quantization_is_refused_plainly(state, load):
    for key in ("conv1.activation_post_process.scale", "conv1.conv.weight_fake_quant.zero_point"):
        with pytest.raises(CheckpointError, match="prepared for quantization or is quantized already") as caught:
            load({**state, key: torch.zeros(1)})
        assert len(str(caught.value).splitlines()) <= 3


def test_flat_pieces_of_fsdp_are_refused_plainly(load):
    with pytest.raises(CheckpointError, match="flat pieces"):
        load({"_fsdp_wrapped_module._flat_param": torch.zeros(1000)})


def test_a_maze_of_mappings_ends_soon(load):
    maze = {"w": torch.zeros(1)}
    for _ in range(30):
        maze = {f"k{n}": maze for n in range(40)}
    with pytest.raises(CheckpointError):
        load(maze)


@pytest.mark.slow
def test_facenet_with_its_classifier_is_recognised(load):
    shapes = read_fact("inception-resnet-v1").shapes
    state = {key: torch.ones(shape) for key, shape in shapes.items() if not key.endswith("tracked")}
    model = load({**state, "logits.weight": torch.zeros(8631, 512), "logits.bias": torch.zeros(8631)})
    assert (model.spec.name, model.spec.input_size, model.spec.crop) == ("inception-resnet-v1", (160, 160), "facenet")
    assert (model.spec.mean[0], model.spec.std[0]) == (127.5, 128.0)
    assert model.notes == ("dropped the classifier head: logits.weight [8631, 512], logits.bias [8631]",)


def test_keys_that_two_trainings_share_are_told_of_unless_the_user_knows(load):
    shapes = read_fact("mobilefacenet-evolve").shapes
    state = {key: torch.ones(shape) for key, shape in shapes.items() if not key.endswith("tracked")}
    assert load(state).notes == (
        "took the colours as rgb, as face.evoLVe does; InsightFace_Pytorch has the same keys and takes bgr",
    )
    assert load(state, overrides={"color": "bgr"}).notes == ()
