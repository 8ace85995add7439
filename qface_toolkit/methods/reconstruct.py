"""Learn how weights are rounded, block by block, so that each block makes what it makes in float.

To round each weight to the nearest code is not what harms a layer's output least (AdaRound, arXiv 2004.10568, section
3). A block of layers is reconstructed as one, and errors count by how much the embedding feels of them (BRECQ, arXiv
2102.05426, section 3). A block reads what the quantized blocks before it make, some of its values replaced by the float
ones at random (QDrop, arXiv 2203.05740). Biases are learned too: there is nothing for `correct_bias` to do before or
after, and what it changed would be part of the float network that is learned from.
"""

import copy
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from pydantic import BaseModel, ConfigDict, Field
from torch import fx

from qface_toolkit.analysis.blocks import Block, cut_blocks
from qface_toolkit.analysis.statistics import STATISTICS_PASSES, measure_statistics
from qface_toolkit.errors import CalibrationError
from qface_toolkit.methods._base import Context, Method
from qface_toolkit.methods._learning import Learning, attach
from qface_toolkit.methods._means import Correcting, FloatMeans
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.quantize.quantizers import ActivationQuantizer
from qface_toolkit.quantize.scheme import Range
from qface_toolkit.quantize.simulation import Simulation, prepare, with_weights
from qface_toolkit.quantize.sums import settle_sums

FIRST_IMAGES = 64
"""The images that say what an error costs and which biases to start from."""
SMALLEST_LOSS = 1e-12
"""A block that starts with less has nothing to learn."""


class Options(BaseModel):
    """Options of `reconstruct`."""

    model_config = ConfigDict(extra="forbid")

    images: int = Field(256, ge=1)
    """Calibration images to learn from, the first ones; what blocks make of them is held in memory."""
    iterations: int = Field(60, ge=1, le=100000)
    """Steps of Adam for each block."""
    seconds: float | None = Field(None, gt=0, le=1e6)
    """A time to keep to instead: two steps are timed, and the iterations that fit are written into the result."""
    batch_size: int = Field(8, ge=1)
    """Images of a step."""
    fewest_layers: int = Field(3, ge=1)
    """Layers of a block, at least."""
    weights_rate: float = Field(0.02, ge=0, le=1.0)
    """Adam's first step for weights, in codes; all steps fall to zero by half a cosine."""
    biases_rate: float = Field(0.005, ge=0, le=1.0)
    """Adam's first step for biases, in units of a weight moved by one code."""
    ranges_rate: float = Field(0.0, ge=0, le=0.1)
    """Adam's first step for the logarithm of the ends of ranges; 0 leaves them where they are. Ranges that are learned
    fit the calibration images, and clip others."""
    float_share: float = Field(0.5, ge=0, le=1)
    """Share of a block's inputs that are the float network's, drawn anew in each step."""


class Reconstruct(Method):
    """Reconstruct the blocks of the simulation of the context's target from first to last."""

    options = Options
    needs = ("ranges", "images")

    def run(self, model: QuantizedModel, options: Options, context: Context) -> QuantizedModel:
        """Return the model with other weights, which lie on their codes, and other biases and ranges.

        Raises:
            CalibrationError: if there are fewer images than a step takes.
        """
        if len(context.inputs) < options.batch_size or options.images < options.batch_size:
            raise CalibrationError(
                f"{min(len(context.inputs), options.images)} images are too few for steps of {options.batch_size}",
                fix="raise calibration.count, or lower the step's batch_size",
            )
        return _Reconstruction(model, options, context).run()

    def passes(self, options: Options, images: int) -> float:
        """Return the passes behind sensitivity and examples, and the steps: those of all blocks make whole passes."""
        used = min(options.images, images)
        return STATISTICS_PASSES * min(FIRST_IMAGES, used) + 3 * used + 3 * options.iterations * options.batch_size


@dataclass(frozen=True)
class _Examples:
    """What a block reads in the float network and in the quantized one, and what it shall make, [N, ...]."""

    exact: torch.Tensor
    quantized: torch.Tensor
    target: torch.Tensor

    def batches(self, options: Options, draw: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield inputs and targets of each step."""
        for _ in range(options.iterations):
            chosen = torch.randperm(len(self.target), generator=draw)[: options.batch_size]
            exact, quantized = self.exact[chosen], self.quantized[chosen]
            swapped = torch.rand(exact.shape, generator=draw) < options.float_share
            yield torch.where(swapped, exact, quantized), self.target[chosen]


class _Reconstruction:
    """One run: the simulation as far as it is learned, and the ranges."""

    def __init__(self, model: QuantizedModel, options: Options, context: Context) -> None:
        began = time.perf_counter()
        self.model, self.options, self.context = model, options, context
        self.draw = torch.Generator().manual_seed(context.seed)
        self.simulation = prepare(model, context.target)
        self.blocks = cut_blocks(model, self.simulation.prepared, options.fewest_layers)
        self.sensitivity = self._sensitivity()
        if options.seconds is not None:
            self._fit_into(options.seconds - (time.perf_counter() - began))

    def _fit_into(self, seconds: float) -> None:
        """Replace the time by as many iterations as it has room for, and note them for whoever repeats this."""
        images = torch.from_numpy(self.context.inputs[: self.options.batch_size])
        step = min(_seconds_of_step(self.simulation, images) for _ in range(2))
        fixed = step * self.options.images / self.options.batch_size
        iterations = max(1, int((seconds - fixed) / step))
        self.options = self.options.model_copy(update={"iterations": iterations, "seconds": None})
        self.model = self.model.with_choice("reconstruct.iterations", iterations)

    def run(self) -> QuantizedModel:
        """Return the model with what was learned."""
        exact = quantized = torch.from_numpy(self.context.inputs[: self.options.images])
        for number, block in enumerate(self.blocks):
            target = self._made(block.exact, exact)
            self._correct(block, exact, quantized)
            self._learn(number, block, _Examples(exact, quantized, target))
            exact, quantized = target, self._made(block.simulated, quantized)
        learned = with_weights(self.model, self.simulation)
        return settle_sums(learned) if self.options.ranges_rate > 0 else learned

    def _sensitivity(self) -> Mapping[str, torch.Tensor]:
        """Return what an error in each channel of the blocks' outputs costs, by the tensor's name."""
        outputs = [block.output for block in self.blocks if block.output is not None]
        images = self.context.inputs[: min(self.options.images, FIRST_IMAGES)]
        return measure_statistics(
            self.model.network,
            outputs,
            images,
            seed=self.context.seed,
            batch_size=self.context.batch_size,
            progress=lambda done, total: None,
        ).sensitivity

    def _made(self, network: fx.GraphModule, given: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([network(part) for part in torch.split(given, self.context.batch_size)])

    def _correct(self, block: Block, exact: torch.Tensor, quantized: torch.Tensor) -> None:
        """Start from biases that keep the mean of every channel, see `correct_bias`."""
        means = FloatMeans(block.exact)
        with torch.no_grad():
            means.run(exact[:FIRST_IMAGES])
            Correcting(block.simulated, means.found, copy.deepcopy(block.simulated)).run(quantized[:FIRST_IMAGES])

    def _learn(self, number: int, block: Block, examples: _Examples) -> None:
        """Learn one block and put the result into the simulation and the ranges."""
        learning = attach(block, self.model, self.context.target, ranges=self.options.ranges_rate > 0)
        if learning.layers or learning.ranges:
            self._descend(block, learning, examples)
        self.context.progress(number + 1, len(self.blocks))
        self._keep(block, learning)

    def _descend(self, block: Block, learning: Learning, examples: _Examples) -> None:
        optimizer = torch.optim.Adam(self._groups(learning))
        rates = [group["lr"] for group in optimizer.param_groups]
        unit = None
        for step, (given, target) in enumerate(examples.batches(self.options, self.draw)):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / self.options.iterations))
            loss = self._loss(block, learning.network(given), target)
            # Losses this small would vanish beside Adam's epsilon.
            unit = unit or max(loss.item(), SMALLEST_LOSS)
            optimizer.zero_grad()
            (loss / unit).backward()  # type: ignore[no-untyped-call]  # torch ships it without a type
            optimizer.step()

    def _groups(self, learning: Learning) -> list[dict[str, object]]:
        options, layers, ranges = self.options, learning.layers, list(learning.ranges.values())
        groups: list[dict[str, object]] = [
            {"params": [layer.codes for layer in layers], "lr": options.weights_rate},
            {"params": [layer.units for layer in layers], "lr": options.biases_rate},
            {"params": [one.log_factors for one in ranges], "lr": options.ranges_rate},
        ]
        return [group for group in groups if group["params"]]

    def _loss(self, block: Block, made: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss in cosine that an error is predicted to cost, or what it is for embeddings."""
        if block.output is None:
            return (1 - F.cosine_similarity(made, target)).mean()
        squares = (made - target).pow(2)
        by_channel = squares.mean(dim=[axis for axis in range(squares.dim()) if axis != 1])
        return 0.5 * (by_channel * self.sensitivity[block.output]).sum()

    def _keep(self, block: Block, learning: Learning) -> None:
        for layer in learning.layers:
            layer.bake()
        ranges: dict[str, Range] = dict(self.model.ranges)
        for owners, learned in learning.ranges.items():
            for owner in owners:
                limits = self.model.plan.clamps.get(owner, (-math.inf, math.inf))
                ranges[owner] = learned.scaled(ranges[owner], limits)
        self.model = self.model.with_ranges(ranges)
        for tensor, paths in block.quantizers.items():
            for path in paths:
                quantizer = block.simulated.get_submodule(path)
                if isinstance(quantizer, ActivationQuantizer) and quantizer.fixed:
                    target = self.context.target
                    quantizer.fix(self.model.range_of(tensor, target), self.model.levels_of(tensor, target))


def _seconds_of_step(simulation: Simulation, images: torch.Tensor) -> float:
    """Return how long one step of every block takes: a pass through the whole network and back."""
    began = time.perf_counter()
    torch.autograd.grad(simulation(images).sum(), [p for p in simulation.parameters() if p.requires_grad])
    return time.perf_counter() - began


ENTRIES = {"reconstruct": Reconstruct()}
