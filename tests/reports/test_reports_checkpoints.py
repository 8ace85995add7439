"""Files that people gave in a checkpoint's place, or that hold the weights in another form than expected."""

import pickle
import sys
import warnings
from types import ModuleType

import numpy as np
import pytest
import torch
from helpers import run_here, write_tiny
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


@pytest.mark.parametrize("size", [(3, 7), (3, 700, 700)])
@pytest.mark.parametrize("protocol", [2, 4])
def test_arrays_in_the_tensors_place(size, protocol, tmp_path):
    arrays = {"conv.weight": np.zeros(size, np.float32)}
    torch.save(arrays, tmp_path / "arrays.pth", pickle_protocol=protocol)
    fix = refused(tmp_path / "arrays.pth", "pickled Python objects")
    assert "torch.from_numpy(values)" in fix or protocol == 4
    (tmp_path / "weights.pkl").write_bytes(pickle.dumps(arrays, protocol))
    refused(tmp_path / "weights.pkl", "Python pickle that torch.save did not write")


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
