"""The script that says what int8 costs networks that were trained on drawings: its figures are of the deployed file."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from qface_toolkit.models import from_module
from qface_toolkit.sources.procedural import Drawings, ProceduralOptions

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.slow
def test_scores_are_of_the_deployed_file(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    scorer = importlib.import_module("score_shapes")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 7, 7), nn.BatchNorm2d(8), nn.PReLU(8), nn.Flatten(), nn.Linear(8 * 256, 8))
    model = from_module(network, name="small")
    recipe = tmp_path / "few.yaml"
    recipe.write_text("version: 1\ncalibration: {count: 8, batch_size: 8}\nsteps: [calibrate: {}]\n")
    drawings = Drawings(ProceduralOptions(images_per_identity=2, attributes="heldout"), count=40, seed=7)
    crops = np.stack([drawings.crop(index) for index in range(40)])
    scores = scorer.score(model, tmp_path / "out", str(recipe), crops, np.arange(40) // 2)
    assert scores["agreement"]["count"] == 40
    assert 0.9 < scores["agreement"]["cosine_min"] < scores["agreement"]["cosine_mean"] < 0.999999
    float_embeddings = scorer.embed(tmp_path / "out" / "float.onnx", model, crops)
    with torch.no_grad():
        expected = network(torch.from_numpy(model.spec.preprocess(crops))).numpy()
    np.testing.assert_allclose(float_embeddings, expected, rtol=1e-3, atol=1e-4)
    assert f"{scores['agreement']['cosine_mean']:.5f}" in scorer.row("small", "few", scores)
