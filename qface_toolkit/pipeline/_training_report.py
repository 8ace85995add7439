"""What a training leaves to be read: training.json and the pages that are made of it."""

import hashlib
import resource
from dataclasses import dataclass

import torch

from qface_toolkit.datasets import FaceData
from qface_toolkit.environment import record_environment
from qface_toolkit.pipeline._training_plan import TrainingPlan
from qface_toolkit.ranks import Ranks
from qface_toolkit.report import Training, training_bytes, training_card, training_html, training_markdown
from qface_toolkit.report.training import TRAINING, EpochEnd, Point, Skipped, Teacher, TrainedModel, TrainingData
from qface_toolkit.result.names import CARD, TEXT
from qface_toolkit.training.course import Course
from qface_toolkit.training.held_out import HeldOut

_PAGE = "report.html"


@dataclass(frozen=True)
class Learnt:
    """A training at its end: the loop, what it learnt from, what was held out, why it ended, the weights.

    `weights` is the student's checkpoint as bytes, and `name` that of its file.
    """

    course: Course
    data: FaceData
    held_out: HeldOut | None
    why: str
    name: str
    weights: bytes


def training_pages(report: Training) -> dict[str, bytes]:
    """Return training.json and its pages, by their names."""
    pages = {_PAGE: training_html(report), TEXT: training_markdown(report), CARD: training_card(report)}
    return {TRAINING: training_bytes(report), **{name: page.encode() for name, page in pages.items()}}


def origin_of(plan: TrainingPlan) -> str:
    """Return in a line where the student's weights come from."""
    named = f" from {', '.join(teacher.name for teacher in plan.teachers[:3])}" if plan.teachers else ""
    more = f" and {len(plan.teachers) - 3} more" if len(plan.teachers) > 3 else ""
    return f"trained by qface{named}{more}"


def told(plan: TrainingPlan, ranks: Ranks, learnt: Learnt) -> Training:
    """Return the report of a training."""
    course, history = learnt.course, learnt.course.history
    broken, held = course.feed.broken, learnt.held_out
    notes = [note for note in plan.student.notes if not note.startswith("not trained")]
    if held is not None and held.broken:
        notes.append(f"{held.broken} of the images that were held out could not be read.")
    return Training(
        command=plan.command,
        student=_student(plan, learnt),
        teachers=_teachers(plan),
        data=_data(learnt),
        recipe=plan.recipe.as_plain(),
        points=tuple(Point.model_validate(point) for point in history.points),
        epochs=tuple(EpochEnd.model_validate(end) for end in history.epochs),
        skipped_count=_count(broken.numbers, len(learnt.data), ranks, plan.device),
        skipped=tuple(Skipped(name=f"image {index}", why=why) for index, why in sorted(broken.reasons.items())),
        finished=learnt.why,
        chosen_epoch=history.best_epoch if plan.recipe.patience and history.best_epoch else len(history.epochs),
        steps=history.step,
        images=history.step * course.feed.batch_size,
        seconds=history.seconds,
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        resumed=history.resumed,
        ranks=ranks.size,
        device=_device(plan.device),
        environment=record_environment(plan.seed, plan.threads),
        notes=tuple(notes),
    )


def _count(numbers: set[int], images: int, ranks: Ranks, device: torch.device) -> int:
    """Return how many images are broken, as far as all ranks know; one may have been met by several."""
    if ranks.size == 1:
        return len(numbers)
    met = torch.zeros(images, dtype=torch.uint8)
    met[sorted(numbers)] = 1
    return int(ranks.max(met.to(device)).sum())


def _device(device: torch.device) -> str:
    """Return what steps ran on, if that was not the processor."""
    return "" if device.type == "cpu" else f"{torch.cuda.get_device_name(device)} ({device.type})"


def _student(plan: TrainingPlan, learnt: Learnt) -> TrainedModel:
    spec = plan.student.spec
    return TrainedModel(
        name=spec.name,
        sha256=hashlib.sha256(learnt.weights).hexdigest(),
        parameters=sum(parameter.numel() for parameter in learnt.course.pupil.network.parameters()),
        embedding_size=spec.embedding_size,
        input_size=spec.input_size,
        mean=spec.mean,
        std=spec.std,
        color=spec.color,
        crop=spec.crop,
        license=spec.license,
        started_from=plan.started_from,
    )


def _teachers(plan: TrainingPlan) -> tuple[Teacher, ...]:
    taught = zip(plan.teachers, plan.beginnings, strict=True)
    return tuple(
        Teacher(
            name=one.name,
            sha256=one.sha256,
            embedding_size=one.spec.embedding_size,
            from_epoch=begins,
            license=one.spec.license,
        )
        for one, begins in taught
    )


def _data(learnt: Learnt) -> TrainingData:
    data = learnt.data
    return TrainingData(
        kind=data.kind,
        name=data.name,
        examples=len(data),
        identities=data.identities,
        sha256=data.fingerprint(),
        contains_no_real_face_data=data.contains_no_real_face_data,
        held_out=0 if learnt.held_out is None else len(learnt.held_out),
    )
