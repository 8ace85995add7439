"""TorchScript archives in a process that has torch alone: right under their engine, and only there."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from quantized import opened, small_model, smooth_images
from tiers import in_tiers

from qface_toolkit.backends import BACKENDS
from qface_toolkit.backends.torch_int8 import EXTRA_FILE
from qface_toolkit.errors import BackendUnavailable

ENGINES = ("x86", "qnnpack", "onednn", "fbgemm")

STRANGER = """
import json, sys, warnings
import numpy, torch
warnings.simplefilter("ignore")
archive, images, out, engine = sys.argv[1:]
extra = {"qface.json": ""}
if engine == "as the archive says":
    torch.jit.load(archive, _extra_files=extra)
    engine = json.loads(extra["qface.json"])["engine"]
torch.backends.quantized.engine = engine
torch.set_num_threads(1)
network = torch.jit.load(archive)
with torch.no_grad():
    numpy.save(out, network(torch.from_numpy(numpy.load(images))).numpy())
assert not any(name.startswith("qface") for name in sys.modules)
"""


def embed_as_a_stranger(archive, images, folder, engine="as the archive says"):
    """Return what a process that never imports the package gets from an archive."""
    np.save(folder / "images.npy", images)
    files = [str(archive), str(folder / "images.npy"), str(folder / "out.npy")]
    subprocess.run([sys.executable, "-c", STRANGER, *files, engine], check=True, cwd=folder)
    return np.load(folder / "out.npy")


@pytest.fixture(scope="module")
def small():
    model = small_model("mobilefacenet")
    return model, smooth_images(model.spec.input_size)


@pytest.mark.parametrize("engine", in_tiers(ENGINES, fast=["x86"]))
def test_a_process_without_the_package_gets_identical_embeddings(engine, small, tmp_path):
    model, images = small
    expected = opened(f"torch-{engine}", model, tmp_path)(images)
    got = embed_as_a_stranger(tmp_path / f"int8.{engine}.ts", images, tmp_path)
    assert (got == expected).all(), f"off by {abs(got - expected).max():.2e}"


@pytest.mark.slow
def test_under_another_engine_the_numbers_differ(small, tmp_path):
    model, images = small
    expected = opened("torch-qnnpack", model, tmp_path)(images)
    got = embed_as_a_stranger(tmp_path / "int8.qnnpack.ts", images, tmp_path, engine="x86")
    assert (got != expected).any(), "the engine makes no difference: the documentation may drop its warning"


@pytest.mark.parametrize("engine", in_tiers(ENGINES, fast=["qnnpack"]))
def test_the_archive_says_its_engine_and_facts(engine, small, tmp_path):
    opened(f"torch-{engine}", small[0], tmp_path, {"qface.model": "small"})
    extra = {EXTRA_FILE: ""}
    torch.jit.load(str(tmp_path / f"int8.{engine}.ts"), _extra_files=extra)
    assert json.loads(extra[EXTRA_FILE]) == {"qface.model": "small", "engine": engine}


def test_everything_runs_as_integers(small, tmp_path):
    opened("torch-x86", small[0], tmp_path)
    operators = BACKENDS.get("torch-x86").inspect(tmp_path / "int8.x86.ts").counts
    assert operators["aten::quantize_per_tensor"] == 1
    assert operators["aten::dequantize"] == 1
    assert not {"aten::_convolution", "aten::conv2d", "aten::linear", "aten::prelu"} & set(operators), operators


def test_opening_and_running_leave_the_engine_alone(small, tmp_path):
    before = torch.backends.quantized.engine
    model, images = small
    opened("torch-qnnpack", model, tmp_path)(images)
    assert torch.backends.quantized.engine == before


def test_an_engine_that_is_not_there_is_told(small, monkeypatch):
    monkeypatch.setattr(type(torch.backends.quantized), "supported_engines", ["none"])
    with pytest.raises(BackendUnavailable, match="no engine"):
        BACKENDS.get("torch-x86").lower(small[0], {})
