"""The embedded demo model against what its card promises, on drawings of people whose attributes it never saw."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from qface_toolkit.models import load_model
from qface_toolkit.scoring.identities import verify_identities
from qface_toolkit.sources import find_set, load_crops

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "qface_toolkit" / "models" / "demo.safetensors"


@pytest.fixture(scope="module")
def baselines():
    spec = importlib.util.spec_from_file_location("demo_baselines", ROOT / "benchmarks" / "demo_baselines.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_embedded_model_is_recognised_and_small():
    model = load_model("demo")
    assert DEMO.stat().st_size <= 6_000_000
    assert (model.spec.input_size, model.spec.embedding_size) == ((112, 112), 128)
    assert model.spec.license == "Apache-2.0"
    assert "drawings" in model.spec.origin


def test_principal_components_find_the_direction_that_varies(baselines):
    rng = np.random.default_rng(0)
    pattern = rng.integers(0, 40, (8, 8, 3))
    strengths = rng.integers(0, 6, 30)
    crops = (strengths[:, None, None, None] * pattern).astype(np.uint8)
    found = baselines.principal_components(crops, crops, count=1)[:, 0]
    assert abs(np.corrcoef(found, strengths)[0, 1]) == pytest.approx(1, abs=1e-4)


def test_colour_histograms_ignore_where_a_colour_is(baselines):
    crops = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    turned = crops[:, ::-1, ::-1]
    assert np.array_equal(baselines.colour_histograms(crops), baselines.colour_histograms(turned))
    assert not np.array_equal(*baselines.colour_histograms(crops))


@pytest.mark.slow
def test_people_never_seen_are_told_apart():
    model, named = load_model("demo"), find_set("drawings-heldout")
    crops = load_crops(named.open())
    with torch.inference_mode():
        batches = np.array_split(model.spec.preprocess(crops), 16)
        embeddings = np.concatenate([model.network(torch.from_numpy(batch)).numpy() for batch in batches])
    figures = verify_identities(embeddings, np.arange(len(crops)) // named.parameters["images_per_identity"])
    assert figures.pair_accuracy >= 0.95, figures


@pytest.mark.slow
def test_colours_and_pixels_alone_do_not_tell_people_apart(baselines):
    for name, accuracy in baselines.baselines().items():
        assert 0.5 < accuracy < 0.75, name
