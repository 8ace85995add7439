"""What changes while a training goes on: the learning rate, the margin, the weights of losses, and who teaches."""

import math
from collections.abc import Sequence

from qface_toolkit.errors import TrainingError
from qface_toolkit.training.recipe import Losses, Optimizer, Teachers


def learning_rate(passed: float, epochs: int, options: Optimizer) -> float:
    """Return the learning rate after `passed` of so many epochs."""
    warmup = min(options.warmup_epochs, float(epochs))
    if passed < warmup:
        return options.learning_rate * (passed + 0.01) / (warmup + 0.01)
    if options.schedule == "constant":
        return options.learning_rate
    if options.schedule == "step":
        return options.learning_rate * options.factor ** sum(int(passed) >= one for one in options.milestones)
    return options.learning_rate * falling((passed - warmup) / max(1e-9, epochs - warmup))


def falling(share: float) -> float:
    """Return half a cosine, from 1 at a share of 0 down to 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, share))))


def rising(passed: float, epochs: float) -> float:
    """Return how far something is that has grown within so many epochs, 0 to 1."""
    return min(1.0, passed / epochs) if epochs else 1.0


def class_weight(passed: float, losses: Losses) -> float:
    """Return the weight of the loss over identities: a tenth of it from the start, all after `class_epochs`."""
    return losses.classes * (0.1 + 0.9 * rising(passed, losses.class_epochs) if losses.class_epochs else 1.0)


def first_epochs(teachers: int, epochs: int, options: Teachers) -> tuple[int, ...]:
    """Return the epoch, counted from 1, from which on each teacher teaches; see PocketNet, section 3.4.

    Raises:
        TrainingError: if teachers and epochs do not fit together.
    """
    if options.from_epochs:
        if len(options.from_epochs) != teachers or options.from_epochs[-1] > epochs:
            what = f"teacher.from_epochs names {len(options.from_epochs)} beginnings within {epochs} epochs"
            raise TrainingError(f"{what}, and there are {teachers} teachers", fix="name one beginning for each teacher")
        return options.from_epochs
    if teachers <= 1:
        return (1,) * teachers
    if options.spread:
        if teachers > epochs:
            chosen = f"{teachers} teachers cannot be spread over {epochs} epochs"
            raise TrainingError(chosen, fix="give as many epochs as teachers at least, or fewer teachers")
        return tuple(1 + number * epochs // teachers for number in range(teachers))
    if teachers != epochs:
        what = f"there are {teachers} teachers for {epochs} epochs"
        fix = (
            "give one for each epoch, or say when they begin: --set teacher.spread=true, or "
            f"--set 'teacher.from_epochs=[1, 5]' with {teachers} numbers"
        )
        raise TrainingError(what, fix=fix)
    return tuple(range(1, epochs + 1))


def teacher_of(epoch: int, beginnings: Sequence[int]) -> int:
    """Return which teacher teaches in an epoch, counted from 0."""
    return sum(begins <= epoch + 1 for begins in beginnings) - 1


def same_teacher(one: int, other: int, beginnings: Sequence[int]) -> bool:
    """Tell whether two epochs have one teacher, or none: how close the student is to two cannot be compared."""
    return not beginnings or teacher_of(one, beginnings) == teacher_of(other, beginnings)
