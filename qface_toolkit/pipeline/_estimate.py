"""How long a job will take, before it begins: what its steps and its report run, times measured seconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from qface_toolkit.analysis.walk import NUMBER_COST
from qface_toolkit.backends import BACKENDS, foreign
from qface_toolkit.canonical.edit import shape_of
from qface_toolkit.canonical.graph import module, operation
from qface_toolkit.evidence.collect import FEWER_IMAGES, SIMULATION_IMAGES, images_of
from qface_toolkit.evidence.sensitivity import JOB_BUDGET, JOB_IMAGES
from qface_toolkit.evidence.speed import LATENCY_ROUNDS
from qface_toolkit.methods import METHODS
from qface_toolkit.quantize.plan import LAYERS
from qface_toolkit.result.job import Job

# Fitted on two cores to the jobs of benchmarks/job_seconds.py, which holds that they are right within a factor of two.
_PER_GMAC, _PER_MILLION_NUMBERS = 0.0062, 0.00065
"""Seconds of a pass of one image: those of a billion multiply-adds, and of making a million numbers of its tensors."""
_START, _PER_NODE, _PER_MILLION_WEIGHTS = 5.0, 0.06, 0.25
"""Seconds of a job whatever its images: imports; tracing, lowering and balancing by the network's nodes and weights."""
_PER_DRAWING = 0.006
_FILES = 4.0
"""Seconds of loading, profiling and drawing plots."""
_FOREIGN, _SIMULATED, _FILE = 2.0, 3.0, 0.4
"""Passes that one image is worth in a file for another kind of machine, in a simulation, and in a file for this one."""
_SWITCHED = 0.5
"""The same of an image in a pass from some place on, in large batches."""


@dataclass(frozen=True)
class Cost:
    """What a job is expected to cost.

    `multiply_adds` are those of one image. `passes` holds, for each step, how many passes of one image it is worth;
    the seconds are those on two cores, of all up to the files and of measuring them.
    """

    multiply_adds: int
    passes: Mapping[str, int]
    steps_s: float
    measuring_s: float

    @property
    def seconds(self) -> float:
        """Return the seconds of all of it."""
        return self.steps_s + self.measuring_s


def estimate_cost(job: Job) -> Cost:
    """Return what a planned job will cost."""
    count = job.recipe.calibration.count
    passes = {
        f"{number + 1}. {step.method}": round(METHODS.get(step.method).passes(step.options, count))
        for number, step in enumerate(job.steps)
    }
    products, numbers = _multiply_adds(job), _numbers(job)
    pass_s = products / 1e9 * _PER_GMAC + numbers / 1e6 * _PER_MILLION_NUMBERS
    weights = sum(parameter.numel() for parameter in job.canonical.parameters())
    whatever = _START + _PER_NODE * len(job.canonical.graph.nodes) + weights / 1e6 * _PER_MILLION_WEIGHTS
    steps = whatever + _PER_DRAWING * count + pass_s * sum(passes.values())
    drawn = images_of(job)
    switching = _switched_passes(job, products + NUMBER_COST * numbers)
    measuring = _FILES + pass_s * (_embedded_passes(job, drawn) + switching)
    return Cost(products, passes, steps, measuring)


def _embedded_passes(job: Job, drawn: int) -> float:
    """Return the passes of embedding with the float model, every file and every simulation, and of timing the files."""
    backends = [BACKENDS.get(name) for name in job.recipe.backends]
    elsewhere = sum(foreign(backend) is not None for backend in backends)
    here = len(backends) - elsewhere
    fewer = drawn if job.verify else FEWER_IMAGES
    embedded = drawn * (1 + _FILE * here) + FEWER_IMAGES + fewer * _FOREIGN * elsewhere
    return embedded + SIMULATION_IMAGES * _SIMULATED * len(backends) + LATENCY_ROUNDS * (3 + here)


def _switched_passes(job: Job, work: int) -> float:
    """Return the passes of finding out where the loss is: for each tensor and each weight two from its place on."""
    switches = 2 * sum(operation(node) in LAYERS for node in job.canonical.graph.nodes)
    return _SWITCHED * min(JOB_IMAGES * (8 + switches), JOB_BUDGET / work)


def _multiply_adds(job: Job) -> int:
    """Return the multiply-adds of the layers of a canonical network, whose shapes are noted, for one image."""
    layers = (node for node in job.canonical.graph.nodes if operation(node) in LAYERS)
    return sum(prod(shape_of(node)[1:]) * module(node).weight[0].numel() for node in layers)


def _numbers(job: Job) -> int:
    """Return the numbers of all tensors of a canonical network, for one image."""
    return sum(prod(shape_of(node)[1:]) for node in job.canonical.graph.nodes if operation(node) != "output")
