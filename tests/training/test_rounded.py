"""A student that learns through its network as int8 computes it: what is learnt is what compress writes."""

import numpy as np
import pytest
import torch
from helpers import measure_quickly
from tiny_student import people

from qface_toolkit.backends._onnxruntime import open_onnx
from qface_toolkit.errors import RecipeError
from qface_toolkit.models import load_model
from qface_toolkit.pipeline import compress, train
from qface_toolkit.report.training import read_training

pytestmark = pytest.mark.slow

LEARN = ("epochs=1", "batch_size=8", "optimizer.learning_rate=1e-4", "data.held_out=2")


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """Return the folder of a training of the demo model, with rounding, on a few flat crops."""
    folder = tmp_path_factory.mktemp("rounded")
    crops = people(folder / "people", images=8)
    train("demo", data=crops, out=folder / "out", recipe="int8-qat", sets=LEARN, threads=1)
    return folder / "out"


def test_it_moves_the_weights_and_keeps_the_function(learnt):
    before, after = load_model("demo"), load_model(learnt)
    assert after.spec.preprocessing == before.spec.preprocessing
    images = torch.from_numpy(before.spec.preprocess(np.full((2, 112, 112, 3), 90, np.uint8)))
    with torch.no_grad():
        apart = 1 - torch.nn.functional.cosine_similarity(before.network(images), after.network(images))
    assert (apart > 0).all() and (apart < 0.1).all()


def test_its_teacher_was_itself(learnt):
    report = read_training(learnt / "training.json")
    assert [one.sha256 for one in report.teachers] == [load_model("demo").source_sha256]
    assert not list(learnt.glob("epoch-*"))


def test_compress_writes_what_was_learnt(learnt, tmp_path, monkeypatch):
    """The ranges are those that it learnt with, so the int8 file is as near to what was simulated as any other."""
    measure_quickly(monkeypatch)
    sets = ["budget.floor_cosine=null"]
    report = compress(learnt, out=tmp_path / "out", recipe="born-int8", backends=["onnx-x86"], sets=sets)
    file = next(one for one in report.artifacts if one.name == "int8.x86.onnx")
    assert file.agreement.cosine_mean > 0.98
    assert open_onnx(tmp_path / "out" / "int8.x86.onnx", threads=1) is not None


def test_it_goes_on_after_a_kill(learnt, tmp_path):
    from test_course import Killed, killed_after

    crops = people(tmp_path / "people", images=8)
    options = {"data": crops, "recipe": "int8-qat", "sets": (*LEARN, "checkpoint_steps=1"), "threads": 1}
    with pytest.raises(Killed):
        train("demo", out=tmp_path / "out", tell=killed_after(3), **options)
    train("demo", out=tmp_path / "out", resume=True, **options)
    whole = train("demo", out=tmp_path / "whole", **options)
    assert (tmp_path / "out" / "student.onnx").read_bytes() == (tmp_path / "whole" / "student.onnx").read_bytes()
    assert whole.resumed == 0


def test_a_recipe_that_leaves_a_simulation_is_refused(tmp_path):
    crops = people(tmp_path / "people", images=8)
    with pytest.raises(RecipeError, match="leaves no model to train"):
        train("demo", data=crops, out=tmp_path / "out", recipe="int8-qat", sets=("quantize.recipe=quantface-w8a8",))
