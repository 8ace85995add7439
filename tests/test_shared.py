"""The real checkpoints, compressed without a real face and then judged on real faces: the figures that are promised."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from qface_toolkit import read_report
from qface_toolkit.backends import BACKENDS
from qface_toolkit.backends._onnxruntime import open_onnx
from qface_toolkit.quantize.model import load_quantized
from qface_toolkit.scoring.agreement import measure_agreement

SHARED = Path(__file__).parents[2] / "shared"
PEOPLE = SHARED / "faces" / "people"
COUNT = 128
FACES = 300
THREADS = 2
LARGEST_RATIO = 0.32
LARGEST_MEMORY_BYTES = 3 << 30
DRAWINGS_BEAT_NOISE_BY = 0.05
PRELU, RELU6 = "mobilefacenet_prelu_112x96.ckpt", "mobilefacenet_relu6_112.pt"
LEAST_COSINE = {PRELU: 0.97, RELU6: 0.99}
DEFAULT_BACKENDS = ("onnx-x86", "onnx-arm", "torch-x86", "torch-qnnpack")

pytestmark = [
    pytest.mark.shared,
    pytest.mark.slow,
    pytest.mark.skipif(not PEOPLE.is_dir(), reason="../shared with the real checkpoints and faces is not here"),
]


@pytest.fixture(scope="module")
def crops():
    """Give every n-th of the evaluation faces, for measuring alone."""
    files = sorted(PEOPLE.rglob("*.jpg"))
    chosen = [files[place * len(files) // FACES] for place in range(FACES)]
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in chosen])


def compress(checkpoint, out, *options):
    command = (sys.executable, "-m", "qface_toolkit", "compress", SHARED / "models" / checkpoint, "--out", out)
    fast = ("--recipe", "int8-fast", "--set", f"calibration.count={COUNT}", *options)
    done = subprocess.run([*map(str, command), *fast], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(out=out, report=read_report(out / "report.json"))


def compressed_once(made_once, checkpoint):
    """Return the result of a checkpoint with every default artifact, made once for all files of tests."""
    folder = made_once.folder(f"shared-{checkpoint}", lambda folder: compress(checkpoint, folder / "out"))
    return SimpleNamespace(out=folder / "out", report=read_report(folder / "out" / "report.json"))


@pytest.fixture(scope="module")
def results(made_once):
    """Give the results of both checkpoints."""
    return {name: compressed_once(made_once, name) for name in LEAST_COSINE}


def cosine_on_faces(result, backend, crops):
    """Return the mean cosine of an artifact to float.onnx over real faces."""
    spec = load_quantized(result.out / "quantization.json", result.out / "model.safetensors").spec
    inputs = spec.preprocess(crops)
    chosen = BACKENDS.get(backend)
    reference = embed(open_onnx(result.out / "float.onnx", THREADS), inputs)
    return measure_agreement(reference, embed(chosen.open(result.out / chosen.artifact, THREADS), inputs)).cosine_mean


def embed(run, inputs, batch=20):
    return np.concatenate([run(inputs[at : at + batch]) for at in range(0, len(inputs), batch)])


def tell(capsys, what, figure):
    """Show a figure even when all is well: these are the ones that are promised."""
    with capsys.disabled():
        sys.stdout.write(f"\n{what}: {figure}")


@pytest.mark.parametrize("backend", DEFAULT_BACKENDS)
@pytest.mark.parametrize("name", LEAST_COSINE)
def test_artifact_agrees_with_the_float_model_on_real_faces(name, backend, results, crops, capsys):
    cosine = cosine_on_faces(results[name], backend, crops)
    tell(capsys, f"{name} {backend}, mean cosine on {FACES} faces", f"{cosine:.5f}")
    assert cosine >= LEAST_COSINE[name], cosine


@pytest.mark.parametrize("name", LEAST_COSINE)
def test_artifacts_compute_what_their_ranges_say(name, results, capsys):
    artifacts = [figures for figures in results[name].report.artifacts if figures.quantized]
    cosines = {figures.name: figures.simulation_agreement.cosine_mean for figures in artifacts}
    tell(capsys, f"{name}, mean cosine to the simulation", cosines)
    assert len(cosines) == len(DEFAULT_BACKENDS)
    assert min(cosines.values()) >= 0.9999, cosines


@pytest.mark.parametrize("name", LEAST_COSINE)
def test_int8_onnx_is_small(name, results, capsys):
    out = results[name].out
    ratio = (out / "int8.x86.onnx").stat().st_size / (out / "float.onnx").stat().st_size
    tell(capsys, f"{name}, int8.x86.onnx / float.onnx", f"{ratio:.4f}")
    assert ratio <= LARGEST_RATIO, ratio


@pytest.mark.parametrize("name", LEAST_COSINE)
def test_job_needs_little_memory(name, results, capsys):
    peak = results[name].report.peak_memory_bytes
    tell(capsys, f"{name}, peak memory and seconds", (f"{peak / (1 << 30):.2f} GiB", seconds(results[name].report)))
    assert peak < LARGEST_MEMORY_BYTES, peak


def seconds(report):
    return {step.name: round(step.seconds, 1) for step in report.steps}


def test_drawings_beat_noise(results, crops, tmp_path, capsys):
    sets = ("--set", "calibration.set=noise", "--set", "budget.floor_cosine=null")
    noise = compress(PRELU, tmp_path / "noise", *sets, "--backend", "onnx-x86")
    assert json.loads((noise.out / "manifest.json").read_text())["calibration"]["kind"] == "noise"
    drawn, noisy = (cosine_on_faces(result, "onnx-x86", crops) for result in (results[PRELU], noise))
    tell(capsys, "mean cosine, calibrated on drawings and on noise", f"{drawn:.4f} {noisy:.4f}")
    assert drawn - noisy >= DRAWINGS_BEAT_NOISE_BY, (drawn, noisy)
