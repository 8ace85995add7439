"""How QuantFace trains (arXiv 2206.10526, section 3): the student's normalised embeddings are to be the teacher's.

Squared distance, no labels, SGD with Nesterov momentum 0.9 and weight decay 5e-4 on everything, gradients cut to length
5, mirrored images, dropout where the network has it. Published: 11,350 steps of 512 images at a rate of 0.1, a tenth of
it in the last eleventh, ranges open for the first 299. Here a run is as long as the recipe says; both shares stay.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import Tensor, fx, nn

from qface_toolkit.quantize.memory import channels_last
from qface_toolkit.quantize.quantface import grids, open_ranges

MOMENTUM, WEIGHT_DECAY, LONGEST_GRADIENT = 0.9, 5e-4, 5.0
OPEN_SHARE = 299 / 11_350
FULL_RATE_SHARE = 10 / 11


@dataclass(frozen=True)
class Lessons:
    """Images [N, C, height, width] and what the teacher makes of each as it is and mirrored, [2, N, D]."""

    inputs: Tensor
    expected: Tensor

    def batches(self, steps: int, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of images, half of them mirrored, and the teacher's normalised embeddings."""
        chance = torch.Generator().manual_seed(seed)
        rounds = -(-steps * size // len(self.inputs))
        order = torch.cat([torch.randperm(len(self.inputs), generator=chance) for _ in range(rounds)])
        for chosen in torch.split(order[: steps * size], size):
            mirrored = torch.rand(len(chosen), generator=chance) < 0.5
            images = self.inputs[chosen]
            images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
            yield images.contiguous(memory_format=torch.channels_last), self.expected[mirrored.long(), chosen]


def lessons_of(teacher: nn.Module, inputs: Tensor, size: int) -> Lessons:
    """Return what there is to learn: a teacher is asked once for each image, not once a step."""
    with torch.no_grad():
        both = [torch.cat([teacher(part) for part in torch.split(given, size)]) for given in (inputs, inputs.flip(3))]
    return Lessons(inputs, F.normalize(torch.stack(both), dim=2))


def mean_cosine(student: nn.Module, lessons: Lessons, size: int) -> float:
    """Return the mean cosine to the teacher's embeddings, with ranges and BatchNorm's statistics kept as they are."""
    modes = {module: module.training for module in student.modules()}
    opened = any(grid.is_open for grid in grids(student))
    open_ranges(student.eval(), opened=False)
    with torch.no_grad():
        found = torch.cat([student(part) for part in torch.split(lessons.inputs, size)])
    open_ranges(student, opened=opened)
    for module, training in modes.items():
        module.training = training
    return float(F.cosine_similarity(found, lessons.expected[0]).nan_to_num(-1.0).mean())


def show(student: nn.Module, inputs: Tensor, size: int) -> None:
    """Let ranges grow over images without training, then close them."""
    open_ranges(student.eval(), opened=True)
    with torch.no_grad():
        for part in torch.split(inputs, size):
            student(part)
    open_ranges(student, opened=False)


@dataclass(frozen=True)
class Course:
    """One run: how many steps of how many images, how fast, and whether BatchNorm and ranges stay as they are."""

    steps: int
    batch_size: int
    rate: float
    frozen: bool
    seed: int

    @property
    def open_steps(self) -> int:
        """The number of steps for which ranges grow."""
        return 0 if self.frozen else max(1, round(self.steps * OPEN_SHARE))


def train(student: nn.Module, lessons: Lessons, course: Course) -> Iterator[int]:
    """Train a student in place and yield the number of steps after each."""
    channels_last(student.train())
    for module in student.modules():
        if course.frozen and isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
    optimizer = torch.optim.SGD(
        student.parameters(), course.rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    torch.manual_seed(course.seed)  # dropout's
    batches = lessons.batches(course.steps, course.batch_size, course.seed)
    for step, (images, wanted) in enumerate(batches, start=1):
        open_ranges(student, opened=step <= course.open_steps)
        optimizer.param_groups[0]["lr"] = course.rate * (1.0 if step <= course.steps * FULL_RATE_SHARE else 0.1)
        optimizer.zero_grad(set_to_none=True)
        F.mse_loss(F.normalize(student(images)), wanted).backward()  # type: ignore[no-untyped-call]  # torch ships it so
        nn.utils.clip_grad_norm_(student.parameters(), LONGEST_GRADIENT)
        optimizer.step()
        yield step


def copied(student: fx.GraphModule) -> fx.GraphModule:
    """Return a student as it is now, in eval mode and with its ranges closed."""
    kept = copy.deepcopy(student).eval()
    open_ranges(kept, opened=False)
    return kept
