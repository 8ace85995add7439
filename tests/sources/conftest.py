"""What the tests of this folder share: the model that sources are opened for."""

import numpy as np
import pytest
import torch
from torch import nn

from qface_toolkit.models import from_module
from qface_toolkit.sources import find_set, load_crops


@pytest.fixture(scope="session")
def trained_on():
    """Return images that drawings can be told from: held out, and of half the contrast, uint8 [16, 112, 112, 3]."""
    return (load_crops(find_set("drawings-heldout").open(16)) // 2 + 80).astype(np.uint8)


@pytest.fixture(scope="session")
def tiny_float(trained_on):
    """Return a small model that eats the middle 96 columns, whose BatchNorm statistics are those of `trained_on`."""
    torch.manual_seed(0)
    first, second = (nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.PReLU(8)), (nn.Conv2d(8, 8, 3, 2), nn.BatchNorm2d(8))
    ends = nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6), nn.BatchNorm1d(6)
    model = from_module(nn.Sequential(*first, *second, *ends), input_size=(112, 96), mean=(120.0, 130.0, 110.0))
    for layer in model.network.train():
        layer.momentum = None  # the plain average of all batches, here of one
    with torch.no_grad():
        model.network(torch.from_numpy(model.spec.preprocess(trained_on)))
    model.network.eval()
    return model
