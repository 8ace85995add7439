"""What was looked into is what runs: a file that is exchanged meanwhile changes nothing, and no number is believed."""

import hashlib
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from qface_toolkit import verifier
from qface_toolkit.backends import _onnx_files, torch_int8
from qface_toolkit.backends._torch_archive import stated_input
from qface_toolkit.errors import ArtifactError, CheckpointError
from qface_toolkit.models import ModelSpec, _checkpoint
from qface_toolkit.pipeline import _benchmark
from qface_toolkit.result import opening

MOMENTS = {
    "float.onnx": (_onnx_files, "_image_input"),
    "int8.x86.onnx": (_onnx_files, "_image_input"),
    "int8.x86.ts": (torch_int8, "stated_input"),
    "tiny.pth": (_checkpoint, "flatten_state"),
    "weights.safetensors": (_checkpoint, "flatten_state"),
}
"""File -> what is called after it was looked into and before it is run."""
DIGITS = "1" * 5000


def exchange_at(moment, file, monkeypatch):
    """Have another file take the place of one as soon as a function is called."""
    module, name = moment
    original = getattr(module, name)

    def exchange(*args, **options):
        other = file.with_name("other")
        other.write_bytes(b"not a network")
        other.replace(file)
        return original(*args, **options)

    monkeypatch.setattr(module, name, exchange)


@pytest.mark.parametrize("name", MOMENTS)
def test_a_file_that_is_exchanged_while_it_is_opened(name, finished, tmp_path, monkeypatch):
    source = finished / name if name == "tiny.pth" else finished / "out" / name
    if name == "weights.safetensors":
        source = tmp_path / "source.safetensors"
        save_file(torch.load(finished / "tiny.pth", weights_only=True)["net_state_dict"], source)
    inputs = np.ones((1, 3, 112, 96), np.float32)
    expected = opening.open_embedder(source, opening.Wanted({}))
    file = shutil.copy(source, tmp_path / name)
    exchange_at(MOMENTS[name], file, monkeypatch)
    opened = opening.open_embedder(file, opening.Wanted({}))
    assert file.read_bytes() == b"not a network"
    assert np.array_equal(opened.run(inputs), expected.run(inputs))
    assert opened.sha256 == expected.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()


def test_a_file_that_is_exchanged_before_it_is_timed(finished, tmp_path, monkeypatch):
    file = shutil.copy(finished / "out" / "int8.x86.onnx", tmp_path / "int8.x86.onnx")
    exchange_at((_onnx_files, "_image_input"), file, monkeypatch)
    assert _benchmark.benchmark([file], rounds=3).models[0].latency.samples_ms
    assert file.read_bytes() == b"not a network"


@pytest.mark.parametrize("text", [f"[{DIGITS}, 112]", "[²²², 112]", "[112]", "[0, 112]", "[257, 112]", "[-1, 5]"])
def test_an_input_size_that_is_none(text, tmp_path):
    with pytest.raises(ArtifactError, match="how large its input is"):
        stated_input({"qface.input_size": text}, tmp_path)


@pytest.mark.parametrize("text", [DIGITS, f"1.{DIGITS}", "²"])
def test_a_version_of_many_digits_is_no_number(text):
    assert verifier._numbers(text) in ((), (1,))


@pytest.mark.parametrize("size", [(512, 160), (257, 112), (112, 0), (-4, 112)])
def test_no_facts_speak_of_images_that_show_no_face(size):
    with pytest.raises(CheckpointError, match="sides of 4 to 256 pixels are supported"):
        ModelSpec("net", size, 128)
