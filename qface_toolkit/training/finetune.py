"""The fine-tuning loop of a simulated network against its own float self: no labels, no real faces.

Loss: 1 - cosine between the student's and the teacher's embeddings, which is half the squared distance of the
normalised embeddings that QuantFace distils (arXiv 2206.10526, section 3.2) without its division by their length.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import nn

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: Adam, a linear warm-up, then a cosine down to zero."""

    epochs: int
    batch_size: int
    learning_rate: float
    warmup_share: float
    seed: int

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step out of `steps`."""
        warmup = max(1, round(self.warmup_share * steps))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@dataclass(frozen=True)
class Lessons:
    """Inputs [N, 3, height, width] and what the teacher makes of them, [N, D]."""

    inputs: torch.Tensor
    embeddings: torch.Tensor

    def split(self, held_out: int) -> tuple["Lessons", "Lessons"]:
        """Return all but the last `held_out` lessons, and those."""
        cut = len(self.inputs) - held_out
        return self._part(0, cut), self._part(cut, None)

    def _part(self, start: int, stop: int | None) -> "Lessons":
        return Lessons(self.inputs[start:stop], self.embeddings[start:stop])


def fine_tune(
    student: nn.Module, lessons: Lessons, held_out: Lessons, schedule: Schedule, progress: Callable[[int, int], None]
) -> float:
    """Train a student in place and leave it in its best state, by the mean cosine on held-out lessons; return that.

    The student stays in eval mode throughout: nothing in it may depend on the batch.
    """
    student.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a stub that lacks the keyword
    optimizer = torch.optim.Adam([p for p in student.parameters() if p.requires_grad], lr=schedule.learning_rate)
    steps = schedule.epochs * math.ceil(len(lessons.inputs) / schedule.batch_size)
    best, best_state = mean_cosine(student, held_out, schedule.batch_size), _state(student)
    for step, batch in enumerate(_batches(lessons, schedule)):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step, steps)
        optimizer.zero_grad(set_to_none=True)
        _loss(student, batch).backward()  # type: ignore[no-untyped-call]  # torch ships it without a type
        optimizer.step()
        progress(step + 1, steps)
        if (step + 1) % (steps // schedule.epochs) == 0:
            score = mean_cosine(student, held_out, schedule.batch_size)
            if score > best:
                best, best_state = score, _state(student)
    student.load_state_dict(best_state)
    return best


def _batches(lessons: Lessons, schedule: Schedule) -> Iterator[Lessons]:
    generator = torch.Generator().manual_seed(schedule.seed)
    for _ in range(schedule.epochs):
        order = torch.randperm(len(lessons.inputs), generator=generator)
        for start in range(0, len(order), schedule.batch_size):
            chosen = order[start : start + schedule.batch_size]
            yield Lessons(lessons.inputs[chosen], lessons.embeddings[chosen])


def _loss(student: nn.Module, batch: Lessons) -> torch.Tensor:
    embeddings = student(batch.inputs.to(memory_format=torch.channels_last))
    return (1 - F.cosine_similarity(embeddings, batch.embeddings)).mean()


def mean_cosine(student: nn.Module, lessons: Lessons, batch_size: int) -> float:
    """Return the mean cosine between a student's embeddings and the teacher's."""
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(lessons.inputs), batch_size):
            embeddings = student(lessons.inputs[start : start + batch_size])
            total += float(F.cosine_similarity(embeddings, lessons.embeddings[start : start + batch_size]).sum())
    return total / len(lessons.inputs)


def _state(student: nn.Module) -> State:
    return {name: value.detach().clone() for name, value in student.state_dict().items()}
