"""What an ONNX file says of how images are prepared, or is recognised as, or must be told; never a guess."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx_files import GIVEN, build, export, node, write
from torch import fx

from qface_toolkit.errors import CheckpointError, RecipeError, UnknownName
from qface_toolkit.models import ARCHITECTURES, Architecture, load_model
from qface_toolkit.models.mobilefacenet import Bottleneck, MobileFaceNetPlan, PReLUMobileFaceNet, read_prelu
from qface_toolkit.models.onnx import facts as onnx_facts
from qface_toolkit.registry import Registry


def small_file(tmp_path, facts=None):
    model = build(
        [node("Conv", "x w", "c"), node("Flatten", "c", "y")],
        {"w": np.ones((4, 3, 8, 8), np.float32)},
        producer_name="some\x1b[31mbody" + "e" * 200,
        producer_version="1",
    )
    onnx.helper.set_model_props(model, facts or {})
    return write(tmp_path / "small.onnx", model)


FACTS = {"qface.mean": "[1.0, 2.0, 3.0]", "qface.std": "[4.0, 5.0, 6.0]", "qface.color": "bgr"}


def test_our_metadata_are_read(tmp_path):
    more = {"qface.license": "MIT", "qface.origin": "here", "qface.model": "mine"}
    model = load_model(small_file(tmp_path, {**FACTS, **more}))
    spec = model.spec
    assert (spec.mean, spec.std, spec.color) == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "bgr")
    assert (spec.name, spec.license, spec.origin) == ("mine", "MIT", "here")
    assert "preprocessing (mean, std, color): the file's metadata" in model.notes
    assert load_model(small_file(tmp_path, FACTS), overrides={"color": "rgb"}).spec.color == "rgb"


@pytest.mark.parametrize("key", FACTS)
@pytest.mark.parametrize("value", ["[1, 2]", "[[[", '"x"', "null", "", "NaN", "[1, 2, 1e999]", "[" * 250])
def test_wrong_metadata_are_named(key, value, tmp_path):
    with pytest.raises(CheckpointError, match=f"metadata(.|\n)*{key.replace('qface', 'model')}"):
        load_model(small_file(tmp_path, {**FACTS, key: value}))


def test_wrong_overrides_are_named(tmp_path):
    with pytest.raises(RecipeError, match="model.size"):
        load_model(small_file(tmp_path, FACTS), overrides={"size": 3})


def test_what_a_stranger_calls_itself_cannot_command_a_terminal(tmp_path):
    model = load_model(small_file(tmp_path), overrides=GIVEN)
    assert "\x1b" not in "".join(model.notes)
    assert max(map(len, model.notes)) < 120


def test_name_says_what_the_network_must_be(tmp_path):
    path = small_file(tmp_path, FACTS)
    with pytest.raises(CheckpointError, match="not that of iresnet18"):
        load_model(path, name="iresnet18")
    with pytest.raises(UnknownName, match="iresnet81"):
        load_model(path, name="iresnet81")


def test_preprocessing_is_never_guessed(tmp_path):
    path = small_file(tmp_path)
    with pytest.raises(CheckpointError, match="missing: mean, std, color") as caught:
        load_model(path)
    assert "--set model.mean=MEAN --set model.std=STD --set model.color=rgb|bgr" in str(caught.value)
    assert "those of the training" in str(caught.value)
    assert "`qface evaluate --faces`, which raises an alarm" in str(caught.value)
    with pytest.raises(CheckpointError, match="missing: color ") as caught:
        load_model(path, overrides={"mean": 127.5, "std": 127.5})
    assert "model.mean" not in str(caught.value)


SMALL_PLAN = MobileFaceNetPlan(
    name="small",
    network=PReLUMobileFaceNet,
    stem=8,
    bottlenecks=(Bottleneck(8, 16, 16, 2), Bottleneck(16, 32, 16, 2), Bottleneck(16, 64, 16, 2)),
    head=32,
    embedding_size=16,
)


@pytest.mark.slow
def test_a_narrower_relative_is_not_taken_for_the_published_one(tmp_path):
    path = write(tmp_path / "net.onnx", export(SMALL_PLAN.build(), (112, 112)))
    with pytest.raises(CheckpointError, match="missing: mean, std, color"):
        load_model(path)


@pytest.mark.parametrize("name", ["net.onnx", "net.bin"])
def test_the_content_says_what_it_is(name, tmp_path):
    small_file(tmp_path, FACTS).rename(tmp_path / name)
    model = load_model(tmp_path / name)
    assert isinstance(model.network, fx.GraphModule)
    assert not model.network.training


def test_two_architectures_that_differ_in_preprocessing_alone_are_asked_about(tmp_path, monkeypatch):
    network = SMALL_PLAN.build()
    path = write(tmp_path / "net.onnx", export(network, (112, 112)))
    entries = {
        name: Architecture(replace(SMALL_PLAN, name=name), read_prelu, "here", std=(std,) * 3)
        for name, std in (("one", 127.5), ("other", 128.0))
    }
    registry = Registry("architecture", "nowhere")
    monkeypatch.setattr(registry, "_entries", entries)
    monkeypatch.setattr(onnx_facts, "ARCHITECTURES", registry)
    with pytest.raises(CheckpointError, match="it could be one or other, whose preprocessing differs") as caught:
        load_model(path)
    assert "or give --model one" in str(caught.value)
    assert load_model(path, name="other").spec.std == (128.0, 128.0, 128.0)
    assert load_model(path, overrides=GIVEN).spec.name == "net"
    monkeypatch.setitem(entries, "one", entries["other"])
    assert load_model(path).spec.name == "other"


@pytest.mark.slow
def test_no_runtime_loads_the_file(tmp_path):
    program = (
        "import sys\nfrom qface_toolkit.models import load_model\nload_model(sys.argv[1])\n"
        "sys.exit('onnxruntime' in sys.modules)"
    )
    path = small_file(tmp_path, FACTS)
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == 0


def test_sface_is_recognised_by_its_graph(tmp_path):
    network = ARCHITECTURES.get("sface").published.build()
    file = export(network, (112, 112), opset=11, batch=None, names=("data", "fc1"))
    model = load_model(write(tmp_path / "face_recognition_sface_2021dec.onnx", file))
    assert (model.spec.name, model.spec.color, model.spec.mean[0], model.spec.std[0]) == ("sface", "rgb", 0.0, 1.0)
    assert "recognised as sface, layer for layer" in model.notes
