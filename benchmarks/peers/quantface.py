"""The rule that QuantFace publishes (arXiv 2206.10526), rebuilt from its description and from none of its code.

Every convolution, linear layer and PReLU slope is rounded from its float weights anew at every step, per output channel
(slopes: one grid a layer), between minimum and maximum; activations behind every activation function and every residual
sum, per tensor, between the smallest and the largest value seen so far. BatchNorm stays float and unfolded, the input,
the embedding and all other tensors too, so no integer file can be written: this is a simulation. Training: squared
distance of the normalised embeddings, no labels, the straight-through estimator without a mask, SGD with Nesterov
momentum 0.9 and weight decay 5e-4, gradients cut to length 5, mirrored images, ranges open for 299 steps.

What is ours: drawings for images, fewer steps of smaller batches, and a grid of numbers of steps and rates, the
published rate among them, ending at a tenth of it as the published one does. Held-out drawings choose, never faces.
As published, BatchNorm takes the statistics of every batch and ranges grow while weights change; the grid has that, and
frozen statistics with the ranges that drawings gave before training. No training at all takes part too.
"""

import copy
import operator
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from runtimes import TORCH
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from peers._base import Made, Materials, Peer
from peers.float_files import freeze
from qface_toolkit.models import FloatModel
from qface_toolkit.sources import find_set, load_crops

OPEN_STEPS, CLIP, HELD_OUT, HELD_OUT_SEED = 299, 5.0, 256, 11
ACTIVATIONS = (nn.PReLU, nn.ReLU, nn.ReLU6, nn.LeakyReLU)
SUMS = (operator.add, operator.iadd, torch.add)


class _Straight(torch.autograd.Function):
    """Round on the way forward, and pass the gradient on as it is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:  # noqa: ANN401 - torch's context
        return rounded(x, low, high, bits)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401 - torch's context
        return gradient, None, None, None


def rounded(x: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
    """Return x on the grid of 2^bits points between low and high."""
    half = 2 ** (bits - 1)
    scale = (2**bits - 1) / torch.clamp(high - low, min=1e-8)
    zero = torch.round(scale * low) + half
    return (x * scale).sub_(zero).round_().clamp_(-half, half - 1).add_(zero).div_(scale)


def fake_quantize(x: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
    """Round x, so that it can be trained through."""
    return _Straight.apply(x, low, high, bits) if torch.is_grad_enabled() else rounded(x, low, high, bits)


class Weights(nn.Module):
    """The grid of a layer's weights, per output channel, or of a whole vector of slopes."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        """Round the weights between their own minimum and maximum."""
        rows = weight.detach().flatten(1) if weight.dim() > 1 else weight.detach()[None]
        shape = (-1, *[1] * (weight.dim() - 1))
        return fake_quantize(weight, rows.amin(1).reshape(shape), rows.amax(1).reshape(shape), self.bits)


class Activations(nn.Module):
    """The grid of an activation: between all values that were seen while `is_open`, and zero."""

    low: Tensor
    high: Tensor

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits, self.is_open = bits, True
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Round x."""
        if self.is_open:
            low, high = torch.aminmax(x.detach())
            self.low.copy_(torch.minimum(self.low, low))
            self.high.copy_(torch.maximum(self.high, high))
        return fake_quantize(x, self.low.clone(), self.high.clone(), self.bits)


def student_of(network: nn.Module, bits: int) -> fx.GraphModule:
    """Return a copy of a network with all grids in it; its ranges have seen nothing yet."""
    student = fx.symbolic_trace(copy.deepcopy(network))
    modules = dict(student.named_modules())
    for place, node in enumerate(list(student.graph.nodes)):
        acts = node.op == "call_module" and isinstance(modules[node.target], ACTIVATIONS)
        adds = node.op == "call_function" and node.target in SUMS and all(isinstance(a, fx.Node) for a in node.args)
        if acts or adds:
            student.add_module(f"grid_{place}", Activations(bits))
            with student.graph.inserting_after(node):
                grid = student.graph.call_module(f"grid_{place}", (node,))
            node.replace_all_uses_with(grid, lambda user, grid=grid: user is not grid)
    student.recompile()
    for module in modules.values():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.PReLU):
            parametrize.register_parametrization(module, "weight", Weights(bits))
    return student


def open_ranges(student: nn.Module, *, opened: bool) -> None:
    """Let the ranges of activations grow, or keep them."""
    for module in student.modules():
        if isinstance(module, Activations):
            module.is_open = opened


class Lesson:
    """Drawings to learn from and drawings to choose by, with what the float network makes of them."""

    def __init__(self, model: FloatModel, pool: int, batch: int) -> None:
        self.network, self.batch = model.network.eval(), batch
        self.inputs = _inputs(model, pool, None)
        self.held_out = _inputs(model, min(HELD_OUT, pool), HELD_OUT_SEED)
        with torch.no_grad():
            self.expected = torch.cat([self.network(part) for part in self.held_out.split(batch)])

    def batches(self, steps: int) -> Iterator[Tensor]:
        """Yield batches of mirrored and unmirrored drawings."""
        chance = torch.Generator().manual_seed(0)
        order = torch.cat([torch.randperm(len(self.inputs), generator=chance) for _ in range(steps)])
        for chosen in order[: steps * self.batch].split(self.batch):
            mirrored = torch.rand(len(chosen), 1, 1, 1, generator=chance) < 0.5
            yield torch.where(mirrored, self.inputs[chosen].flip(3), self.inputs[chosen])

    def score(self, student: nn.Module) -> float:
        """Return the mean cosine to the float network on the held-out drawings, with ranges kept as they are."""
        training = {module: module.training for module in student.modules()}
        opened = any(module.is_open for module in student.modules() if isinstance(module, Activations))
        open_ranges(student.eval(), opened=False)
        with torch.no_grad():
            found = torch.cat([student(part) for part in self.held_out.split(self.batch)])
        open_ranges(student, opened=opened)
        for module, was in training.items():
            module.training = was
        return float(F.cosine_similarity(found, self.expected).nan_to_num(-1.0).mean())


def _inputs(model: FloatModel, count: int, seed: int | None) -> Tensor:
    return torch.from_numpy(model.spec.preprocess(load_crops(find_set("drawings").open(count=count, seed=seed))))


def calibrated(model: FloatModel, bits: int, lesson: Lesson, images: int) -> fx.GraphModule:
    """Return a student that was only shown drawings."""
    student = student_of(model.network, bits).eval()
    with torch.no_grad():
        for part in lesson.inputs[:images].split(lesson.batch):
            student(part)
    open_ranges(student, opened=False)
    return student


def train(student: fx.GraphModule, lesson: Lesson, rate: float, steps: int, *, frozen: bool) -> Iterator[int]:
    """Train a student and yield the number of steps after each; the last eleventh learns at a tenth of the rate.

    `frozen` keeps BatchNorm's statistics and the ranges.
    """
    student.train()
    for module in student.modules():
        if frozen and isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
    optimizer = torch.optim.SGD(student.parameters(), rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
    for step, images in enumerate(lesson.batches(steps), start=1):
        open_ranges(student, opened=step <= OPEN_STEPS and not frozen)
        optimizer.param_groups[0]["lr"] = rate if step <= steps * 10 / 11 else rate / 10
        with torch.no_grad():
            wanted = F.normalize(lesson.network(images))
        optimizer.zero_grad(set_to_none=True)
        F.mse_loss(F.normalize(student(images)), wanted).backward()
        nn.utils.clip_grad_norm_(student.parameters(), CLIP)
        optimizer.step()
        yield step


def best_of_grid(materials: Materials, folder: Path, bits: int) -> Made:
    """Return the student of the grid that is nearest to the float network on held-out drawings."""
    effort, model = materials.effort, materials.model
    torch.manual_seed(0)
    torch.set_num_threads(materials.threads)
    lesson = Lesson(model, effort.pool, effort.batch)
    first = best = calibrated(model, bits, lesson, effort.calibration)
    trace: list[dict[str, Any]] = [{"steps": 0, "cosine_heldout": lesson.score(best)}]
    for frozen, rate in product((True, False), effort.rates if effort.steps else ()):
        student = copy.deepcopy(first) if frozen else student_of(model.network, bits)
        for step in train(student, lesson, rate, max(effort.steps), frozen=frozen):
            if step not in effort.steps:
                continue
            score = lesson.score(student)
            if score > max(one["cosine_heldout"] for one in trace):
                best = copy.deepcopy(student)
            tried = {"frozen": frozen, "rate": rate, "steps": step}
            trace.append(tried | {"cosine_heldout": round(score, 6)})
            print(f"  {bits} bits: {trace[-1]}", flush=True)
    open_ranges(best.eval(), opened=False)
    probe = torch.zeros(1, 3, *model.spec.input_size)
    return Made((freeze(best, probe, folder / "simulation.ts"),), TORCH, simulation=True, trace=trace)


PEERS = tuple(
    Peer(f"QuantFace's rule, w{bits}a{bits}", "QuantFace", "drawings", partial(best_of_grid, bits=bits))
    for bits in (8, 6)
)
