"""How far colours and pixels alone get on the demo model's task: what keeps its accuracy from being cheap.

    python benchmarks/demo_baselines.py

The same pairs of held-out drawings that the demo model is measured on, once with a joint colour histogram and once
with the principal components of the pixels, fitted on drawings of the training identities.
"""

import json
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from qface_toolkit.scoring.identities import verify_identities
from qface_toolkit.sources import Crop, find_set, load_crops

Floats = npt.NDArray[np.float32]


def colour_histograms(crops: Crop) -> Floats:
    """Return the square roots of each crop's joint colour histogram, 8 levels a channel, float32 [N, 512]."""
    levels = (crops // 32).astype(np.int64)
    bins = (levels[..., 0] * 64 + levels[..., 1] * 8 + levels[..., 2]).reshape(len(crops), -1)
    return np.sqrt(np.stack([np.bincount(row, minlength=512) for row in bins])).astype(np.float32)


def principal_components(crops: Crop, fitted_on: Crop, count: int = 128) -> Floats:
    """Return the crops' whitened principal components, fitted on other crops, float32 [N, count]."""
    known = fitted_on.reshape(len(fitted_on), -1).astype(np.float32)
    mean = known.mean(axis=0)
    known -= mean
    # The eigenvectors of the small matrix of inner products give those of the large covariance.
    values, vectors = np.linalg.eigh(known @ known.T)
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    directions = known.T @ (vectors / values)
    components: Floats = (crops.reshape(len(crops), -1).astype(np.float32) - mean) @ directions
    return components


def baselines() -> dict[str, float]:
    """Return the pair accuracy of both baselines on the held-out drawings."""
    named = find_set("drawings-heldout")
    crops = load_crops(named.open())
    labels = np.arange(len(crops)) // named.parameters["images_per_identity"]
    known = load_crops(find_set("drawings").open(count=1000))
    rows = {"colour_histogram": colour_histograms(crops), "pixel_pca": principal_components(crops, known)}
    return {name: asdict(verify_identities(features, labels))["pair_accuracy"] for name, features in rows.items()}


if __name__ == "__main__":
    print(json.dumps(baselines(), indent=2))
