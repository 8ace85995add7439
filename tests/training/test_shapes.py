"""The script that trains an iResNet and a PocketNet, on a handful of drawings: what it promises of its checkpoints."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiers import in_tiers
from torch import nn

from qface_toolkit.models import from_module, load_model
from qface_toolkit.sources.procedural import Drawings, ProceduralOptions
from qface_toolkit.training.arcface import LabelledCrops

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NAMES = ("iresnet18-16", "pocketnet-s-8")
IDENTITIES, IMAGES = 2, 2


class Interrupted(Exception):
    """Stands for a kill between two epochs."""


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("train_shapes")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def data():
    drawings = Drawings(ProceduralOptions(images_per_identity=IMAGES), count=IDENTITIES * IMAGES, seed=1)
    crops = np.stack([drawings.crop(index) for index in range(len(drawings))])
    teacher = np.random.default_rng(0).normal(size=(len(crops), 128)).astype(np.float32)
    return LabelledCrops(crops, np.repeat(np.arange(IDENTITIES), IMAGES), teacher=teacher)


def stop(epoch, _):
    raise Interrupted


@pytest.mark.parametrize("name", in_tiers(NAMES, fast=["iresnet18-16"]))
def test_a_resumed_run_writes_the_same_bytes_and_a_checkpoint_that_is_recognised(script, data, tmp_path, name):
    shape = replace(script.SHAPES[name], epochs=2, batch_size=IDENTITIES * IMAGES)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    written = script.train_shape(name, shape, data, whole)
    with pytest.raises(Interrupted):
        script.train_shape(name, shape, data, parts, epoch_done=stop)
    assert not list(parts.glob("*.safetensors"))
    assert script.train_shape(name, shape, data, parts).read_bytes() == written.read_bytes()

    model, fresh = load_model(written), shape.plan.build()
    assert (model.spec.name, model.spec.input_size) == (shape.plan.name, shape.plan.input_size)
    assert "train_shapes.py" in model.spec.origin
    steps = {key: value for key, value in model.network.state_dict().items() if key.endswith("num_batches_tracked")}
    assert steps.keys() <= fresh.state_dict().keys()
    assert {int(count) for count in steps.values()} == {shape.epochs}


@pytest.mark.parametrize("name", NAMES)
def test_quicker_prelus_are_the_same_function(script, name):
    torch.manual_seed(0)
    one = script.SHAPES[name].plan.build()
    other = script.SHAPES[name].plan.build()
    script.quicken(other)
    assert all(isinstance(module, script.QuickPReLU) for module in other.modules() if isinstance(module, nn.PReLU))
    for module in one.modules():
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, -0.5, 0.5)
    other.load_state_dict(one.state_dict())
    images = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        torch.testing.assert_close(other.eval()(images), one.eval()(images))


def test_a_set_is_cut_at_an_identity(script, data):
    first = script.first_identities(data, 1, IMAGES)
    assert first.labels.tolist() == [0, 0]
    assert np.array_equal(first.crops, data.crops[:IMAGES])
    assert np.array_equal(first.teacher, data.teacher[:IMAGES])


def test_the_teacher_is_the_demo_model_and_is_asked_once(script, data, tmp_path):
    file = tmp_path / "teacher.npy"
    demo = load_model("demo")
    with torch.no_grad():
        expected = demo.network(torch.from_numpy(demo.spec.preprocess(data.crops))).numpy()
    np.testing.assert_allclose(script.taught(data, file).teacher, expected, rtol=1e-4, atol=1e-4)
    np.save(file, np.zeros_like(expected))
    assert not script.taught(data, file).teacher.any()


def test_the_networks_have_the_published_depth(script):
    iresnet, pocketnet = (script.SHAPES[name].plan for name in NAMES)
    assert (iresnet.name, iresnet.blocks) == ("iresnet18", (2, 2, 2, 2))
    assert pocketnet.cells == 18


@pytest.mark.slow
def test_scores_are_of_the_deployed_file(script, tmp_path):
    scorer = importlib.import_module("score_shapes")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 7, 7), nn.BatchNorm2d(8), nn.PReLU(8), nn.Flatten(), nn.Linear(8 * 256, 8))
    model = from_module(network, name="small")
    recipe = tmp_path / "few.yaml"
    recipe.write_text("version: 1\ncalibration: {count: 8, batch_size: 8}\nsteps: [calibrate: {}]\n")
    drawings = Drawings(ProceduralOptions(images_per_identity=2, attributes="heldout"), count=40, seed=7)
    crops = np.stack([drawings.crop(index) for index in range(40)])
    scores = scorer.score(model, tmp_path / "out", str(recipe), crops, np.arange(40) // 2)
    assert scores["agreement"]["count"] == 40
    assert 0.9 < scores["agreement"]["cosine_min"] < scores["agreement"]["cosine_mean"] < 0.999999
    float_embeddings = scorer.embed(tmp_path / "out" / "float.onnx", model, crops)
    with torch.no_grad():
        expected = network(torch.from_numpy(model.spec.preprocess(crops))).numpy()
    np.testing.assert_allclose(float_embeddings, expected, rtol=1e-3, atol=1e-4)
    assert f"{scores['agreement']['cosine_mean']:.5f}" in scorer.row("small", "few", scores)
