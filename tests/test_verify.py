"""qface verify: what is right is trusted, what is damaged or hostile is named, and nothing else is run."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers import run_here
from tiers import in_tiers

from qface_toolkit import pipeline
from qface_toolkit.backends import BACKENDS
from qface_toolkit.backends.torch_int8 import _saved
from qface_toolkit.errors import ArtifactError
from qface_toolkit.result.golden import read_golden
from qface_toolkit.verifier import LARGEST_GOLDEN

FILES = ("float.onnx", "float.fast.onnx", "int8.x86.onnx", "int8.arm.onnx", "int8.x86.ts", "int8.qnnpack.ts")


@pytest.fixture(scope="module")
def result(finished):
    return finished / "out"


@pytest.fixture
def copy(result, tmp_path):
    return shutil.copytree(result, tmp_path / "copy")


def verdicts(folder):
    return {file.name: file for file in pipeline.verify(folder).files}


def replace(folder, name, content):
    """Change a file and the manifest with it, as a stranger would."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    record = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    manifest["files"][name] = record
    (folder / "manifest.json").write_text(json.dumps(manifest))


def golden_with(folder, **arrays):
    """Return golden.npz with some arrays changed; None takes one out."""
    stored = dict(np.load(folder / "golden.npz")) | arrays
    buffer = io.BytesIO()
    np.savez(buffer, **{name: array for name, array in stored.items() if array is not None})
    return buffer.getvalue()


@pytest.mark.slow
def test_everything_is_trusted_on_this_processor_with_all_that_it_can(result):
    """On matrix tiles, too, which the other tests keep torch from."""
    env = {name: value for name, value in os.environ.items() if name != "ONEDNN_MAX_CPU_ISA"}
    command = [sys.executable, "-m", "qface_toolkit", "verify", result]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, "6 of 6 files" in done.stdout) == (0, True), done.stdout + done.stderr


def test_everything_is_exact_where_it_was_made(result):
    found = pipeline.verify(result)
    assert {file.name: file.verdict for file in found.files} == {
        name: "agrees" if name.startswith("float") else "exact" for name in FILES
    }
    assert (found.trustworthy, found.images) == (True, 8)


def test_command_prints_a_table_and_exits_with_zero(result, monkeypatch, capsys):
    code, out, err = run_here(monkeypatch, capsys, "verify", result)
    assert (code, err) == (0, "check the files\nrun the golden vectors\n")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    assert rows["int8.x86.onnx"][:2] == ["exact", "exact"]
    assert rows["float.onnx"][:2] == ["agrees", ">0.99999"]
    assert "6 of 6 files can be trusted here, on 8 golden images." in out
    assert f"onnxruntime {onnxruntime.__version__}" in out
    assert max(map(len, out.splitlines())) <= 80


def test_json_says_the_same(result, monkeypatch, capsys):
    code, out, err = run_here(monkeypatch, capsys, "verify", result, "--json")
    told = json.loads(out)
    assert (code, err, told["trustworthy"], told["images"]) == (0, "", True, 8)
    assert [(file["name"], file["verdict"]) for file in told["files"]] == [
        (file.name, file.verdict) for file in pipeline.verify(result).files
    ]
    assert told["environment"]["versions"]["onnxruntime"] == onnxruntime.__version__


@pytest.mark.parametrize("name", ["int8.x86.onnx", "int8.x86.ts", "report.md"])
@pytest.mark.parametrize("damage", in_tiers(("changed", "missing"), fast=["missing"]))
def test_damage_is_found_and_the_rest_is_run(name, damage, copy, monkeypatch, capsys):
    if damage == "missing":
        (copy / name).unlink()
    else:
        (copy / name).write_bytes((copy / name).read_bytes()[:-1] + b"?")
    found = verdicts(copy)
    assert found[name].verdict == "damaged"
    assert "missing" in found[name].reason or "manifest" in found[name].reason
    assert found["int8.arm.onnx"].verdict == "exact"
    code, out, _ = run_here(monkeypatch, capsys, "verify", copy)
    assert code == 1
    assert f"{name}: it is" in out


def test_an_artifact_that_computes_something_else_is_not_trusted(copy, monkeypatch, capsys):
    wrong = onnx.load(copy / "int8.x86.onnx")
    codes = [one for one in wrong.graph.initializer if one.data_type == onnx.TensorProto.INT8]
    weights = max(codes, key=lambda one: len(one.raw_data))
    weights.raw_data = bytes(weights.raw_data[::-1])
    replace(copy, "int8.x86.onnx", wrong.SerializeToString())
    found = verdicts(copy)["int8.x86.onnx"]
    assert (found.verdict, found.cosine_min < 0.999) == ("differs", True)
    assert "further from the float model than promised" in found.reason
    assert run_here(monkeypatch, capsys, "verify", copy)[0] == 1


def test_an_older_runtime_says_what_it_needs(copy, monkeypatch):
    monkeypatch.setattr(onnxruntime, "__version__", "1.20.1")
    found = verdicts(copy)
    assert {name: found[name].verdict for name in FILES} == {
        "float.onnx": "agrees",
        "float.fast.onnx": "agrees",
        "int8.x86.ts": "exact",
        "int8.qnnpack.ts": "exact",
        "int8.x86.onnx": "cannot run",
        "int8.arm.onnx": "cannot run",
    }
    assert "needs onnxruntime 1.24.1 or newer, here is 1.20.1" in found["int8.x86.onnx"].reason


def test_an_older_runtime_that_refuses_the_file_says_the_same(copy, monkeypatch):
    model = onnx.load(copy / "int8.x86.onnx")
    model.graph.node[-1].op_type = "NotKnownYet"
    replace(copy, "int8.x86.onnx", model.SerializeToString())
    assert "refuses the file" in verdicts(copy)["int8.x86.onnx"].reason
    monkeypatch.setattr(onnxruntime, "__version__", "1.20.1")
    assert "needs onnxruntime 1.24.1 or newer" in verdicts(copy)["int8.x86.onnx"].reason


def test_an_engine_that_torch_lacks_is_told(copy, monkeypatch):
    monkeypatch.setattr(torch.backends.quantized.__class__, "supported_engines", ["qnnpack"])
    found = verdicts(copy)["int8.x86.ts"]
    assert (found.verdict, "no engine 'x86'" in found.reason) == ("cannot run", True)


def test_nothing_runs(copy, monkeypatch, capsys):
    for name in FILES:
        replace(copy, name, b"not a model")
    assert {file.verdict for file in pipeline.verify(copy).files} == {"cannot run"}
    code, out, _ = run_here(monkeypatch, capsys, "verify", copy)
    assert (code, "Nothing of this result runs here." in out) == (1, True)


def test_a_file_lowered_again_is_verified_by_what_the_manifest_says_of_it(copy):
    pipeline.export(copy, "onnx-arm", name="int8.mine.onnx")
    assert verdicts(copy)["int8.mine.onnx"].verdict == "exact"


def test_a_file_that_nobody_knows_is_not_run(copy):
    shutil.copy(copy / "int8.x86.onnx", copy / "int8.stranger.onnx")
    found = verdicts(copy)["int8.stranger.onnx"]
    assert (found.verdict, "the manifest" in found.reason) == ("unknown", True)


class Scribbler(torch.nn.Module):
    """Writes a file when it is run."""

    def forward(self, x):
        torch.save(x, "owned")
        return x


def test_an_archive_that_writes_files_is_not_loaded(copy, monkeypatch):
    monkeypatch.setattr("qface_toolkit.backends.torch_int8._load", lambda *_: pytest.fail("it was loaded"))
    (copy / "int8.qnnpack.ts").unlink()  # a sound archive, which would be loaded
    replace(copy, "int8.x86.ts", _saved(torch.jit.script(Scribbler()), {"engine": "x86"}))
    found = verdicts(copy)["int8.x86.ts"]
    assert (found.verdict, "calls what no archive of ours does" in found.reason) == ("cannot run", True)


def test_external_data_outside_the_folder_is_not_read(copy):
    model = onnx.load(copy / "int8.x86.onnx")
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    replace(copy, "int8.x86.onnx", model.SerializeToString())
    found = verdicts(copy)["int8.x86.onnx"]
    assert (found.verdict, "no plain file name" in found.reason) == ("cannot run", True)


def test_golden_vectors_are_read_as_they_are(result):
    stored = np.load(result / "golden.npz")
    found = read_golden(result / "golden.npz")
    assert found.keys() == set(stored.files)
    assert all(np.array_equal(found[name], stored[name]) for name in found)


BAD = {
    "an object": {"float": np.array([[object()]])},
    "doubles": {"float": np.ones((8, 32))},
    "another count": {"int8.x86.onnx": np.ones((7, 32), np.float32)},
    "nan": {"float": np.full((8, 32), np.nan, np.float32)},
    "zeros": {"int8.x86.onnx": np.zeros((8, 32), np.float32)},
    "no inputs": {"inputs": None},
    "no float": {"float": None},
    "flat inputs": {"inputs": np.ones((8, 32), np.float32)},
    "pixels of floats": {"image": np.ones((8, 112, 96, 3), np.float32)},
    "by columns": {"float": np.ones((32, 8), np.float32).T},
}


@pytest.mark.parametrize("arrays", BAD.values(), ids=BAD)
def test_golden_vectors_that_make_no_sense_are_refused(arrays, result, tmp_path):
    path = tmp_path / "golden.npz"
    path.write_bytes(golden_with(result, **arrays))
    with pytest.raises(ArtifactError, match="golden vectors cannot be used"):
        read_golden(path)


def header(text):
    padded = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


ARCHIVES = {
    "no zip": b"not a zip",
    "a bomb": ("float.npy", header("{'descr': '<f4', 'fortran_order': False, 'shape': (100000000, 100000), }"), 0),
    "compressed": ("float.npy", bytes(1000), zipfile.ZIP_DEFLATED),
    "no header": ("float.npy", b"", 0),
    "code": ("float.npy", header("__import__('os').system('false')"), 0),
    "deep": ("float.npy", header("(" * 3000), 0),
    "too large": ("float.npy", bytes(LARGEST_GOLDEN + 1), 0),
}


def write_archive(path, content):
    """Write a file of golden vectors that hides something."""
    if isinstance(content, bytes):
        path.write_bytes(content)
        return
    name, data, compression = content
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, data, compression)


@pytest.mark.parametrize("content", ARCHIVES.values(), ids=ARCHIVES)
def test_hostile_golden_vectors_are_refused(content, tmp_path):
    path = tmp_path / "golden.npz"
    write_archive(path, content)
    with pytest.raises(ArtifactError, match="golden vectors cannot be used"):
        read_golden(path)


@pytest.mark.parametrize("damage", ["changed", "missing", "not in the manifest"])
def test_without_golden_vectors_there_is_nothing_to_verify(damage, copy):
    if damage == "missing":
        (copy / "golden.npz").unlink()
    elif damage == "changed":
        (copy / "golden.npz").write_bytes(golden_with(copy, image=None) + b"?")
    else:
        manifest = json.loads((copy / "manifest.json").read_text())
        del manifest["files"]["golden.npz"]
        (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="nothing to compare with"):
        pipeline.verify(copy)


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(ArtifactError, match="no such file"):
        pipeline.verify(tmp_path)


def test_the_script_for_other_runtimes_gives_the_same_verdicts(result):
    script = Path(__file__).parents[1] / "benchmarks" / "one_runtime.py"
    done = subprocess.run([sys.executable, script, result], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["versions"]["onnxruntime"] == onnxruntime.__version__
    files = told["results"][result.name]
    assert {name: figures["verdict"] for name, figures in files.items()} == {
        file.name: file.verdict for file in pipeline.verify(result).files if file.name.endswith(".onnx")
    }
    assert (files["float.onnx"]["times_faster"], "times_faster" in files["int8.arm.onnx"]) == (1.0, False)


def test_every_backend_has_an_artifact_that_verify_can_tell(result):
    for entry in BACKENDS.entries().values():
        assert entry.artifact.endswith((".onnx", ".ts")) or entry.artifact == "simulation.safetensors"
