"""A file that is no model says what it is and what to do with it, by its first bytes, whatever its name says."""

import gzip
import pickle
import shutil
import sys
import tarfile
import warnings
import zipfile

import numpy as np
import onnx
import pytest
import torch
from helpers import run_here, write_tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_files import export
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import qface_toolkit as qf
from qface_toolkit.errors import ArtifactError, CheckpointError
from qface_toolkit.models import load_model
from qface_toolkit.untrusted.formats import check_model_file


def number(value):
    low, rest = value & 127, value >> 7
    return bytes([low]) if not rest else bytes([low | 128]) + number(rest)


def field(place, content):
    """Return a field of bytes, as protobuf writes it."""
    return number(place << 3 | 2) + number(len(content)) + content


NODE = field(1, b"input") + field(2, b"Placeholder") + field(5, field(1, b"dtype") + field(2, b"\x30\x01"))
FOREIGN = {
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer of Git LFS", "git lfs pull"),
    "page": (b"\n<!DOCTYPE html><html>", "a web page", "download it again"),
    "answer": (b"Entry not found", "a text, which begins 'Entry not found'", "answer of a server"),
    "denied": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML text", "its own link"),
    "openvino": (b"<?xml version='1.0'?>\n<net name='x' version='11'>", "an OpenVINO network", "made from"),
    "json": (b'{"error": 1}', "a JSON text", "its own link"),
    "tfjs": (b'{"format": "graph-model", "modelTopology": {}}', "a TensorFlow.js network", "made from"),
    "symbol": (b'{\n  "nodes": [\n {"op": "null"}]}', "the symbol of an MXNet network", "export_model"),
    "params": (b"\x12\x01" + bytes(60), "an MXNet file of weights", "export_model"),
    "param": (b"7767517\n75 83\nInput data 0 1\n", "an ncnn network (.param)", "made from"),
    "param.bin": (b"\xdd\x85\x76\x00" + bytes(60), "an ncnn network (.param.bin)", "made from"),
    "prototxt": (b'name: "sphere"\nlayer {\n}\n', "a Caffe network (.prototxt)", "caffe2onnx"),
    "caffemodel": (field(1, b"sphere") + field(100, field(1, b"conv1")) * 3, "a Caffe network's weights", "caffe2onnx"),
    "older caffemodel": (field(1, b"CaffeNet") + field(2, field(4, b"c")) * 3, "a Caffe network's", "caffe2onnx"),
    "graph": (field(1, NODE) * 5 + field(4, b"\x08\x86\x01"), "a TensorFlow graph", "--graphdef w.file"),
    "saved model": (b"\x08\x01" + field(2, field(1, field(4, b"serve"))), "a TensorFlow SavedModel", "--saved-model"),
    "coreml": (b"\x08\x04" + field(2, field(1, b"x")) + field(500, bytes(400)), "a CoreML model", "made from"),
    "paddle": (field(1, b"\x08\x00\x10\x01" + field(3, field(1, b"x"))), "a Paddle network", "paddle2onnx"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(60), "a TensorFlow Lite model", "--tflite w.file"),
    "keras": (b"\x89HDF\r\n\x1a\n" + bytes(60), "a Keras file", "from_keras"),
    "ort": (b"\x1c\0\0\0ORTM" + bytes(60), "ONNX Runtime's own format", "the .onnx file"),
    "gzip": (gzip.compress(b"onnx"), "a gzip archive", "unpack it"),
    "array": (b"\x93NUMPY\x01" + bytes(60), "an array of NumPy's", "made from"),
    "pickle": (
        pickle.dumps({"a": [1.0]}),
        "a Python pickle that torch.save did not write",
        "torch.save(model.state_dict()",
    ),
    "old pickle": (pickle.dumps({"a": [1.0]}, 0), "a Python pickle that torch.save did not write", "torch.save(model"),
}


@pytest.mark.parametrize("ending", ["file", "onnx", "pth"])
@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_model_says_what_it_is(tmp_path, name, ending):
    content, what, fix = FOREIGN[name]
    path = tmp_path / f"w.{ending}"
    path.write_bytes(content)
    for look in (load_model, check_model_file):
        with pytest.raises(CheckpointError) as raised:
            look(path)
        assert what in raised.value.what
        assert fix.replace("w.file", path.name) in raised.value.fix


WHOLE = [content for content, *_ in FOREIGN.values()]


@given(st.sampled_from([*WHOLE, b"PK\x03\x04" + bytes(60)]), st.binary(max_size=40), st.integers(0, 80), st.booleans())
@settings(deadline=None, max_examples=300)
def test_damaged_bytes_are_told_or_refused_in_our_words(tmp_path_factory, content, noise, at, cut):
    path = tmp_path_factory.getbasetemp() / "damaged.model"
    path.write_bytes(content[:at] + noise + (b"" if cut else content[at + len(noise) :]))
    try:
        assert check_model_file(path) in ("onnx", "state", "torchscript", "safetensors", "unknown")
    except CheckpointError as error:
        assert error.fix


def test_names_are_asked_last(tmp_path):
    (tmp_path / "m.bin").write_bytes(np.linspace(-1, 1, 900, dtype="<f4").tobytes())
    with pytest.raises(CheckpointError, match="the weights of ncnn or OpenVINO by its name"):
        check_model_file(tmp_path / "m.bin")


def test_archives_name_the_model_inside(tmp_path):
    model = write_tiny(tmp_path / "backbone.pth")
    with zipfile.ZipFile(tmp_path / "w.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(model, "models/backbone.pth")
    with pytest.raises(CheckpointError, match="a zip archive") as raised:
        load_model(tmp_path / "w.zip")
    assert "'models/backbone.pth' inside" in raised.value.fix
    with tarfile.open(tmp_path / "w.tar", "w") as archive:
        archive.add(model, "w.pth")
    with pytest.raises(CheckpointError, match="a tar archive"):
        load_model(tmp_path / "w.tar")
    np.savez(tmp_path / "w.npz", a=np.zeros(3))
    with pytest.raises(CheckpointError, match="NumPy's arrays"):
        load_model(tmp_path / "w.npz")
    Image.new("RGB", (8, 8)).save(tmp_path / "w.jpg")
    with pytest.raises(CheckpointError, match="a JPEG picture"):
        load_model(tmp_path / "w.jpg")


def test_folders_name_the_model_inside(tmp_path):
    write_tiny(tmp_path / "backbone.pth")
    with pytest.raises(CheckpointError, match="this is a folder and no checkpoint") as raised:
        load_model(tmp_path)
    assert str(tmp_path / "backbone.pth") in raised.value.fix
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(CheckpointError, match="the folder of a TensorFlow SavedModel") as raised:
        load_model(tmp_path)
    assert f"--saved-model {tmp_path}" in raised.value.fix


def test_what_no_runtime_runs_is_to_be_compressed_first(tmp_path):
    path = write_tiny(tmp_path / "backbone.pth")
    for place in (path, tmp_path):
        with pytest.raises(ArtifactError, match="nothing to inspect") as raised:
            qf.inspect(place)
        assert f"qface compress {path} --out DIR" in raised.value.fix


def test_a_student_is_meant_before_its_snapshots(tmp_path):
    for name in ("epoch-001.safetensors", "student.safetensors"):
        write_tiny(tmp_path / name)
    with pytest.raises(ArtifactError, match="nothing to inspect") as raised:
        qf.inspect(tmp_path)
    assert f"qface compress {tmp_path / 'student.safetensors'} --out DIR" in raised.value.fix


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3, 2), nn.Linear(4, 8)

    def forward(self, x):
        return self.linear(self.conv(x).mean((2, 3)))


GIVEN = {"mean": 127.5, "std": 127.5, "color": "rgb"}


@pytest.mark.slow
def test_what_a_torchscript_program_is_told_to_do_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = Small().eval()
    torch.jit.trace(network, torch.zeros(1, 3, 112, 112)).save("net.pt")
    with pytest.raises(CheckpointError, match="a TorchScript program and not a checkpoint") as raised:
        load_model("net.pt")
    weights, export_it = (part[part.index("torch.") :] for part in raised.value.fix.split("; for a network"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(f"{weights}\n{export_it}", {"torch": torch})
    assert torch.equal(torch.load("weights.pth")["conv.weight"], network.conv.weight)
    assert load_model("model.onnx", overrides=GIVEN).spec.embedding_size == 8


def test_what_an_exported_program_is_told_to_do_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = Small().eval()
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3, 16, 16),)), "net.pt2")
    with pytest.raises(CheckpointError, match="a program of torch.export") as raised:
        load_model("net.pt2")
    exec(raised.value.fix[raised.value.fix.index("torch.save") :], {"torch": torch})
    assert torch.equal(torch.load("weights.pth")["conv.weight"], network.conv.weight)


def test_the_content_and_not_the_name_says_how_a_file_is_read(tmp_path):
    save_file(torch.load(write_tiny(tmp_path / "w.pth"))["net_state_dict"], tmp_path / "weights.onnx")
    assert load_model(tmp_path / "weights.onnx").spec.name == load_model(tmp_path / "w.pth").spec.name
    (tmp_path / "network.pth").write_bytes(export(Small(), (112, 112)))
    assert load_model(tmp_path / "network.pth", overrides=GIVEN).spec.embedding_size == 8
    save_file({"odd": torch.zeros(3)}, tmp_path / "odd.onnx")
    with pytest.raises(CheckpointError) as raised:
        load_model(tmp_path / "odd.onnx")
    assert raised.value.where.endswith("odd.onnx, which is a safetensors file")


@pytest.mark.parametrize("command", ["compress X --out OUT", "evaluate X --synthetic", "inspect X", "benchmark X"])
def test_no_command_imports_torch_to_say_so(command, tmp_path, monkeypatch, capsys):
    (tmp_path / "w.tflite").write_bytes(FOREIGN["tflite"][0])
    args = command.replace("X", str(tmp_path / "w.tflite")).replace("OUT", str(tmp_path / "out")).split()
    for module in [name for name in sys.modules if name.startswith("qface_toolkit.pipeline")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "qface_toolkit.pipeline", None)
    code, _, said = run_here(monkeypatch, capsys, *args)
    assert code == 1
    assert "a TensorFlow Lite model" in said


def test_weights_beside_a_file_may_be_a_pointer(tmp_path):
    onnx.save(
        onnx.load_from_string(export(Small(), (112, 112))),
        tmp_path / "net.onnx",
        save_as_external_data=True,
        location="net.data",
        size_threshold=0,
    )
    (tmp_path / "net.data").write_bytes(FOREIGN["pointer"][0])
    with pytest.raises(CheckpointError, match="'net.data' beside the ONNX file.* is a pointer of Git LFS") as raised:
        load_model(tmp_path / "net.onnx", overrides=GIVEN)
    assert "git lfs pull" in raised.value.fix


def test_a_runtimes_file_is_known_by_its_content(tmp_path):
    from qface_toolkit.backends import runner_of

    (tmp_path / "network.pth").write_bytes(export(Small(), (112, 112)))
    assert runner_of(tmp_path / "network.pth").artifact == "float.onnx"
    save_file({"odd": torch.zeros(3)}, tmp_path / "int8.x86.onnx")
    assert runner_of(tmp_path / "int8.x86.onnx") is None
    shutil.copy(tmp_path / "network.pth", tmp_path / "int8.x86.ts")
    assert runner_of(tmp_path / "int8.x86.ts").artifact == "float.onnx"
    (tmp_path / "w.onnx").write_bytes(FOREIGN["tflite"][0])
    with pytest.raises(ArtifactError, match="TensorFlow Lite"):
        runner_of(tmp_path / "w.onnx")
