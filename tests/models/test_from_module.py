"""Any other network enters as an nn.Module; what it must be able to do is found out at once."""

import pytest
import torch
from torch import nn

from qface_toolkit.errors import CheckpointError, RecipeError
from qface_toolkit.models import from_module


def tiny(size=8):
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, size))


def test_embedding_size_is_found():
    network = tiny().train()
    model = from_module(network, mean=[1, 2, 3], std=128, color="bgr")
    assert model.network is network
    assert not network.training
    assert model.spec.name == "Sequential"
    assert (model.spec.input_size, model.spec.embedding_size) == ((112, 112), 8)
    assert (model.spec.mean, model.spec.std, model.spec.color) == ((1.0, 2.0, 3.0), (128.0, 128.0, 128.0), "bgr")


def test_given_embedding_size_is_checked():
    assert from_module(tiny(), embedding_size=8, name="mine").spec.name == "mine"
    with pytest.raises(CheckpointError, match="embeddings of 8 numbers, not 128"):
        from_module(tiny(), embedding_size=128)


def test_hash_follows_the_weights():
    network = tiny()
    before = from_module(network).source_sha256
    assert from_module(network).source_sha256 == before
    with torch.no_grad():
        network[3].bias[0] += 1
    assert from_module(network).source_sha256 != before


def test_hash_covers_counters_and_half_precision():
    network = nn.Sequential(tiny(), nn.BatchNorm1d(8))
    before = from_module(network).source_sha256
    network[1].num_batches_tracked += 1
    assert from_module(network).source_sha256 != before


class OnGpu(nn.Parameter):
    """A parameter that says it lies on a GPU, on a machine that has none."""

    device = torch.device("cuda")

    def __deepcopy__(self, memo):
        return nn.Parameter(self.detach().clone())


def test_network_on_a_gpu_stays_there():
    network = tiny().train()
    network[3].bias = OnGpu(network[3].bias.detach())
    model = from_module(network)
    assert model.network is not network
    assert network.training
    assert isinstance(network[3].bias, OnGpu)
    assert {parameter.device.type for parameter in model.network.parameters()} == {"cpu"}


def test_network_without_data_is_refused():
    with torch.device("meta"):
        network = tiny()
    with pytest.raises(CheckpointError, match="main memory"):
        from_module(network)


class Tuple(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)), x


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Conv2d(3, 4, 3), "not one embedding"),
        (Tuple(), "returns tuple"),
        (nn.Conv2d(1, 4, 3), "cannot take"),
        (nn.Bilinear(1, 1, 1), "cannot take"),
    ],
    ids=["map", "tuple", "channels", "two inputs"],
)
def test_networks_that_do_not_fit(network, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        from_module(network)
    assert caught.value.fix


def test_broken_weights_are_noticed():
    network = tiny()
    with torch.no_grad():
        network[3].bias[0] = float("nan")
    with pytest.raises(CheckpointError, match="NaN"):
        from_module(network)


def test_wrong_facts_are_listed():
    with pytest.raises(RecipeError, match=r"model.mean(.|\n)*model.std(.|\n)*model.color"):
        from_module(tiny(), mean="x", std=-1, color="grey")


@pytest.mark.parametrize("size", [(257, 112), (112, 512), (0, 112), (3, 112), (True, 112), 112, (112,)], ids=str)
def test_an_input_that_no_face_fills_is_refused(size):
    with pytest.raises(CheckpointError, match="input_size"):
        from_module(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), input_size=size)
