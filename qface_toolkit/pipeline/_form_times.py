"""Where a job takes the times from that decide how each PReLU is written: the package, a file, or this machine."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from qface_toolkit.backends import BACKENDS
from qface_toolkit.canonical.edit import ensure_shapes
from qface_toolkit.methods import Progress
from qface_toolkit.quantize.forms import FormTimes, choices, read_form_times, shape_before
from qface_toolkit.quantize.model import new_model
from qface_toolkit.result.folder import OutputFolder
from qface_toolkit.result.job import Job

FORM_TIMES = "form_times.json"
"""What measuring leaves in the output folder; `--set target.lowering=FILE` takes it, so that a run can be repeated."""

Timed = Callable[[str], AbstractContextManager[Progress | None]]
"""Enters a part of a job by its name: None if it was done before, else what to call as it goes."""


def find_form_times(lowering: str) -> FormTimes | None:
    """Return the times that `target.lowering` names, or None where they are still to be measured.

    Raises:
        ArtifactError: if it names a file that holds none.
    """
    if lowering == "measure":
        return None
    return read_form_times() if lowering == "table" else read_form_times(Path(lowering))


def form_times(job: Job, folder: OutputFolder, timed: Timed) -> FormTimes:
    """Return a job's times, measured once and kept in the folder if that was asked for."""
    if job.form_times is not None:
        return job.form_times
    with timed("time the forms of PReLU") as progress:
        if progress is not None:
            measured = _measured(job, progress)
            folder.write(FORM_TIMES, (json.dumps({"rows": measured.as_plain()}) + "\n").encode())
    return read_form_times(folder.path(FORM_TIMES))


def _measured(job: Job, progress: Progress) -> FormTimes:
    model = new_model(job.canonical, job.model.spec)
    ensure_shapes(model.network, model.spec.input_size, model.spec.channels)
    shapes = [shape_before(node) for node in choices(model)]
    if not shapes:
        return read_form_times()
    timed = (BACKENDS.get(name).time_forms(shapes, progress) for name in job.recipe.backends)
    return next((found for found in timed if found is not None), None) or read_form_times()
