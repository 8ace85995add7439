"""Networks with convolutions of groups among others, and every form that a file may write them in."""

import torch
from quantized import calibrated, smooth_images, trained
from torch import nn

from qface_toolkit.canonical.graph import module
from qface_toolkit.quantize.groups import GroupForm, group_forms_of, has_groups

SIZE = (16, 16)


class Grouped(nn.Module):
    """A convolution of groups between two others, with activations and whatever reads the same tensors."""

    def __init__(self, inputs, outputs, groups, kernel=3, stride=1, activation=nn.PReLU, around="dense"):
        super().__init__()
        act = {nn.PReLU: nn.PReLU, nn.ReLU6: lambda _: nn.ReLU6(), nn.Sigmoid: lambda _: nn.Sigmoid()}[activation]
        self.around, wide = around, outputs
        self.first, self.before = nn.Conv2d(3, inputs, 3, 1, 1), act(inputs)
        self.middle = nn.Conv2d(inputs, inputs, 3, 1, 1, groups=inputs)
        self.grouped = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm, self.behind = nn.BatchNorm2d(outputs), act(outputs)
        self.last = nn.Conv2d(wide, 8, 1)
        self.beside = nn.Conv2d(inputs, outputs, 1, stride)
        self.again = nn.Conv2d(outputs, outputs, 3, 1, 1, groups=groups)
        self.fc = nn.Linear(8 * (SIZE[0] // stride) ** 2, 12)

    def forward(self, x):
        x = self.before(self.first(x))
        if self.around == "depthwise":
            x = self.middle(x)
        y = self.behind(self.norm(self.grouped(x)))
        if self.around == "sum":
            y = y + self.beside(x)
        if self.around == "chain":
            y = self.again(y)
        return self.fc(torch.flatten(self.last(y), 1))


def model_of(**wanted):
    torch.manual_seed(0)
    return calibrated(trained(Grouped(**wanted)), SIZE, smooth_images(SIZE))


def forms_of(model):
    """Return every form of the convolutions of groups of a model, the same for all of them."""
    layers = {node.name: module(node) for node in model.network.graph.nodes if has_groups(node)}
    assert layers
    every = dict.fromkeys(form for layer in layers.values() for form in group_forms_of(layer))
    return [{name: form for name, layer in layers.items() if form.fits(layer)} for form in every]


IN_THE_LANE = {
    "groups-interleaved": ({"inputs": 16, "outputs": 16, "groups": 8}, GroupForm(interleaved=True)),
    "groups-together": ({"inputs": 16, "outputs": 16, "groups": 8, "stride": 2}, GroupForm(4)),
    "groups-moved": ({"inputs": 8, "outputs": 16, "groups": 4, "around": "sum"}, GroupForm(interleaved=True)),
    "groups-in-turn": ({"inputs": 16, "outputs": 16, "groups": 4, "around": "chain"}, GroupForm(interleaved=True)),
}
"""Name -> a network and the form of its groups, for what is run on other processors."""


def lane_model(name):
    """Return the model of a network of IN_THE_LANE in its form, and the network."""
    wanted, form = IN_THE_LANE[name]
    torch.manual_seed(0)
    network = trained(Grouped(**wanted))
    model = calibrated(network, SIZE, smooth_images(SIZE))
    return model.with_groups({node.name: form for node in model.network.graph.nodes if has_groups(node)}), network
