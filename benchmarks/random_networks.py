"""Networks with random weights and the BatchNorm statistics that drawings give them, for measuring speed.

Nobody can say what such a network's embeddings are worth, but its layers have the sizes and its activations the spread
of a trained one's, which is what time depends on.
"""

import numpy as np
import torch
from torch import nn

from qface_toolkit.models import ARCHITECTURES, FloatModel, from_module
from qface_toolkit.sources._sets import find_set

IMAGES = 32


def random_network(architecture: str, seed: int = 0) -> FloatModel:
    """Return a published architecture with weights drawn from a seed, in eval mode."""
    torch.manual_seed(seed)
    network = ARCHITECTURES.get(architecture).published.build()
    for module in network.modules():
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, -0.2, 0.4)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # the plain average over all batches
    model = from_module(network, name=architecture)
    images = find_set("drawings").open(count=IMAGES)
    inputs = model.spec.preprocess(np.stack([images.crop(index) for index in range(IMAGES)]))
    with torch.no_grad():
        network.train()(torch.from_numpy(inputs))
    network.eval()
    return model
