"""QuantFace's method (Boutros et al., arXiv 2206.10526) as a step that simulates: the row others are held against.

The rule stands in quantize/quantface.py, the training in _imitation.py. What is ours: synthetic images of any kind, as
many steps as the recipe gives, and a small grid. Each rate is tried as published, where BatchNorm takes the statistics
of every batch and ranges grow from zero while weights change, and from calibrated ranges with both kept as they are. No
training at all takes part too. Images held out from the calibration set choose; the trace tells of all.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, StrictInt
from torch import fx, nn

from qface_toolkit.errors import CalibrationError
from qface_toolkit.methods._base import Context, Method, Progress
from qface_toolkit.methods._imitation import Course, Lessons, copied, lessons_of, mean_cosine, show, train
from qface_toolkit.methods._services import Source
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.quantface import traced, with_grids
from qface_toolkit.quantize.simulated import SimulatedModel
from qface_toolkit.quantize.structure import structure_of

Start = Literal["published", "calibrated"]
Bits = Annotated[StrictInt, Field(ge=2, le=8)]
Rate = Annotated[float, Field(gt=0, le=10)]


class Options(BaseModel):
    """Options of `quantface`."""

    model_config = ConfigDict(extra="forbid")

    weight_bits: Bits = 8
    """Width of convolutions' and linear layers' weights."""
    activation_bits: Bits = 8
    """Width of activations and of PReLU's slopes."""
    steps: int = Field(160, ge=0, le=1_000_000)
    """Steps of each run of the grid; 0: no training. Published: 11,350."""
    batch_size: int = Field(32, ge=2, le=4096)
    """Images of a step. Published: 512."""
    rates: tuple[Rate, ...] = (0.1, 0.01)
    """Learning rates to try; each falls to a tenth in the last eleventh of the run. Published: 0.1."""
    starts: tuple[Start, ...] = ("calibrated", "published")
    """What to try each rate with: everything as published, or calibrated ranges and BatchNorm kept as they are."""
    looks: int = Field(4, ge=1, le=1000)
    """How often in a run the student is looked at, evenly spaced; the best look of all runs is kept."""
    calibration_images: int = Field(256, ge=1)
    """Images that set the ranges of the calibrated start."""
    held_out_share: float = Field(0.125, gt=0, lt=1)
    """Share of the images that only choose."""


@dataclass(frozen=True)
class Found:
    """The best student of a grid, and each look in order of time; `best` is its place among them."""

    student: fx.GraphModule
    trace: tuple[dict[str, Any], ...]
    best: int


def search(
    network: nn.Module, learnt: torch.Tensor, held_out: torch.Tensor, options: Options, seed: int, progress: Progress
) -> Found:
    """Return the student of the grid that is nearest to a float network on images it did not learn from.

    `learnt` and `held_out` are preprocessed images [N, C, height, width]. The network is left alone.
    """
    size, teacher = options.batch_size, network.eval()
    lessons, exam = (lessons_of(teacher, inputs, size) for inputs in (learnt, held_out))
    first = with_grids(network, options.weight_bits, options.activation_bits)
    show(first, learnt[: options.calibration_images], size)
    best, scores = copied(first), [mean_cosine(first, exam, size)]
    trace: list[dict[str, Any]] = [{"start": "calibrated", "rate": 0.0, "steps": 0, "cosine_heldout": scores[0]}]
    runs = list(product(options.starts, options.rates)) if options.steps else []
    for place, (start, rate) in enumerate(runs):
        begun = with_grids(network, options.weight_bits, options.activation_bits) if start == "published" else first
        course = Course(options.steps, size, rate, start == "calibrated", seed)
        student = copied(begun)
        for step, score in _looks(student, lessons, exam, course, options.looks):
            progress(place * options.steps + step, len(runs) * options.steps)
            if score is None:
                continue
            best = copied(student) if score > max(scores) else best
            scores.append(score)
            trace.append({"start": start, "rate": rate, "steps": step, "cosine_heldout": score})
    return Found(best, tuple(trace), scores.index(max(scores)))


def _looks(
    student: nn.Module, lessons: Lessons, exam: Lessons, course: Course, looks: int
) -> Iterator[tuple[int, float | None]]:
    """Train, and yield each step with the student's score where it is looked at."""
    wanted = {max(1, round(course.steps * (look + 1) / looks)) for look in range(looks)}
    for step in train(student, lessons, course):
        yield step, mean_cosine(student, exam, course.batch_size) if step in wanted else None


class QuantFace(Method):
    """Imitate the float network under QuantFace's rule; the result is a simulation and no QuantizedModel."""

    options = Options
    needs = ("source", "images")
    gives = ("simulation",)
    asks = (Source,)

    def run(self, model: QuantizedModel, options: Options, context: Context) -> SimulatedModel:
        """Return the best simulation of the float model that the grid finds; its canonical form is not looked at.

        Raises:
            CalibrationError: if there are too few images to hold any out, or to fill a step.
            UnsupportedModel: if the network cannot be traced or written down.
        """
        count = len(context.inputs)
        held_out = round(options.held_out_share * count)
        if not 0 < held_out <= count - options.batch_size:
            what = f"{count} images are too few for steps of {options.batch_size} and to hold out any"
            raise CalibrationError(what, fix="raise calibration.count")
        inputs, asked = torch.from_numpy(context.inputs), context.service(Source)
        assert asked is not None, "it is needed"
        source = asked.model
        learnt, exam = inputs[: count - held_out], inputs[count - held_out :]
        graph = traced(source.network)
        structure = structure_of(graph)
        found = search(graph, learnt, exam, options, context.seed, context.progress)
        bits = options.weight_bits, options.activation_bits
        return SimulatedModel(
            found.student, structure, source.spec, *bits, chosen=(_chosen(found, held_out),), trace=found.trace
        )

    def passes(self, options: Options, images: int) -> float:
        """Return the teacher's passes, calibration, forward and backward passes of all runs, and all looks."""
        held_out = options.held_out_share * images
        runs = len(options.starts) * len(options.rates) if options.steps else 0
        looked = (1 + runs * options.looks) * held_out
        learnt = runs * options.steps * options.batch_size * 3
        return 2 * images + min(options.calibration_images, images) + learnt + looked


def _chosen(found: Found, held_out: int) -> str:
    """Return what the grid chose, in words."""
    best, tried = found.trace[found.best], len(found.trace)
    start = "as published" if best["start"] == "published" else "calibrated ranges, BatchNorm as it was"
    how = f"{start}, rate {best['rate']:g}, {best['steps']} steps" if best["steps"] else f"{start}, no training"
    cosine = f"mean cosine {best['cosine_heldout']:.4f} on {held_out} held-out images"
    return f"quantface: {how}: {cosine}, the best of {tried} looks"


ENTRIES = {"quantface": QuantFace()}
