"""Files that people gave in a checkpoint's place, or that hold the weights in another form than expected."""

import pickle
import sys
import warnings
import zipfile
from argparse import Namespace
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from helpers import run_here, write_tiny
from tiers import in_tiers
from torch import nn

from qface_toolkit.errors import CheckpointError
from qface_toolkit.models import ARCHITECTURES, load_model


def refused(path, match):
    """Return the fix that a file's refusal gives."""
    with pytest.raises(CheckpointError, match=match) as raised:
        load_model(path)
    assert str(path) in raised.value.where
    return raised.value.fix


@pytest.fixture
def foreign(monkeypatch):
    """A network of a module that exists where the checkpoint was made, and not here."""
    module = ModuleType("their_models")
    module.ResNet = type("ResNet", (nn.Module,), {"__module__": "their_models"})
    monkeypatch.setitem(sys.modules, "their_models", module)
    network = module.ResNet()
    network.conv = nn.Conv2d(3, 4, 3)
    return network


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["arcface_checkpoint.tar", "model.pth.tar", "BEST_checkpoint.tar"])
def test_whole_networks_that_call_themselves_archives(name, zipped, foreign, tmp_path):
    whole = {"epoch": 3, "model": nn.DataParallel(foreign)} if name.startswith("BEST") else foreign
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older form keeps the source of modules, which there is none of here
        torch.save(whole, tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert "torch.save(model.state_dict()" in refused(tmp_path / name, "pickled Python objects.*their_models ResNet")


def test_weights_that_call_themselves_an_archive(tmp_path):
    assert load_model(write_tiny(tmp_path / "model_best.pth.tar")).spec.embedding_size == 32


@pytest.mark.parametrize(
    "head",
    [
        {"weight": torch.zeros(1000, 512)},
        {"kernel": torch.zeros(512, 1000), "t": torch.zeros(1)},
        {"module.weight": torch.zeros(512, 1000), "module.bias": torch.zeros(1000)},
    ],
)
def test_a_head_in_the_backbones_place(head, tmp_path):
    torch.save(head, tmp_path / "Head_ArcFace.pth")
    assert "backbone's own file" in refused(tmp_path / "Head_ArcFace.pth", "no convolution.*classifier")


@pytest.mark.parametrize("size", [(3, 7), (3, 512, 3, 3), pytest.param((4096, 4200), marks=pytest.mark.slow)])
@pytest.mark.parametrize("within", ["state_dict", None])
def test_arrays_in_the_tensors_place(size, within, tmp_path):
    arrays = {"conv.weight": np.zeros(size, np.float32)}
    torch.save({within: arrays} if within else arrays, tmp_path / "arrays.pth")
    fix = refused(tmp_path / "arrays.pth", "no state dict|pickled Python objects.*numpy")
    assert "torch.from_numpy(values)" in fix
    (tmp_path / "weights.pkl").write_bytes(pickle.dumps(arrays, 2))
    refused(tmp_path / "weights.pkl", "Python pickle that torch.save did not write")


class ModelCheckpoint:
    """A callback, under whose class older versions of Lightning save its state."""


ModelCheckpoint.__module__ = "pytorch_lightning.callbacks.model_checkpoint"


class AttributeDict(dict):
    """Hyperparameters as Lightning saves them."""


AttributeDict.__module__ = "pytorch_lightning.utilities.parsing"


class EasyDict(dict):
    """A configuration that keeps each entry twice."""


EasyDict.__module__ = "easydict"

BESIDE = {
    "a number of NumPy's": lambda: np.float64(0.99),
    "another": lambda: np.float32(0.5),
    "a history": lambda: [np.arange(3), np.array(["a", "b"])],
    "arguments": lambda: Namespace(lr=0.1, data=Path("/data"), sizes=[1, 2], when=timedelta(1)),
    "a time": lambda: datetime(2024, 1, 1, tzinfo=UTC),
    "losses": lambda: defaultdict(list, {"arc": [1.0, 2.0]}),
    "a set": lambda: {1, 2, 3},
    "types": lambda: (torch.float16, torch.Size([1, 2]), torch.device("cpu"), slice(1, 2), 1j),
    "random states": lambda: (torch.get_rng_state(), np.random.get_state()),
    "hyperparameters": lambda: AttributeDict(backbone="ir_101", m=0.4),
    "callbacks": lambda: {ModelCheckpoint: {"best_model_score": torch.tensor(0.9), "monitor": "val_acc"}},
    "a configuration": lambda: _easy(rate=0.1),
}


def _easy(**entries):
    made = EasyDict(entries)
    made.__dict__.update(entries)
    return made


@pytest.fixture
def modules_of_theirs(monkeypatch):
    """Let pickle find the classes under the names that they have where the checkpoint was made."""
    for kind in (ModelCheckpoint, AttributeDict, EasyDict):
        parts = kind.__module__.split(".")
        for end in range(1, len(parts) + 1):
            monkeypatch.setitem(sys.modules, ".".join(parts[:end]), ModuleType(parts[end - 1]))
        setattr(sys.modules[kind.__module__], kind.__name__, kind)


@pytest.mark.parametrize("zipped", in_tiers((True, False), fast=[True]))
@pytest.mark.parametrize("name", BESIDE)
def test_plain_values_beside_the_weights(name, zipped, modules_of_theirs, tmp_path):
    path = write_tiny(tmp_path / "tiny.pth")
    content = {"epoch": 3, "best": BESIDE[name](), **torch.load(path), "again": BESIDE[name]()}
    torch.save(content, tmp_path / "last.pth", _use_new_zipfile_serialization=zipped)
    found, expected = load_model(tmp_path / "last.pth").network.state_dict(), load_model(path).network.state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_weights_in_a_mapping_of_another_kind(modules_of_theirs, tmp_path):
    path = write_tiny(tmp_path / "tiny.pth")
    weights = AttributeDict(torch.load(path)["net_state_dict"])
    torch.save({"state_dict": weights}, tmp_path / "last.pth")
    assert load_model(tmp_path / "last.pth").spec.embedding_size == 32


class Runs:
    """Writes a file when it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return Path.touch, (Path(self.place),)


def test_what_stands_for_a_path_touches_nothing(tmp_path):
    state = torch.load(write_tiny(tmp_path / "tiny.pth"))
    torch.save({**state, "args": Runs(tmp_path / "touched")}, tmp_path / "last.pth")
    refused(tmp_path / "last.pth", "pickled Python objects.*getattr|damaged")
    assert not (tmp_path / "touched").exists()


def test_a_network_that_has_no_key_in_common_with_any(tmp_path):
    torch.save(
        {f"{part}.{at}.w": torch.zeros(2, 3, 1, 1) for part in ("rgb", "ir", "depth", "fused") for at in range(10)},
        tmp_path / "other.pth",
    )
    fix = refused(tmp_path / "other.pth", "none has one of its 40 keys: rgb.0.w, rgb.1.w")
    assert "pass the network itself to the Python API" in fix


def test_another_depth_than_named_says_which_it_is(tmp_path):
    state = ARCHITECTURES.get("pocketnet-s-128").published.build().state_dict()
    torch.save(state, tmp_path / "backbone.pth")
    with pytest.raises(CheckpointError, match="not that of pocketnet-m-128; it looks like pocketnet-s-128") as raised:
        load_model(tmp_path / "backbone.pth", name="pocketnet-m-128")
    assert "--model pocketnet-s-128" in raised.value.fix


def test_a_refusal_is_a_sentence_and_no_traceback(tmp_path, monkeypatch, capsys):
    torch.save({"weight": torch.zeros(1000, 512)}, tmp_path / "head.pth")
    code, _, said = run_here(monkeypatch, capsys, "compress", tmp_path / "head.pth", "--out", tmp_path / "out")
    assert code == 1 and "Traceback" not in said and "to do: give the backbone's own file" in said


def test_strings_of_python_two_beside_the_weights(tmp_path):
    state = torch.load(write_tiny(tmp_path / "tiny.pth"))
    torch.save({"place": "????", **state}, tmp_path / "three.pth")
    said, bytes_of_two = b"X\x04\x00\x00\x00????", b"U\x04\xc3\x28\xa0\xff"
    with (
        zipfile.ZipFile(tmp_path / "three.pth") as three,
        zipfile.ZipFile(tmp_path / "two.pth.tar", "w", zipfile.ZIP_STORED) as two,
    ):
        for name in three.namelist():
            content = three.read(name)
            assert content.count(said) == name.endswith("data.pkl")
            two.writestr(name, content.replace(said, bytes_of_two))
    assert load_model(tmp_path / "two.pth.tar").spec.embedding_size == 32


PAGES = {
    b"<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title>": "web page",
    b"<html>\n<head><title>404 Not Found</title></head>": "web page",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n": "Git LFS",
}


@pytest.mark.parametrize("content", PAGES)
def test_what_a_failed_download_leaves(content, tmp_path):
    (tmp_path / "20180402-114759-vggface2.pt").write_bytes(content)
    assert "download" in refused(tmp_path / "20180402-114759-vggface2.pt", PAGES[content])
