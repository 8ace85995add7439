"""A training, all questions answered before anything is written: who learns, from whom, and what of."""

import copy
import hashlib
import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import torch

from qface_toolkit import __version__
from qface_toolkit.errors import TrainingError
from qface_toolkit.models import FloatModel, open_student
from qface_toolkit.pipeline._teachers import GivenTeacher, Teacher, find_teachers
from qface_toolkit.ranks import threads_of_one
from qface_toolkit.result.folder import fingerprint_of
from qface_toolkit.training.rates import first_epochs
from qface_toolkit.training.recipe import TrainingRecipe, load_training_recipe


@dataclass(frozen=True)
class TrainingPlan:
    """A student, its teachers and from which epochs on they teach, the data by their name, and how it is done."""

    student: FloatModel
    started_from: str
    teachers: tuple[Teacher, ...]
    beginnings: tuple[int, ...]
    data: str
    recipe: TrainingRecipe
    seed: int
    threads: int
    device: torch.device
    command: str

    @property
    def shown(self) -> int:
        """The size of what the student shows its teacher."""
        return self.teachers[0].spec.embedding_size if self.teachers else self.student.spec.embedding_size

    def fingerprint(self, ranks: int) -> str:
        """Return what makes two trainings the same, so that one can go on where the other stopped."""
        return fingerprint_of(
            student=self.student.source_sha256,
            spec=repr(self.student.spec),
            teachers=[teacher.sha256 for teacher in self.teachers],
            data=self.data,
            recipe=self.recipe.as_plain(),
            seed=self.seed,
            threads=self.threads,
            device=self.device.type,
            ranks=ranks,
            version=__version__,
            torch=torch.__version__,
        )


def plan_training(
    student: str | Path | FloatModel,
    *,
    teachers: Sequence[GivenTeacher] = (),
    data: str | Path,
    recipe: str = "kd",
    sets: Sequence[str] = (),
    seed: int = 0,
    threads: int | None = None,
    command: str = "",
) -> TrainingPlan:
    """Return a training with every name looked up and every file of a network looked at; see `train`.

    Raises:
        QFaceError: whatever the user can mend.
    """
    read = load_training_recipe(recipe, sets)
    opened = _student(student, read, seed)
    found = tuple(find_teachers(teachers or _own_self(student, opened, read), read.teacher.model))
    plan = TrainingPlan(
        student=opened,
        started_from=Path(student).name if isinstance(student, str | Path) and Path(student).is_file() else "",
        teachers=found,
        beginnings=first_epochs(len(found), read.epochs, read.teacher),
        data=str(data),
        recipe=read,
        seed=seed,
        threads=threads or threads_of_one(),
        device=_device(read.device),
        command=command,
    )
    _check_teachers(plan)
    return plan


def _student(student: str | Path | FloatModel, recipe: TrainingRecipe, seed: int) -> FloatModel:
    if isinstance(student, FloatModel):
        return student.with_facts(recipe.model)
    size, width = recipe.embedding_size, recipe.width
    facts: Mapping[str, Any] = recipe.model
    return open_student(str(student), width=width, embedding_size=size, seed=seed, overrides=facts)


def _own_self(student: str | Path | FloatModel, opened: FloatModel, recipe: TrainingRecipe) -> list[GivenTeacher]:
    """Return who teaches a student that learns to be rounded and was given no teacher: itself, as it is now."""
    if recipe.quantize is None:
        return []
    named = isinstance(student, str | Path) and Path(student).exists()
    return [student if named else replace(opened, network=copy.deepcopy(opened.network))]


def _check_teachers(plan: TrainingPlan) -> None:
    own = plan.student.spec.embedding_size
    if plan.teachers and plan.shown != own and not plan.recipe.teacher.projection:
        what = f"the teacher's embedding has {plan.shown} numbers, and the student's {own}"
        fix = (
            f"--set embedding_size={plan.shown} gives the student one of that size; --set teacher.projection=true puts "
            "a linear map between them, which is dropped at the end"
        )
        raise TrainingError(what, where=plan.teachers[0].name, fix=fix)


def _device(wanted: str) -> torch.device:
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise TrainingError("there is no GPU that torch can use", where="device=cuda", fix="--set device=cpu")
    return torch.device("cuda" if there and wanted != "cpu" else "cpu")


def code_sha256() -> str:
    """Return a hash of this package's programs, by which processes on several machines see that they are the same."""
    digest = hashlib.sha256()
    _add(digest, importlib.resources.files("qface_toolkit"))
    return digest.hexdigest()


def _add(digest: Any, folder: Traversable) -> None:  # noqa: ANN401 - hashlib names no type
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        if entry.is_dir():
            _add(digest, entry)
        elif entry.name.endswith(".py"):
            digest.update(entry.name.encode() + entry.read_bytes())
