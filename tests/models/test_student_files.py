"""Students on disk: the same bytes each time, facts that the file itself says, and folders that stand for a student."""

import hashlib
import json
import subprocess
import sys

import pytest
import torch
from helpers import run_here
from safetensors import safe_open
from safetensors.torch import save_file

from qface_toolkit.cli._options import look_at
from qface_toolkit.errors import ArtifactError, CheckpointError, RecipeError
from qface_toolkit.models import (
    STUDENT_FILE,
    build_student,
    from_module,
    load_model,
    open_student,
    student_bytes,
    student_metadata,
)
from qface_toolkit.result.opening import Wanted, open_embedder, result_files

NAME, WIDTH = "mobilefacenet-evolve", 0.125
FACTS = {"mean": [120.5, 110, 100.25], "std": 64, "color": "bgr", "license": "MIT", "crop": "none"}
PROGRAM = f"""
import hashlib
from qface_toolkit.models import open_student, student_bytes
model = open_student({NAME!r}, width={WIDTH}, seed=7, overrides={FACTS!r})
print(hashlib.sha256(student_bytes(model, "drawn")).hexdigest())
"""


@pytest.fixture(scope="module")
def model():
    return open_student(NAME, width=WIDTH, seed=7, overrides=FACTS)


@pytest.fixture
def folder(model, tmp_path):
    place = tmp_path / "trained"
    place.mkdir()
    (place / STUDENT_FILE).write_bytes(student_bytes(model, "drawn"))
    (place / "training.json").write_text("{}")
    return place


@pytest.mark.slow
def test_the_same_model_gives_the_same_bytes_in_every_process(model):
    found = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True).stdout.strip()
    assert found == hashlib.sha256(student_bytes(model, "drawn")).hexdigest()


def test_memory_format_and_type_change_no_bytes(model):
    other = open_student(NAME, width=WIDTH, seed=7, overrides=FACTS)
    other.network.to(memory_format=torch.channels_last)
    assert student_bytes(other, "drawn") == student_bytes(model, "drawn")
    other.network.double().train().requires_grad_(False)
    assert student_bytes(other, "drawn") == student_bytes(model, "drawn")


def test_a_student_comes_back_with_its_facts(model, folder):
    path = folder / STUDENT_FILE
    loaded = load_model(path)
    assert loaded.spec.as_plain() == model.spec.as_plain() | {"origin": "drawn"}
    assert loaded.notes == loaded.warnings == ()
    assert loaded.source_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    for key, tensor in model.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[key], tensor), key


def test_other_programs_read_the_file_and_its_texts(model, folder):
    with safe_open(folder / STUDENT_FILE, "pt") as file:
        assert file.metadata() == student_metadata(model) | {"origin": "drawn"}
        assert {*file.keys()} == model.network.state_dict().keys()
    assert json.loads(student_metadata(model)["qface.std"]) == [64, 64, 64]


def test_what_the_caller_gives_goes_first(folder):
    spec = load_model(folder, overrides={"color": "rgb", "license": "mine"}).spec
    assert (spec.color, spec.license, spec.std) == ("rgb", "mine", (64, 64, 64))
    with pytest.raises(CheckpointError, match="another size than those that it is known to expect"):
        load_model(folder, overrides={"mean": 0, "std": 1})


def test_another_input_size_is_stated(tmp_path):
    model = open_student("edgeface-xxs", overrides={"input_size": [160, 160]})
    (tmp_path / STUDENT_FILE).write_bytes(student_bytes(model, "drawn"))
    assert load_model(tmp_path).spec.input_size == (160, 160)


def test_long_and_odd_provenance_is_cut_to_what_a_report_can_show(model, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(student_bytes(model, "a\x1b[31m" + "b" * 10_000))
    assert load_model(path).spec.origin == "a?[31m" + "b" * 294
    save_file(model.network.state_dict(), path, metadata={"license": "l" * 10_000})
    assert load_model(path).spec.license == "l" * 300


HOSTILE = {
    "mean": ('["a", 1, 2]', "model.mean"),
    "std": ("[0, 0, 0]", "model.std: .* is not above zero"),
    "color": ("green", "model.color: 'green' is not one of"),
    "crop": ("\x1b[31m", "model.crop"),
    "input_size": ("[1e9, 1e9]", "model.input_size"),
}


@pytest.mark.parametrize("key", HOSTILE)
def test_facts_that_make_no_sense_are_refused_with_the_file(key, model, tmp_path):
    text, message = HOSTILE[key]
    path = tmp_path / "w.safetensors"
    save_file(model.network.state_dict(), path, metadata={f"qface.{key}": text})
    with pytest.raises(CheckpointError, match=f"the file's metadata are wrong: (.|\n)*{message}") as raised:
        load_model(path)
    assert raised.value.where == str(path)


@pytest.mark.parametrize(
    "texts",
    [
        {"qface.mean": "[" * 250},
        {"qface.mean": "NaN"},
        {"qface.mean": "1e999"},
        {"qface.mean": "0.5", "qface.std": "0.5"},
        {"qface.color": "gray"},
        {"qface.input_size": "[16, 16]"},
        {"qface.input_size": "[true, true]"},
    ],
)
def test_facts_that_the_network_cannot_have_are_refused(texts, model, tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(model.network.state_dict(), path, metadata=texts)
    with pytest.raises(CheckpointError):
        load_model(path)


def test_a_network_that_weights_do_not_bring_back_is_not_written():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 7, 7), torch.nn.Flatten(), torch.nn.LazyLinear(8))
    network(torch.zeros(1, 3, 112, 112))
    with pytest.raises(CheckpointError, match="of no architecture known here by its weights' names"):
        student_bytes(from_module(network), "drawn")


def test_a_folder_stands_for_its_student(folder, model):
    assert load_model(folder).spec.name == model.spec.name
    assert load_model(str(folder)).source_sha256 == load_model(folder / STUDENT_FILE).source_sha256
    assert open_student(str(folder)).spec == load_model(folder).spec
    look_at(folder, scripts=False)
    look_at(str(folder), None)
    assert result_files(folder) is None
    embedder = open_embedder(folder, Wanted({}))
    assert (embedder.name, embedder.spec) == (STUDENT_FILE, load_model(folder).spec)


def test_a_folder_without_a_student_is_refused_as_before(tmp_path):
    (tmp_path / "other.safetensors").write_bytes(student_bytes(build_student(NAME, width=WIDTH), "drawn"))
    for look in (load_model, lambda path: look_at(path, scripts=False)):
        with pytest.raises(CheckpointError, match="this is a folder and no checkpoint") as raised:
            look(tmp_path)
        assert str(tmp_path / "other.safetensors") in raised.value.fix
    with pytest.raises(ArtifactError, match="there is no compressed model in this folder"):
        result_files(tmp_path)
    (tmp_path / STUDENT_FILE).mkdir()
    with pytest.raises(CheckpointError, match="this is a folder and no checkpoint"):
        load_model(tmp_path)


def test_a_student_that_is_no_checkpoint_is_refused_by_its_own_name(tmp_path):
    (tmp_path / STUDENT_FILE).write_text("not yet")
    for look in (load_model, lambda path: look_at(path, scripts=False)):
        with pytest.raises(CheckpointError) as raised:
            look(tmp_path)
        assert raised.value.where == str(tmp_path / STUDENT_FILE)


def test_commands_take_the_folder(folder, monkeypatch, capsys):
    code, said, _ = run_here(monkeypatch, capsys, "compress", folder, "--out", folder / "out", "--dry-run", "--json")
    assert code == 0
    assert json.loads(said)["model"] == NAME
    code, _, told = run_here(monkeypatch, capsys, "inspect", folder)
    assert code != 0
    assert f"qface compress {folder / STUDENT_FILE} --out DIR" in told


@pytest.mark.slow
def test_a_result_goes_before_a_student_in_the_same_folder(finished, tmp_path):
    place = tmp_path / "both"
    place.mkdir()
    for name in ("float.onnx", "int8.x86.onnx"):
        (place / name).write_bytes((finished / "out" / name).read_bytes())
    (place / STUDENT_FILE).write_bytes(student_bytes(build_student(NAME, width=WIDTH), "drawn"))
    assert result_files(place)[0].name == "int8.x86.onnx"


def test_overrides_of_a_fresh_network_are_checked():
    with pytest.raises(RecipeError, match=r"model\.mean"):
        open_student(NAME, width=WIDTH, overrides={"mean": "black"})
