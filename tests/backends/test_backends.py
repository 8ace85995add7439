"""What every backend must do: give what the integer arithmetic gives, for any batch, the same bytes each time."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from quantized import SMALL_NETWORKS, cosines, opened, run, small_model, small_network, smooth_images
from tiers import in_tiers

from qface_toolkit.backends import BACKENDS, ImageInput, runner_of
from qface_toolkit.errors import ArtifactError
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.quantize.target import TARGETS
from qface_toolkit.runtimes import runtime_of

ALIKE = ("torch-onednn", "torch-qnnpack", "torch-fbgemm")
EVERY_BACKEND = pytest.mark.parametrize(
    "backend", in_tiers(BACKENDS.names(), fast=[name for name in BACKENDS.names() if name not in ALIKE])
)
"""Of the four engines of torch, for which one converter writes slowly, one runs always."""
NETWORKS = in_tiers(SMALL_NETWORKS, fast=["mobilefacenet"])


@pytest.mark.parametrize("name", NETWORKS)
@EVERY_BACKEND
def test_an_artifact_computes_what_its_ranges_say(name, backend, tmp_path):
    network, model = small_network(name)[0], small_model(name)
    images = smooth_images(model.spec.input_size)
    embed = opened(backend, model, tmp_path)
    got, expected = embed(images), embed_as_integers(model, BACKENDS.get(backend).target, images)
    assert got.dtype == np.float32
    agreement = cosines(got, expected)
    assert agreement.mean() > 0.9999, f"mean cosine {agreement.mean():.6f} to the integer arithmetic"
    agreement = cosines(got, run(network, images))
    assert agreement.mean() > 0.97, f"mean cosine {agreement.mean():.5f} to the float network"


@pytest.fixture(scope="module")
def small():
    model = small_model("iresnet")
    return model, smooth_images(model.spec.input_size, count=5)


@EVERY_BACKEND
def test_every_backend_conforms(backend, small, tmp_path):
    model, images = small
    entry = BACKENDS.get(backend)
    assert entry.target in TARGETS.values()
    assert runtime_of(entry.runtime.name).title == entry.runtime.title, "a report cannot name it"
    assert entry.machine in ("x86", "arm", None)
    assert entry.artifact.startswith(("int8.", "packed.", "simulation."))
    embed = opened(backend, model, tmp_path, {"fact": "value"})
    one_by_one = np.concatenate([embed(images[i : i + 1]) for i in range(5)])
    assert (one_by_one == embed(images)).all(), "the batch size changes the numbers"
    assert sum(entry.inspect(tmp_path / entry.artifact).counts.values()) > 0


@EVERY_BACKEND
def test_a_file_is_read_before_it_runs_and_says_what_it_takes(backend, small, tmp_path):
    model, images = small
    entry, file = BACKENDS.get(backend), tmp_path / BACKENDS.get(backend).artifact
    embed = opened(backend, model, tmp_path, {"qface.input_size": json.dumps(model.spec.input_size)})
    content = entry.read(file)
    assert content.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert entry.image_input(file, content) == ImageInput(model.spec.input_size)
    assert entry.version(content).split()[0] in (entry.runtime.name, "torch")
    expected = embed(images)
    file.write_bytes(b"changed meanwhile")
    assert np.array_equal(entry.try_out(file, images, content), expected)
    assert np.array_equal(entry.open(file, 1, content)(images), expected)
    entry.repeat(file, images, 1, content)()


@EVERY_BACKEND
def test_a_file_is_run_by_its_backend_under_its_name_and_by_its_kind_under_another(backend, small, tmp_path):
    entry = BACKENDS.get(backend)
    opened(backend, small[0], tmp_path)
    assert runner_of(tmp_path / entry.artifact) is entry
    other = (tmp_path / entry.artifact).rename(tmp_path / f"other{Path(entry.artifact).suffix}")
    runner = runner_of(other)
    assert runner is not None and runner.read(other).data == other.read_bytes()


def test_a_float_checkpoint_has_no_runner(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    assert runner_of(tmp_path / "weights.safetensors") is None and runner_of(tmp_path / "weights.pth") is None


@pytest.mark.parametrize("backend", BACKENDS.names())
def test_what_simulates_is_compared_with_no_time_and_everything_else_with_a_float_model(backend):
    entry = BACKENDS.get(backend)
    assert (entry.machine is None) == entry.runtime.simulates == (entry.runtime.float_name is None)


@pytest.mark.parametrize("backend", BACKENDS.names())
def test_no_two_backends_write_the_same_file(backend):
    names = [BACKENDS.get(name).artifact for name in BACKENDS.names()]
    assert names.count(BACKENDS.get(backend).artifact) == 1


@pytest.mark.parametrize("backend", BACKENDS.names())
@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04 neither"])
def test_a_damaged_artifact_is_refused(backend, content, tmp_path):
    file = tmp_path / "damaged"
    file.write_bytes(content)
    with pytest.raises(ArtifactError):
        BACKENDS.get(backend).open(file, threads=1)


@pytest.mark.slow
def test_importing_the_registry_of_backends_loads_no_runtime():
    """What is asked for its names loads ONNX Runtime, which is always there, and never OpenVINO, an extra."""
    code = (
        "import sys; from qface_toolkit.backends import BACKENDS\n"
        "first = {'onnxruntime', 'openvino'} & sys.modules.keys(); BACKENDS.names()\n"
        "sys.exit(', '.join(first | {'openvino'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
