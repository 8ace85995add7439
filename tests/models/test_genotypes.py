"""PocketNets of other cells: read from a YAML file, told apart by name, and brought back from a file of weights."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import fx

from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.errors import CheckpointError, RecipeError
from qface_toolkit.models import build_student, load_model, open_student, student_bytes, student_metadata
from qface_toolkit.models._genotype import GENOTYPE_KEY, NORMAL, OPERATIONS, REDUCE, genotype_text, parse_genotype
from qface_toolkit.models.pocketnet import _OPERATIONS, PocketNetPlan

OTHER = """\
family: pocketnet
width: 4
cells: 5
embedding_size: 32
head: 16
normal: [[[dw_conv_3x3, 0], [avg_pool_3x3, 1]], [[skip_connect, 2], [dw_conv_5x5, 0]],
  [[max_pool_3x3, 3], [dw_conv_3x3, 0]], [[dw_conv_1x1, 4], [skip_connect, 1]]]
reduce: [[[avg_pool_3x3, 1], [dw_conv_7x7, 0]], [[skip_connect, 0], [dw_conv_5x5, 1]],
  [[max_pool_3x3, 0], [skip_connect, 2]], [[avg_pool_3x3, 3], [max_pool_3x3, 1]]]
"""
MOVED = OTHER.replace("[dw_conv_1x1, 4], [skip_connect, 1]", "[dw_conv_1x1, 3], [skip_connect, 2]")
"""The same operations on other inputs, which keys and shapes do not show."""


def written(tmp_path, text, name="cells.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return str(path)


@pytest.fixture
def other(tmp_path):
    return open_student(written(tmp_path, OTHER))


def rows(model):
    images = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return model.network.eval()(images)


def test_the_schema_knows_the_operations_that_are_built():
    assert {*OPERATIONS} == _OPERATIONS.keys()


def test_a_file_may_say_the_published_network(tmp_path):
    model = open_student(written(tmp_path, "family: pocketnet\nwidth: 32\ncells: 9\n", "m.yml"))
    assert model.spec == build_student("pocketnet-m-128").spec
    assert GENOTYPE_KEY not in student_metadata(model)
    assert parse_genotype(genotype_text(NORMAL, REDUCE)) == (NORMAL, REDUCE)


def test_other_cells_have_a_name_of_their_own(other, tmp_path):
    moved = open_student(written(tmp_path, MOVED))
    names = [model.spec.name for model in (other, moved)]
    assert all(name.startswith("pocketnet-4x5-32-") and len(name) == len("pocketnet-4x5-32-") + 8 for name in names)
    assert names[0] != names[1]
    assert other.spec.mean == (127.5, 127.5, 127.5)


def test_width_and_embedding_change_a_files_network(tmp_path):
    model = open_student(written(tmp_path, OTHER), width=2, embedding_size=64)
    assert model.spec.name.startswith("pocketnet-8x5-64-")
    assert model.network.plan.head == 32
    assert rows(model).shape == (2, 64)


@pytest.mark.parametrize("text", [OTHER, MOVED])
def test_other_cells_come_back_from_their_file(text, tmp_path):
    model = open_student(written(tmp_path, text), overrides={"color": "bgr"})
    path = tmp_path / "w.safetensors"
    path.write_bytes(student_bytes(model, "drawn"))
    loaded = load_model(path)
    assert loaded.network.plan == model.network.plan
    assert (loaded.spec.name, loaded.spec.color) == (model.spec.name, "bgr")
    assert torch.equal(rows(loaded), rows(model))
    assert student_bytes(loaded, "drawn") == path.read_bytes()


@pytest.mark.slow
def test_other_cells_are_traced_and_made_canonical(other):
    images = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    network = other.network.eval()
    with torch.no_grad():
        torch.testing.assert_close(fx.symbolic_trace(network)(images), network(images), rtol=0, atol=0)
        torch.testing.assert_close(canonicalise(network, (112, 112))(images), network(images), rtol=1e-4, atol=1e-6)


def test_without_its_text_a_network_of_other_cells_is_not_taken_for_another(other, tmp_path):
    save_file(other.network.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="the closest is pocketnet-4x5-32"):
        load_model(tmp_path / "w.safetensors")


NODES = "[[[skip_connect, 0], [skip_connect, 1]], [[{}], [skip_connect, 0]], [[skip_connect, 1], [skip_connect, 0]]{}]"
WRONG = {
    "operation": (
        NODES.format("dw_conv_3x4, 0", ", [[skip_connect, 0], [skip_connect, 0]]"),
        r"normal\.1\.0\.0: there is no such operation; did you mean dw_conv_3x3\? \(it is 'dw_conv_3x4'\)",
    ),
    "later node": (
        NODES.format("skip_connect, 3", ", [[skip_connect, 0], [skip_connect, 0]]"),
        r"normal\.1\.0\.1: node 1 has the inputs 0 to 2: the two cells before, and earlier nodes \(it is 3\)",
    ),
    "negative": (
        NODES.format("skip_connect, -1", ", [[skip_connect, 0], [skip_connect, 0]]"),
        r"normal\.1\.0\.1: node 1 has the inputs",
    ),
    "three nodes": (NODES.format("skip_connect, 0", ""), r"normal\.3: this key is missing"),
    "text for a number": (
        NODES.format("skip_connect, one", ", [[skip_connect, 0], [skip_connect, 0]]"),
        r"normal\.1\.0\.1: should be a valid integer \(it is 'one'\)",
    ),
    "no list": ("none", r"normal: should be a valid tuple \(it is 'none'\)"),
    "unhashable": (
        NODES.format("[], 0", ", [[skip_connect, 0], [skip_connect, 0]]"),
        r"normal\.1\.0\.0: should be a valid string",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_in_a_genotype_is_named_by_its_place(mistake, tmp_path):
    value, message = WRONG[mistake]
    with pytest.raises(RecipeError, match="the network's file holds one mistake") as raised:
        open_student(written(tmp_path, f"family: pocketnet\nnormal: {value}\n"))
    assert len(raised.value.what.splitlines()) == 2
    with pytest.raises(RecipeError, match=message):
        open_student(written(tmp_path, f"family: pocketnet\nnormal: {value}\n"))


def test_every_mistake_is_listed(tmp_path):
    text = "family: resnet\nwidth: 15\ncells: 3\nembedding_size: 2\nhead: many\nnormals: []\nreduce: [1, 2, 3, 4]\n"
    with pytest.raises(RecipeError, match="holds 10 mistakes") as raised:
        open_student(written(tmp_path, text))
    for line in (
        "family: should be 'pocketnet' (it is 'resnet')",
        "width: should be a multiple of 2 (it is 15)",
        "cells: should be greater than or equal to 4 (it is 3)",
        "normals: there is no such key; did you mean normal?",
        "reduce.0: should be a valid tuple (it is 1)",
    ):
        assert line in raised.value.what, line
    assert raised.value.where == str(tmp_path / "cells.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- pocketnet\n", "the network's file is no block of keys"),
        ("family: &a pocketnet\nnormal: *a\n", "anchors and aliases are not allowed"),
        ("family: !!python/object/apply:os.system ['true']\n", "tags are not allowed"),
        ("family: pocketnet\nfamily: pocketnet\n", "stands there twice"),
        ("family: pocketnet\nnormal: " + "[" * 40 + "]" * 40, "nested more than"),
        ("family: pocketnet\n1: 2\n", "mistake"),
        ("family: pocketnet\nwidth: true\n", "width: should be a valid integer"),
        ("width: 16\n", "family: this key is missing"),
        ("\x00", "this is not YAML"),
    ],
)
def test_a_text_that_is_no_network_is_refused(text, message, tmp_path):
    with pytest.raises(RecipeError, match=message):
        open_student(written(tmp_path, text))


def test_a_file_that_is_missing_is_missed(tmp_path):
    with pytest.raises(RecipeError, match="there is no such network"):
        open_student(str(tmp_path / "cells.yaml"))


HOSTILE = {
    "no JSON": "{",
    "no block": "[]",
    "too long": genotype_text(NORMAL, REDUCE) + " " * 3000,
    "deep": "[" * 1900,
    "one cell": json.dumps({"normal": NORMAL}),
    "an operation of its own": genotype_text(NORMAL, REDUCE).replace("skip_connect", "__import__('os')"),
    "an input of the future": genotype_text(NORMAL, REDUCE).replace('"skip_connect",2', '"skip_connect",7'),
    "a huge number": genotype_text(NORMAL, REDUCE).replace('"skip_connect",2', '"skip_connect",' + "9" * 900),
    "another key": genotype_text(NORMAL, REDUCE).replace('"normal"', '"code":"x","normal"'),
    "not a number": genotype_text(NORMAL, REDUCE).replace('"skip_connect",2', '"skip_connect",NaN'),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_genotype_of_a_strangers_is_refused_in_words(text, other, tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(other.network.state_dict(), path, metadata={GENOTYPE_KEY: text})
    with pytest.raises(CheckpointError, match="metadata say of which cells") as raised:
        load_model(path)
    assert raised.value.where == str(path)
    assert len(raised.value.what) < 2500


def test_a_genotype_beside_other_networks_says_nothing(tmp_path):
    model = build_student("mobilefacenet", width=0.25)
    save_file(model.network.state_dict(), tmp_path / "w.safetensors", metadata={GENOTYPE_KEY: "{"})
    assert load_model(tmp_path / "w.safetensors").spec.name == "mobilefacenet"


def test_a_genotype_that_does_not_fit_its_weights_is_told(other, tmp_path):
    text = genotype_text(NORMAL, REDUCE)
    save_file(other.network.state_dict(), tmp_path / "w.safetensors", metadata={GENOTYPE_KEY: text})
    with pytest.raises(CheckpointError, match="the state dict fits no architecture known here"):
        load_model(tmp_path / "w.safetensors")


def test_plans_of_other_cells_are_equal_by_their_cells():
    plans = {PocketNetPlan(4, 5, 32), PocketNetPlan(4, 5, 32, normal=NORMAL), PocketNetPlan(4, 5, 32, normal=REDUCE)}
    assert len(plans) == 2
