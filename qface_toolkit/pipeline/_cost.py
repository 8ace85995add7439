"""How long a job will take, before it begins: passes through the network, times measured seconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from qface_toolkit.methods import METHODS
from qface_toolkit.pipeline._job import Job
from qface_toolkit.quantize._edit import shape_of
from qface_toolkit.quantize.channels import LAYERS
from qface_toolkit.quantize.graph import module, operation

SECONDS_PER_GMAC = (0.02, 0.15)
"""Seconds on two cores for a pass of an image through a billion multiply-adds: networks of dense 3x3 convolutions, and
of depthwise ones with PReLU. Measured with iResNet50 and MobileFaceNet (benchmarks/README.md)."""
MEASURING_PASSES = 700
"""What the report measures, in passes: agreement, simulations, where the loss is."""


@dataclass(frozen=True)
class Cost:
    """What a job is expected to cost.

    `multiply_adds` are those of one image. `passes` holds, for each step, how many passes of one image it is worth;
    `seconds` the fewest and the most for all of it, on two cores.
    """

    multiply_adds: int
    passes: Mapping[str, int]
    seconds: tuple[float, float]


def estimate_cost(job: Job) -> Cost:
    """Return what a planned job will cost."""
    count, products = job.recipe.calibration.count, _multiply_adds(job)
    passes = {
        f"{number + 1}. {step.method}": round(METHODS.get(step.method).passes(step.options, count))
        for number, step in enumerate(job.steps)
    }
    work = (sum(passes.values()) + MEASURING_PASSES) * products / 1e9
    return Cost(products, passes, (work * SECONDS_PER_GMAC[0], work * SECONDS_PER_GMAC[1]))


def _multiply_adds(job: Job) -> int:
    """Return the multiply-adds of the layers of a canonical network, whose shapes are noted, for one image."""
    layers = (node for node in job.canonical.graph.nodes if operation(node) in LAYERS)
    return sum(prod(shape_of(node)[1:]) * module(node).weight[0].numel() for node in layers)
