"""The real checkpoints: the loader is right only if it gives the scores that others measured with the same weights."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from pairs import pair_accuracy, read_pairs

from qface_toolkit.models import load_model

SHARED = Path(__file__).parents[3] / "shared"
BATCH = 20

pytestmark = pytest.mark.shared

KNOWN_ACCURACY = {"mobilefacenet_prelu_112x96.ckpt": 0.98667, "mobilefacenet_relu6_112.pt": 0.99400}


@pytest.fixture(scope="module")
def pairs():
    return read_pairs(SHARED / "faces" / "pairs.bin")


def embed(model, crops):
    images = torch.from_numpy(model.spec.preprocess(crops))
    with torch.no_grad():
        return model.network(images).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN_ACCURACY)
def test_pair_accuracy_is_the_known_one(name, pairs):
    model = load_model(SHARED / "models" / name)
    crops, same = pairs
    embeddings = np.concatenate([embed(model, crops[at : at + BATCH]) for at in range(0, len(crops), BATCH)])
    accuracy = pair_accuracy(embeddings, same)
    # One pair of the 3,000 is 0.00033: a decoder of another version may turn one, a wrong layer turns hundreds.
    assert accuracy == pytest.approx(KNOWN_ACCURACY[name], abs=0.0007), accuracy


def test_prelu_checkpoint_is_recognised():
    model = load_model(SHARED / "models" / "mobilefacenet_prelu_112x96.ckpt")
    assert model.spec.name == "mobilefacenet"
    assert (model.spec.input_size, model.spec.embedding_size) == ((112, 96), 128)
    assert model.source_sha256.startswith("e839247cdbdfc023")
    assert model.notes == ("took the state dict from the key 'net_state_dict'",)


def test_relu6_checkpoint_computes_what_its_onnx_twin_does(pairs):
    model = load_model(SHARED / "models" / "mobilefacenet_relu6_112.pt")
    assert model.source_sha256.startswith("90a00ba1d8b0b688")
    session = onnxruntime.InferenceSession(SHARED / "models" / "mobilefacenet_relu6_112.onnx")
    crops = pairs[0][:8]
    ours = embed(model, crops)
    name = session.get_inputs()[0].name
    theirs = np.concatenate([session.run(None, {name: image[None]})[0] for image in model.spec.preprocess(crops)])
    assert np.abs(ours - theirs).max() < 1e-4, np.abs(ours - theirs).max()


def test_edgeface_computes_what_its_onnx_twin_does():
    model = load_model(SHARED / "models" / "others" / "edgeface_xxs.pth")
    assert (model.spec.name, model.spec.embedding_size, model.notes) == ("edgeface-xxs", 512, ())
    session = onnxruntime.InferenceSession(SHARED / "models" / "others" / "edgeface_xxs_b1.onnx")
    images = np.random.default_rng(0).normal(size=(8, 3, 112, 112)).astype(np.float32)
    with torch.no_grad():
        ours = model.network(torch.from_numpy(images)).numpy()
    name = session.get_inputs()[0].name
    theirs = np.concatenate([session.run(None, {name: image[None]})[0] for image in images])
    assert np.abs(ours - theirs).max() < 1e-4, np.abs(ours - theirs).max()
