"""What makes a network quick changes nothing of what it computes, and is taken back."""

import copy

import pytest
import torch
from torch import nn

from qface_toolkit.models import build_student
from qface_toolkit.training.pupil import Pupil, QuickPReLU, QuickSequence, Sizes, quicken, slow


def shaken(network):
    """Let slopes and statistics differ from channel to channel."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, -0.5, 0.5)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return network.double()


def learnt(network, images):
    out = network(images)
    (out * torch.linspace(-1, 1, out.shape[1])).sum().backward()
    return out.detach(), [parameter.grad for parameter in network.parameters()]


@pytest.mark.parametrize(("name", "size"), [("pocketnet-s-128", 112), ("mobilefacenet", 96), ("iresnet18", 112)])
def test_a_quick_network_computes_and_learns_the_same(name, size):
    plain = shaken(build_student(name, width=0.125).network).train()
    quick = copy.deepcopy(plain)
    quicken(quick)
    assert any(isinstance(module, QuickPReLU) for module in quick.modules())
    assert any(isinstance(module, QuickSequence) for module in quick.modules()) == name.startswith("pocketnet")
    images = torch.randn(2, 3, 112, size).double()
    (one, gradients), (other, quicker) = learnt(plain, images), learnt(quick, images)
    torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-10)
    for found, wanted in zip(quicker, gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-9)


def test_quickness_is_taken_back_and_leaves_the_keys():
    network = build_student("pocketnet-s-128", width=0.125).network
    classes, keys = [type(module) for module in network.modules()], list(network.state_dict())
    quicken(network)
    assert list(network.state_dict()) == keys
    slow(network)
    assert [type(module) for module in network.modules()] == classes


def test_one_slope_for_all_channels_learns_too():
    quick = nn.Sequential(nn.Conv2d(3, 4, 1), nn.PReLU())
    plain = copy.deepcopy(quick)
    quicken(quick)
    images = torch.randn(2, 3, 5, 5)
    for one in (quick, plain):
        one(images).square().sum().backward()
    torch.testing.assert_close(quick[1].weight.grad, plain[1].weight.grad)


def test_a_projection_shows_the_teacher_another_size_and_is_no_part_of_the_network():
    pupil = Pupil(nn.Linear(3, 8), Sizes(8, shown=5, traits=2), seed=0)
    said = pupil(torch.randn(4, 3))
    assert (said.embeddings.shape, said.shown.shape, said.traits.shape) == ((4, 8), (4, 5), (4, 2))
    assert set(pupil.network.state_dict()) == {"weight", "bias"}
    again = Pupil(nn.Linear(3, 8), Sizes(8, shown=5, traits=2), seed=0)
    assert torch.equal(pupil.projection.weight, again.projection.weight)


def test_what_is_compared_is_float32_where_the_network_is_in_halves():
    pupil = Pupil(build_student("mobilefacenet", width=0.125).network, Sizes(256, 16, 5), 0).train()
    with torch.autocast("cpu", torch.bfloat16):
        said = pupil(torch.randn(2, 3, 112, 112))
    assert {part.dtype for part in said[:4] if part is not None} == {torch.float32}
    loss = nn.functional.mse_loss(said.shown, torch.randn(2, 16)) + nn.functional.mse_loss(
        said.traits, torch.randn(2, 5)
    )
    loss.backward()
    assert all(torch.isfinite(one.grad).all() for one in (pupil.projection.weight, pupil.guess.weight))
