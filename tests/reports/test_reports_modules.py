"""Modules that quantizers tripped over: functional slopes, checks of shapes, arguments for training, wrappers."""

import warnings

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from reported import EMBEDDING, SIZE, WIDTH, images, lived_in, module_rows, off, small_network
from torch import nn

import qface_toolkit as qf
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.errors import CheckpointError


def assert_taken(network):
    """Assert that a network is taken as it is, and brought to integers as what it computes in eval mode."""
    model = qf.from_module(network, input_size=SIZE)
    expected = module_rows(network.eval(), images(2))
    assert off(module_rows(canonicalise(model.network, SIZE), images(2)), expected) < 1e-5
    return model


class Face(nn.Module):
    """A convolution, something in between, and an embedding."""

    def __init__(self, between=lambda self, x: F.relu(x), **modules):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, WIDTH, 3, 2, 1), nn.Linear(WIDTH, EMBEDDING)
        self.between = between
        for name, module in modules.items():
            setattr(self, name, module)

    def embed(self, x):
        """Return the embedding."""
        x = self.between(self, self.conv(x))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))

    def forward(self, x):
        """Return the embedding."""
        return self.embed(x)


SLOPES = {
    "a parameter": (lambda s, x: F.prelu(x, s.w), {"w": nn.Parameter(torch.rand(WIDTH) / 2)}),
    "a module's": (lambda s, x: F.prelu(x, s.p.weight), {"p": nn.PReLU(WIDTH)}),
    "torch.prelu": (lambda s, x: torch.prelu(x, s.p.weight), {"p": nn.PReLU()}),
    "two rectifiers": (lambda s, x: F.relu(x) - s.w * F.relu(-x), {"w": nn.Parameter(torch.rand(WIDTH, 1, 1))}),
    "absolute": (lambda s, x: F.relu(x) + s.w * (x - x.abs()) * 0.5, {"w": nn.Parameter(torch.rand(WIDTH, 1, 1))}),
}


@pytest.mark.parametrize("name", SLOPES)
def test_slopes_without_their_module(name):
    between, modules = SLOPES[name]
    assert_taken(Face(between, **modules))


def _checked(self, x):
    if x.size(1) != WIDTH:
        return None
    return F.relu(x)


def _padded(_self, x):
    high, wide = x.size()[-2:]
    more, rest = max(-(-high // 5) * 5 - high, 0), max(-(-wide // 5) * 5 - wide, 0)
    if more > 0 or rest > 0:
        x = F.pad(x, [rest // 2, rest - rest // 2, more // 2, more - more // 2])
    return F.relu(x)


def _whole(_self, x):
    assert x.dim() == 4 and x.shape[-1] == x.shape[-2], "square maps alone"
    return F.relu(x) if x.shape[-1] > 4 else x


@pytest.mark.parametrize("between", [_checked, _padded, _whole])
def test_branches_on_shapes(between):
    assert_taken(Face(between))


def test_stubs_of_eager_quantization():
    parts = {"mul": torch.ao.nn.quantized.FloatFunctional(), "add": torch.ao.nn.quantized.FloatFunctional()}
    stubs = {"quant": torch.ao.quantization.QuantStub(), "back": torch.ao.quantization.DeQuantStub()}

    def slopes(self, x):
        x = self.quant(x)
        below = self.mul.mul(-self.w, F.relu(-x))
        return self.back(self.add.add(F.relu(x), below))

    assert_taken(Face(slopes, w=nn.Parameter(torch.rand(WIDTH, 1, 1)), **parts, **stubs))


def prepared(converted):
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = prepare_fx(small_network(), get_default_qconfig_mapping("x86"), (torch.zeros(1, 3, *SIZE),))
        network(torch.rand(4, 3, *SIZE))
        return convert_fx(network) if converted else network


@pytest.mark.parametrize("make", [lambda: prepared(converted=False), lambda: prepared(converted=True)])
def test_what_is_quantized_already_is_said_in_one_sentence(make):
    with pytest.raises(CheckpointError, match="prepared for quantization or quantized already") as raised:
        qf.from_module(make(), input_size=SIZE)
    assert "float network" in raised.value.fix


def test_a_network_left_in_training_mode():
    network = small_network().train()
    assert not assert_taken(network).network.training


class Gate(nn.Module):
    """A gate of one number a channel."""

    def __init__(self, channels):
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x):
        """Scale the channels."""
        gate = torch.sigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))
        return torch.mul(x, gate)


class Scales(nn.Module):
    """One gate on branches of several depths, summed, as person recognisers have it; a classifier for training."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, WIDTH, 7, 2, 3), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.one = self._light()
        self.two = nn.Sequential(self._light(), self._light())
        self.gate, self.fc, self.classes = Gate(WIDTH), nn.Linear(WIDTH, EMBEDDING), nn.Linear(EMBEDDING, 10)

    def _light(self):
        layers = nn.Conv2d(WIDTH, WIDTH, 1), nn.Conv2d(WIDTH, WIDTH, 3, 1, 1, groups=WIDTH), nn.BatchNorm2d(WIDTH)
        return nn.Sequential(*layers, nn.ReLU())

    def forward(self, x):
        """Return embeddings, or classes while training."""
        x = self.stem(x)
        x = F.relu(self.gate(self.one(x)) + self.gate(self.two(x)) + x)
        embedding = self.fc(F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1))
        return self.classes(embedding) if self.training else embedding


def test_one_gate_read_often_and_a_classifier_for_training():
    assert_taken(lived_in(Scales()))


class Headed(Face):
    """A network as it is trained: with labels it returns logits, and without them the embedding."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(EMBEDDING, 100)


class ByLabel(Headed):
    """One whose label may be left out."""

    def forward(self, x, label=None):
        """Return the embedding, or logits where a label is given."""
        embedding = self.embed(x)
        return embedding if label is None else self.head(embedding)


class ByKeyword(Headed):
    """One that is told by a word, after what only training needs."""

    def forward(self, x, *weights, features=True, **more):
        """Return the embedding, or logits."""
        embedding = self.embed(x)
        if weights or more.get("labels") is not None:
            embedding = embedding * weights[0]
        return embedding if features else self.head(embedding)


class ByStage(Headed):
    """One whose other arguments are flags and numbers, and whose forward computes with sizes."""

    def forward(self, x, return_loss=False, scale: float = 1.0, size=None):
        """Return the embedding, or its loss."""
        embedding = self.embed(x.view(x.shape[0], 3, *x.shape[2:] if size is None else size) * scale)
        return self.head(embedding).mean() if return_loss else embedding


class Decorated(Headed):
    """One whose forward stands in a decorator, as those of mixed precision do."""

    @torch.no_grad()
    def forward(self, x, label=None):
        """Return the embedding, or logits where a label is given."""
        return self.head(self.embed(x)) if label is not None else self.embed(x)


@pytest.mark.parametrize("make", [ByLabel, ByKeyword, ByStage, Decorated])
def test_arguments_that_only_training_gives(make):
    assert assert_taken(make()).spec.embedding_size == EMBEDDING


class Loss(Headed):
    """One that returns a loss unless it is told not to."""

    def forward(self, x, gt_label, return_loss=True):
        """Return a loss, or the embedding."""
        return self.head(self.embed(x)).mean() + gt_label if return_loss else self.embed(x)


def test_an_argument_that_must_be_given_is_asked_for_by_its_name():
    with pytest.raises(CheckpointError, match="gt_label") as raised:
        qf.from_module(Loss(), input_size=SIZE)
    assert "whose only input is the image" in raised.value.fix
