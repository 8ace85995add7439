"""A model whose every number is chosen, so that what is made of it is the same on every machine."""

import torch
from torch import nn

from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.model import new_model
from qface_toolkit.quantize.scheme import Range


class Tiny(nn.Module):
    """One of each: convolution with PReLU, ReLU6, addition, both pools, concatenation and the linear layer."""

    def __init__(self):
        super().__init__()
        self.stem, self.slopes = nn.Conv2d(3, 2, 3, 2, 1), nn.PReLU(2)
        self.left, self.right = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3, 1, 1, groups=2)
        self.clamp, self.pool, self.average = nn.ReLU6(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        x = self.slopes(self.stem(x))
        x = torch.cat([self.clamp(self.left(x)) + x, self.right(x)], 1)
        return self.fc(torch.flatten(self.average(self.pool(x)), 1))


def golden_model():
    """Return a model whose every number is chosen, so that its file is the same on every machine."""
    network = Tiny().eval()
    for number, parameter in enumerate(network.parameters()):
        steps = torch.arange(parameter.numel()).reshape(parameter.shape)
        parameter.data = ((steps * 7 + number) % 17 - 8) / 16
    model = new_model(canonicalise(network, (8, 8)), ModelSpec("tiny", (8, 8), 2))
    chosen = {owner: Range(-float(number), number + 1.0) for number, owner in enumerate(model.plan.owners())}
    return model.with_ranges(chosen | {owner: Range(0.0, 6.0) for owner in model.plan.clamps})


def golden_images():
    """Return two images for it, float32 [2, 3, 8, 8], of chosen numbers in 0..1."""
    steps = torch.arange(2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
    return ((steps * 37 % 101) / 100).float().numpy()
