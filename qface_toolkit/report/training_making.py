"""How a student was made and what it is: its own facts, the recipe, the machine, the command, and what to do next."""

from collections.abc import Iterator, Mapping
from typing import Any

from qface_toolkit.report.figures import clean, duration
from qface_toolkit.report.page import Code, Facts, Section
from qface_toolkit.report.provenance import LONGEST_COMMAND, input_said, machine_facts
from qface_toolkit.report.schema import SpecFacts
from qface_toolkit.report.training import TrainedModel, Training
from qface_toolkit.report.training_verdict import pace, processes, resumptions

LONGEST_KEY = 80
VALUES_SHOWN = 400
"""Rows of a recipe: a file from elsewhere may hold any number."""
EVALUATE, COMPRESS = "qface evaluate DIR --faces PEOPLE", "qface compress DIR --out OUT"
_PLAIN = {None: "not set", True: "yes", False: "no"}


def student_section(training: Training) -> Section:
    """Return what the student is, takes and gives."""
    student = training.student
    facts = (
        ("model", f"{clean(student.name, 80)}, {student.parameters:,} parameters"),
        ("started from", clean(student.started_from) or "random weights"),
        ("licence", clean(student.license)),
        ("sha256", student.sha256),
    )
    return Section("student", "The student", (preparation(student),), (Facts(facts),))


def preparation(student: TrainedModel) -> str:
    """Return how images are prepared for the student, and what it gives."""
    facts = student.model_dump(include={"input_size", "embedding_size", "mean", "std", "color", "crop", "license"})
    return input_said(SpecFacts(**facts, origin=""))


def making_section(training: Training) -> Section:
    """Return the recipe, what the steps took, the machine, and the command that does it again."""
    parts = (
        Section("work", "The work", blocks=(Facts(list(_work(training))),)),
        Section("recipe", "The recipe", blocks=(Facts(list(flat(training.recipe))[:VALUES_SHOWN]),)),
        Section("machine", "The machine", blocks=(machine_facts(training.environment, training.peak_memory_bytes),)),
        Section("again", "Make it again", blocks=(Code("command", clean(training.command, LONGEST_COMMAND)),)),
    )
    return Section("making", "How it was done", parts=parts)


def next_section() -> Section:
    """Return what to do with the student."""
    said = "DIR is the folder of this page. Judge the student on faces that it will meet before you use it."
    codes = (Code("how well it tells people apart", EVALUATE), Code("make it small and fast", COMPRESS))
    return Section("next", "What to do next", (said,), codes)


def flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield each single value of nested ones, with the keys that lead to it, as rows that people read."""
    for key, value in values.items():
        name = f"{before}{key}"
        inner = _inner(value)
        if inner:
            yield from flat(inner, f"{name}.")
        else:
            yield clean(name, LONGEST_KEY), clean(_plain(value)) or "none"


def _inner(value: object) -> dict[str, Any]:
    """Return the parts of a value that has names or numbers for them; a list of single values is one itself."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple) and any(isinstance(one, Mapping | list | tuple) for one in value):
        return {str(place): one for place, one in enumerate(value)}
    return {}


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    if value is None or isinstance(value, bool):
        return _PLAIN[value]
    return "" if isinstance(value, Mapping) else str(value)


def _work(training: Training) -> Iterator[tuple[str, str]]:
    rate = pace(training)
    yield "steps", f"{training.steps:,}, of {training.images:,} images in all"
    yield "time in steps", duration(training.seconds)
    yield "images a second", "not timed" if rate is None else f"{rate:,.1f}"
    yield "processes", processes(training)
    if training.device:
        yield "device", clean(training.device)
    yield "seed", str(training.environment.seed)
    yield "resumed after a stop", resumptions(training)
