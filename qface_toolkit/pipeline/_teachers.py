"""Who teaches: checkpoints by name or pattern, looked at before a training begins and opened one at a time."""

import glob
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from qface_toolkit.errors import QFaceError, TrainingError
from qface_toolkit.models import FloatModel, ModelSpec, load_model

GivenTeacher = str | Path | FloatModel
_SNAPSHOT = re.compile(r"(epoch-\d+|student)\.")
_PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Teacher:
    """One teacher: its name in a report, the hash of its file, its facts, and how to open it."""

    name: str
    sha256: str
    spec: ModelSpec
    open: Callable[[], FloatModel]


def find_teachers(given: Sequence[GivenTeacher], facts: Mapping[str, Any]) -> list[Teacher]:
    """Return the teachers that are named, patterns in the order of the numbers in their files' names.

    `facts` go before what the teachers' files say.

    Raises:
        TrainingError: if a pattern names nothing, or teachers' embeddings differ in size.
        CheckpointError: if one cannot be read.
    """
    teachers = [_looked_at(one, facts) for name in given for one in _expanded(name)]
    sizes = {teacher.spec.embedding_size for teacher in teachers}
    if len(sizes) > 1:
        what = f"the teachers' embeddings have {', '.join(map(str, sorted(sizes)))} numbers"
        raise TrainingError(what, fix="give snapshots of one network")
    return teachers


def _expanded(given: GivenTeacher) -> Sequence[GivenTeacher]:
    if isinstance(given, FloatModel) or not _PATTERN.search(str(given)) or Path(given).exists():
        return [given]
    found = sorted(glob.glob(str(given)), key=_by_number)  # noqa: PTH207 - a pattern may begin anywhere
    if not found:
        raise TrainingError("no file has such a name", where=str(given), fix="check the pattern of --teacher")
    return found


def _by_number(name: str) -> list[int | str]:
    """Return a key by which epoch-9 comes before epoch-10: texts and numbers by turns, so that they compare."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _looked_at(given: GivenTeacher, facts: Mapping[str, Any]) -> Teacher:
    """Return a teacher; a file is opened once to see what it is, and again when it is its turn."""
    if isinstance(given, FloatModel):
        model = given.with_facts(facts)
        return Teacher(model.spec.name, model.source_sha256, model.spec, lambda: model)
    model = _loaded(given, facts)
    # A snapshot's name says nothing without that of the training it is of.
    named = _SNAPSHOT.match(Path(given).name)
    name = "/".join(Path(given).parts[-2 if named else -1 :])
    sha256, spec = model.source_sha256, model.spec
    # What opens it holds nothing of it: there may be dozens, and one is in memory at a time.
    return Teacher(name, sha256, spec, partial(_loaded_again, given, facts, sha256))


def _loaded(given: str | Path, facts: Mapping[str, Any]) -> FloatModel:
    try:
        return load_model(given, overrides=facts)
    except QFaceError as error:
        if error.fix is not None:
            error.fix = error.fix.replace("model.", "teacher.model.")
        raise


def _loaded_again(given: str | Path, facts: Mapping[str, Any], sha256: str) -> FloatModel:
    model = _loaded(given, facts)
    if model.source_sha256 != sha256:
        raise TrainingError("a teacher's file has changed since the training began", where=str(given), fix="start anew")
    return model
