"""What a job is expected to cost: multiply-adds by known sizes, passes by what the steps do."""

import dataclasses
import itertools
import json
import statistics
from pathlib import Path

import pytest
import torch

from qface_toolkit.methods import METHODS
from qface_toolkit.models import ARCHITECTURES
from qface_toolkit.pipeline import plan_job
from qface_toolkit.pipeline._estimate import estimate_cost

RESULT = Path(__file__).resolve().parents[1] / "benchmarks/results/job_seconds.json"
MODELS = ("prelu", "relu6", "demo", "iresnet50")


def job(architecture, *sets):
    torch.manual_seed(0)
    network = ARCHITECTURES.get(architecture).published.build().eval()
    return plan_job(network, recipe="int8-fast", sets=sets)


@pytest.mark.slow
def test_multiply_adds_are_those_that_are_published():
    assert estimate_cost(job("iresnet18")).multiply_adds == pytest.approx(2.62e9, rel=0.02)


@pytest.mark.slow
def test_fewer_images_cost_less_and_longer_networks_more():
    small, half = job("mobilefacenet-quantface"), job("mobilefacenet-quantface", "calibration.count=64")
    assert sum(estimate_cost(half).passes.values()) < sum(estimate_cost(small).passes.values())
    few, many, large = (estimate_cost(one) for one in (half, small, job("iresnet18")))
    assert 0 < few.steps_s < many.steps_s < large.steps_s
    assert 0 < few.measuring_s == many.measuring_s < large.measuring_s


def test_what_is_measured_costs(checkpoint):
    small = plan_job(checkpoint, recipe="int8-fast")
    quick = plan_job(checkpoint, recipe="int8-fast", backends=["onnx-x86"])
    assert estimate_cost(quick).measuring_s < estimate_cost(small).measuring_s
    verified = dataclasses.replace(small, verify=True)
    assert estimate_cost(verified).measuring_s > estimate_cost(small).measuring_s
    assert estimate_cost(small).seconds == estimate_cost(small).steps_s + estimate_cost(small).measuring_s


def test_jobs_take_what_is_said_within_a_factor_of_two():
    """The table that benchmarks/job_seconds.py has written, on two cores."""
    jobs = [one for one in json.loads(RESULT.read_text())["jobs"] if not one["beside"]]
    assert {(one["model"], one["recipe"]) for one in jobs} >= set(itertools.product(MODELS, ("int8-fast", "int8")))
    for one in jobs:
        taken = statistics.median(run["all"] for run in one["runs"])
        measuring = statistics.median(run["measuring"] for run in one["runs"])
        assert taken / 2 < one["expected"]["all"] < 2 * taken, one["model"]
        assert measuring / 2 < one["expected"]["measuring"] < 2 * measuring, one["model"]


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_says_what_it_costs(name):
    method = METHODS.get(name)
    few, many = (method.passes(method.options(), images) for images in (16, 512))
    assert 0 <= few <= many
    assert few > 0 or "images" not in method.needs, "an image that is needed goes through the network"
