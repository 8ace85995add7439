"""The fine-tuning loop of a simulated network against its own float self: no labels, no real faces.

Loss: 1 - cosine between the student's and the teacher's embeddings, which is half the squared distance of the
normalised embeddings that QuantFace distils (arXiv 2206.10526, section 3.2) without its division by their length. To it
comes the squared difference between the batch's cosine matrices of student and teacher (relational distillation, after
arXiv 1904.05068): what is compared in use is not a face with its float self, but faces with each other.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows it by
from torch import nn

from qface_toolkit.quantize.memory import channels_last

State = list[torch.Tensor]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: Adam, a linear warm-up, then a cosine down to zero.

    `relation` is the weight of the relational loss. After `patience` epochs without a better state the rest is left.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    relation: float
    warmup_share: float
    patience: int
    seed: int

    def share(self, step: int, steps: int) -> float:
        """Return the share of its rate at which everything learns in a step out of `steps`."""
        warmup = max(1, round(self.warmup_share * steps))
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@dataclass(frozen=True)
class Lessons:
    """Inputs [N, C, height, width] and what the teacher makes of them, [N, D]."""

    inputs: torch.Tensor
    embeddings: torch.Tensor

    def split(self, held_out: int) -> tuple["Lessons", "Lessons"]:
        """Return all but the last `held_out` lessons, and those."""
        cut = len(self.inputs) - held_out
        return self._part(0, cut), self._part(cut, None)

    def _part(self, start: int, stop: int | None) -> "Lessons":
        return Lessons(self.inputs[start:stop], self.embeddings[start:stop])


def fine_tune(
    student: nn.Module,
    lessons: Lessons,
    held_out: Lessons,
    schedule: Schedule,
    progress: Callable[[int, int], None],
) -> float:
    """Train a student in place, leave it in its best state and return its held-out mean cosine.

    The student stays in eval mode throughout: nothing in it may depend on the batch.
    """
    channels_last(student.eval())
    weights = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(weights)
    best, best_state, stale = mean_cosine(student, held_out, schedule.batch_size), _state(weights), 0
    batches = math.ceil(len(lessons.inputs) / schedule.batch_size)
    steps = schedule.epochs * batches
    for step, batch in enumerate(_batches(lessons, schedule)):
        optimizer.param_groups[0]["lr"] = schedule.learning_rate * schedule.share(step, steps)
        optimizer.zero_grad(set_to_none=True)
        _loss(student, batch, schedule.relation).backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
        optimizer.step()
        progress(step + 1, steps)
        if (step + 1) % batches == 0:
            score = mean_cosine(student, held_out, schedule.batch_size)
            stale = 0 if score > best else stale + 1
            if score > best:
                best, best_state = score, _state(weights)
            if stale == schedule.patience:
                break
    _restore(weights, best_state)
    progress(steps, steps)
    return best


def _batches(lessons: Lessons, schedule: Schedule) -> Iterator[Lessons]:
    generator = torch.Generator().manual_seed(schedule.seed)
    for _ in range(schedule.epochs):
        order = torch.randperm(len(lessons.inputs), generator=generator)
        for start in range(0, len(order), schedule.batch_size):
            chosen = order[start : start + schedule.batch_size]
            yield Lessons(lessons.inputs[chosen], lessons.embeddings[chosen])


def _loss(student: nn.Module, batch: Lessons, relation: float) -> torch.Tensor:
    embeddings = F.normalize(student(batch.inputs.to(memory_format=torch.channels_last)))
    expected = F.normalize(batch.embeddings)
    own = (1 - (embeddings * expected).sum(1)).mean()
    return own + relation * (embeddings @ embeddings.T - expected @ expected.T).pow(2).mean()


def mean_cosine(student: nn.Module, lessons: Lessons, batch_size: int) -> float:
    """Return the mean cosine between a student's embeddings and the teacher's."""
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(lessons.inputs), batch_size):
            embeddings = student(lessons.inputs[start : start + batch_size])
            total += float(F.cosine_similarity(embeddings, lessons.embeddings[start : start + batch_size]).sum())
    return total / len(lessons.inputs)


def _state(weights: Sequence[torch.Tensor]) -> State:
    return [value.detach().clone() for value in weights]


def _restore(weights: Sequence[torch.Tensor], state: State) -> None:
    with torch.no_grad():
        for value, kept in zip(weights, state, strict=True):
            value.copy_(kept)
