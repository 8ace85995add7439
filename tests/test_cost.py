"""What a job is expected to cost: multiply-adds by known sizes, passes by what the steps do."""

import pytest
import torch

from qface_toolkit.methods import METHODS
from qface_toolkit.models import ARCHITECTURES
from qface_toolkit.pipeline import plan_job
from qface_toolkit.pipeline._cost import estimate_cost


def job(architecture, *sets):
    torch.manual_seed(0)
    network = ARCHITECTURES.get(architecture).published.build().eval()
    return plan_job(network, recipe="int8-fast", sets=sets)


def test_multiply_adds_are_those_that_are_published():
    assert estimate_cost(job("iresnet18")).multiply_adds == pytest.approx(2.62e9, rel=0.02)


def test_fewer_images_cost_less_and_longer_networks_more():
    small, half = job("mobilefacenet-quantface"), job("mobilefacenet-quantface", "calibration.count=64")
    assert sum(estimate_cost(half).passes.values()) < sum(estimate_cost(small).passes.values())
    assert estimate_cost(job("iresnet18")).seconds[0] > 4 * estimate_cost(small).seconds[0]
    low, high = estimate_cost(small).seconds
    assert 0 < low < high


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_says_what_it_costs(name):
    method = METHODS.get(name)
    few, many = (method.passes(method.options(), images) for images in (16, 512))
    assert 0 < few <= many
