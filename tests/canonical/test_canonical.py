"""The canonical form computes the same function, in a small set of operations, for every way to write a network."""

import pytest
import torch
from constant_networks import CONSTANT_NETWORKS, PADDED_NETWORKS, PERMUTED_NETWORKS
from gated_networks import GATED_NETWORKS, NORMALISED_NETWORKS
from odd_networks import ISLAND_NETWORKS, ODD_NETWORKS, REFUSED_NETWORKS, after_conv
from quantized import QUICK_NETWORKS, SMALL_NETWORKS, run, small_network, smooth_images, trained
from spelled_networks import SPELLED_NETWORKS
from tiers import in_tiers
from token_networks import TOKEN_NETWORKS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.canonical.graph import operation
from qface_toolkit.errors import UnsupportedModel


def check_same(network, input_size):
    images = smooth_images(input_size, count=2)
    expected = run(network, images)
    canonical = canonicalise(network, input_size)
    error = abs(run(canonical, images) - expected).max() / abs(expected).max()
    assert error < 1e-5, f"the canonical form is off by {error:.2e} of the largest number"
    return canonical


@pytest.mark.parametrize("name", in_tiers(SMALL_NETWORKS, fast=QUICK_NETWORKS))
def test_every_layout_computes_the_same(name):
    check_canonical(check_same(*small_network(name)))


SPELLINGS = (
    ODD_NETWORKS
    | CONSTANT_NETWORKS
    | PADDED_NETWORKS
    | PERMUTED_NETWORKS
    | GATED_NETWORKS
    | NORMALISED_NETWORKS
    | ISLAND_NETWORKS
    | SPELLED_NETWORKS
    | TOKEN_NETWORKS
)
LONG = (
    "a number minus",
    "attention between channels",
    "attention over channels and pixels",
    "encoder with normalisation first",
    "encoder with normalisation last",
    "excitation twice",
    "excitation with norm",
    "mean and deviation",
    "rarer activations",
    "selective kernels",
    "transformer",
    "windows",
    "windows counted in Python",
)
"""Each takes as long as ten others, of whose parts it is made."""
SHORT = [name for name in SPELLINGS if name not in LONG]
"""Every other one of these runs always: neighbours are alike."""


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("name", in_tiers(SPELLINGS, fast=SHORT[::2]))
def test_every_spelling_computes_the_same(name):
    check_canonical(check_same(trained(SPELLINGS[name]), (16, 16)))


def test_a_parameter_that_became_a_module_is_kept_once():
    """A saved network would otherwise hold a weight that the network built from its description has not."""
    network = ODD_NETWORKS["functional prelu"]
    canonical = canonicalise(network, (16, 16))
    called = tuple(f"{node.target}." for node in canonical.graph.nodes if node.op == "call_module")
    assert "w" in network.state_dict()
    assert all(name.startswith(called) for name in canonical.state_dict())


def check_canonical(network):
    """Check what lowerings rely on; a BatchNorm that is not there cannot move while fine-tuning."""
    assert not any(isinstance(module, _BatchNorm | nn.Dropout) for module in network.modules())
    assert all(operation(node) for node in network.graph.nodes)
    for node in network.graph.nodes:
        if operation(node) == "prelu":
            slopes = network.get_submodule(node.target).weight
            assert slopes.abs().max() <= 1
        if operation(node) in ("relu", "relu6"):
            assert operation(node.args[0]) in ("conv", "linear", "add")
            assert list(node.args[0].users) == [node]
        if operation(node) == "concat":
            parts = {operation(part) for part in node.args[0]}
            assert not parts & {"sigmoid", "hard_sigmoid"}, "a gate would share its range"
        if operation(node) == "prelu":
            assert operation(node.args[0]) not in ("sigmoid", "hard_sigmoid")


@pytest.mark.parametrize("name", REFUSED_NETWORKS)
def test_what_no_lowering_knows_is_refused_by_name(name):
    network, message = REFUSED_NETWORKS[name]
    with pytest.raises(UnsupportedModel, match=message) as caught:
        canonicalise(network.eval(), (16, 16))
    assert caught.value.fix


def test_a_wrong_input_size_is_refused_without_a_traceback(capfd):
    network, _ = small_network("iresnet")
    with pytest.raises(UnsupportedModel, match="does not run on an input"):
        canonicalise(network, (48, 48))
    assert capfd.readouterr().err == ""


def test_the_network_given_is_left_alone():
    network = trained(after_conv(lambda s, x: s.a(s.b(x)), a=nn.PReLU(8), b=nn.BatchNorm2d(8)))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    canonicalise(network, (16, 16))
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in before.items())


def test_no_layer_is_added_where_none_is_needed():
    network, size = small_network("mobilefacenet")
    convolutions = sum(isinstance(module, nn.Conv2d) for module in network.modules())
    canonical = canonicalise(network, size)
    layers = [operation(node) for node in canonical.graph.nodes if operation(node) in ("conv", "linear")]
    assert len(layers) == convolutions


FOLDING = (
    "times a number",
    "scaled residual",
    "torch functions",
    "times of the input, no border",
    "vectors behind linear",
    "scale before a padded conv",
    "scale behind a concat",
    "norm of a flat conv",
    "pad",
    "pad below and right",
    "pad and cut",
    "borders cut",
    "channels last, norm",
    "no-op",
)


@pytest.mark.parametrize("name", FOLDING)
def test_constants_padding_and_permutations_fold_into_layers_that_are_there(name):
    network = trained(SPELLINGS[name])
    images, canonical = torch.from_numpy(smooth_images((16, 16))), canonicalise(network, (16, 16))
    called = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda *_: called.append(1))
    network(images)
    layers = [node for node in canonical.graph.nodes if operation(node) in ("conv", "linear")]
    assert len(layers) == len(called), f"{[node.name for node in layers]}"


def test_a_preactivation_norm_becomes_one_depthwise_conv():
    network, size = small_network("iresnet")
    canonical = canonicalise(network, size)
    pointwise = [
        module
        for module in canonical.modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == module.in_channels > 1
    ]
    assert len(pointwise) == 5, "one for each block's first BatchNorm; the last one folds into the linear layer"


class Joined(nn.Module):
    """A BatchNorm behind what is joined: a tensor to itself along an axis, or to another."""

    def __init__(self, axis):
        super().__init__()
        self.conv, self.axis, self.norm = nn.Conv2d(3, 4, 1), axis, nn.BatchNorm2d(8 if axis == 1 else 4)
        self.norm.weight.data.uniform_(0.5, 2)
        self.norm.running_mean.normal_()

    def forward(self, x):
        x = self.conv(x)
        return self.norm(torch.cat([x, x], self.axis)).flatten(1)


@pytest.mark.parametrize("axis", [1, 2])
def test_a_norm_behind_what_is_joined_to_itself(axis):
    network = Joined(axis).eval()
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected, found = network(images), canonicalise(network, (8, 8))(images)
    assert float((found - expected).abs().max()) < 1e-5
