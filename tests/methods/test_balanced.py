"""Where equalization begins, and that its result does not depend on how a function is written."""

import math

import pytest
import torch
from quantized import calibrated, run, small_network, smooth_images
from rewritten_networks import REWRITES, killed, rewritten
from torch import nn

from qface_toolkit.analysis.channels import channel_classes, scaled
from qface_toolkit.canonical.canonicalise import canonicalise
from qface_toolkit.canonical.graph import inputs, operation
from qface_toolkit.integer.simulate import embed_as_integers
from qface_toolkit.methods import METHODS, Context
from qface_toolkit.methods._balanced import FARTHEST, balanced_start
from qface_toolkit.models import ModelSpec
from qface_toolkit.quantize.model import new_model
from qface_toolkit.quantize.target import ONNX
from qface_toolkit.scoring.agreement import row_cosines


def start(reach, weights, free=None):
    reach, weights = torch.tensor(reach), torch.tensor(weights)
    classes = torch.arange(weights.shape[1]).expand_as(weights)
    return balanced_start(
        reach, [(weights, classes)], torch.ones(len(reach), dtype=torch.bool) if free is None else free
    )


def test_equal_channels_stay_as_they_are():
    assert start([2.0, 2.0, 2.0], [[0.5, 0.5, 0.5]]).tolist() == [0.0, 0.0, 0.0]


def test_a_factor_is_undone_wherever_it_stands():
    reach, weights = torch.tensor([1.0, 3.0, 0.5]), torch.tensor([[0.2, 0.1, 0.4], [0.3, 0.2, 0.1]])
    factors, rows = torch.tensor([1e4, 1.0, 1e-4]), torch.tensor([[1e3], [1e-2]])
    before = start(reach.tolist(), weights.tolist())
    after = start((reach * factors).tolist(), (weights / factors * rows).tolist())
    made, now = before + reach.log(), after + (reach * factors).log()
    assert torch.allclose(made - made.mean(), now - now.mean(), atol=1e-4)


def test_channels_that_nobody_reads_together_all_reach_as_far():
    reach = torch.tensor([1.0, 30.0, 0.01])
    found = balanced_start(reach, [], torch.ones(3, dtype=torch.bool)) + reach.log()
    assert torch.allclose(found, found[:1].expand(3), atol=1e-5)


def test_a_dead_channel_is_read_no_louder_than_others():
    weights = [[0.5, 0.4, 5e3], [0.2, 0.5, 1e3]]
    found = start([1.0, 1.0, 0.0], weights).exp()
    assert (torch.tensor(weights) / found).abs().amax(0)[2] < 2.0


def test_bound_classes_stay_and_all_are_finite():
    free = torch.tensor([True, False, True, True])
    found = start([1e-38, 1.0, 0.0, 1e30], [[1e-30, 1.0, 0.0, 0.0]], free)
    assert found[1] == 0.0 and torch.isfinite(found).all() and found.abs().max() <= FARTHEST


def test_free_channels_are_balanced_with_bound_ones_of_their_tensor():
    reach, weights = torch.tensor([2.0, 0.5, 3.0]), torch.tensor([[0.3, 0.2, 0.4]])
    free, together = torch.tensor([True, True, False]), [torch.arange(3)]
    classes = torch.arange(3).expand(1, 3)
    before = balanced_start(reach, [(weights, classes)], free, together)
    larger = torch.tensor([1e3, 1e3, 1.0])
    after = balanced_start(reach * larger, [(weights / larger, classes)], free, together)
    assert torch.allclose(after + larger.log(), before, atol=1e-5)


def test_nothing_to_scale_is_nothing_scaled():
    assert start([0.0, 0.0], [[0.0, 0.0]]).tolist() == [0.0, 0.0]


def made(network, size, seen):
    """Return what int8-fast makes of a canonical network."""
    model = new_model(network, ModelSpec("test", size, 16))
    context = Context(seen, ONNX, 0, 16, lambda done, total: None)
    for step, options in (("equalize", {}), ("calibrate", {"observer": "minmax"}), ("correct_bias", {})):
        method = METHODS.get(step)
        model = method.run(model, method.options(**options), context)
    return model


def lost(network, size, seen, unseen, expected):
    """Return the mean loss in cosine of what int8-fast makes of a canonical network."""
    return 1 - float(row_cosines(embed_as_integers(made(network, size, seen), ONNX, unseen), expected).mean())


class Joined(nn.Module):
    """Free channels beside others that are bound by what makes them."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.PReLU(16))
        self.bound = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU6())
        self.free = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.PReLU(16))
        self.body = nn.Sequential(nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.PReLU(32), nn.Conv2d(32, 32, 3))
        self.tail = nn.Sequential(nn.PReLU(32), nn.Flatten(), nn.Linear(32 * 36, 16))

    def forward(self, x):
        x = self.stem(x)
        return self.tail(self.body(torch.cat((self.bound(x), self.free(x)), 1)))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["mobilefacenet", "mbf", "iresnet", "mobilefacenet-relu6"])
def test_the_result_does_not_depend_on_how_the_function_is_written(layout):
    network, size = small_network(layout)
    seen, unseen = smooth_images(size, 64), smooth_images(size, 128, seed=5)
    plain = lost(killed(network, size, 0), size, seen, unseen, run(network, unseen))
    found = []
    for number in range(1, REWRITES + 1):
        same, other = killed(network, size, number), rewritten(network, size, number)
        expected = run(same, unseen)
        assert row_cosines(run(other, unseen), expected).min() > 1 - 1e-5
        before = plain if number % 3 else lost(same, size, seen, unseen, expected)
        found.append(lost(other, size, seen, unseen, expected) - before)
    assert max(map(abs, found)) < 0.001, found


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_channels_beside_bound_ones_may_be_written_as_large_as_one_likes(factor):
    torch.manual_seed(3)
    network, size = Joined().eval(), (32, 32)
    seen, unseen = smooth_images(size, 64), smooth_images(size, 128, seed=5)
    plain, expected = canonicalise(network, size), run(network, unseen)
    classes = channel_classes(plain, size)
    free = torch.isneginf(classes.lowest) & torch.isposinf(classes.highest)
    other = scaled(plain, classes, torch.where(free, math.log(factor), 0.0))
    before, after = (lost(one, size, seen, unseen, expected) for one in (plain, other))
    assert abs(after - before) < 0.001, (before, after)


def with_a_silent_channel(slope, bias):
    """Return a network one of whose channels is always below zero, and what its PReLU's output is read by."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, stride=2), nn.PReLU(16), nn.Conv2d(16, 32, 7, groups=16), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(32 * 81, 16)).eval()
    with torch.no_grad():
        network[0].bias[0], network[1].weight[0] = bias, slope
    return network


def test_a_channel_that_is_as_good_as_dead_is_not_made_loud():
    size = (32, 32)
    model = made(canonicalise(with_a_silent_channel(1e-20, -5.0), size), size, smooth_images(size, 32))
    weights = [module.bias for module in model.network.modules() if isinstance(module, nn.Conv2d)]
    assert max(float(bias.detach().abs().max()) for bias in weights) < 1e3


def test_an_input_that_reaches_far_leaves_others_their_grid():
    size = (32, 32)
    model = calibrated(with_a_silent_channel(1e-3, -5e3), size, smooth_images(size, 32))
    prelu = next(node for node in model.network.graph.nodes if operation(node) == "prelu")
    before, behind = model.ranges[inputs(prelu)[0].name], model.ranges[prelu.name]
    assert -64.001 * max(-behind.low, behind.high) <= before.low <= behind.low
