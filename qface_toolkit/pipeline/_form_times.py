"""Where a job takes the times from that decide how each PReLU is written: the package, a file, or this machine."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from qface_toolkit.backends import BACKENDS
from qface_toolkit.canonical.edit import ensure_shapes
from qface_toolkit.environment import machine_here
from qface_toolkit.methods import Progress
from qface_toolkit.quantize.forms import FormTables, FormTimes, as_record, choices, read_form_tables, shape_before
from qface_toolkit.quantize.model import new_model
from qface_toolkit.result.folder import OutputFolder
from qface_toolkit.result.job import Job
from qface_toolkit.verifier import Machine

FORM_TIMES = "form_times.json"
"""What measuring leaves in the output folder; `--set target.lowering=FILE` takes it, so that a run can be repeated."""

Timed = Callable[[str], AbstractContextManager[Progress | None]]
"""Enters a part of a job by its name: None if it was done before, else what to call as it goes."""


def find_form_tables(lowering: str) -> FormTables | None:
    """Return the times that `target.lowering` names, or None where they are still to be measured.

    Raises:
        ArtifactError: if it names a file that holds none.
    """
    if lowering == "measure":
        return None
    return read_form_tables() if lowering == "table" else read_form_tables(Path(lowering))


def form_tables(job: Job, folder: OutputFolder, timed: Timed) -> FormTables:
    """Return a job's times, measured once and kept in the folder if that was asked for."""
    if job.form_tables is not None:
        return job.form_tables
    with timed("time the forms of PReLU") as progress:
        if progress is not None:
            here = machine_here()
            record = as_record(here, _measured(job, here, progress))
            folder.write(FORM_TIMES, (json.dumps(record) + "\n").encode())
    return read_form_tables(folder.path(FORM_TIMES))


def _measured(job: Job, here: Machine, progress: Progress) -> FormTimes:
    """Return the times of the files that are made for this machine; the package's if there is nothing to time."""
    model = new_model(job.canonical, job.model.spec)
    ensure_shapes(model.network, model.spec.input_size, model.spec.channels)
    shapes = [shape_before(node) for node in choices(model)]
    able = [BACKENDS.get(name) for name in job.recipe.backends if BACKENDS.get(name).machine == here]
    timed = (backend.time_forms(shapes, progress) for backend in able if shapes)
    return next((found for found in timed if found is not None), None) or read_form_tables()[here]
