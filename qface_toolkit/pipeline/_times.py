"""Where a job takes the times from that decide how layers are written: the package, a file, or this machine."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from torch import fx

from qface_toolkit.backends import BACKENDS
from qface_toolkit.canonical.edit import ensure_shapes
from qface_toolkit.canonical.graph import module, operation
from qface_toolkit.environment import machine_here
from qface_toolkit.methods import Progress
from qface_toolkit.quantize.forms import FormTables, as_record, read_form_tables, scale_shape
from qface_toolkit.quantize.groups import group_forms_of, has_groups, padded, parts, shape_of_conv
from qface_toolkit.quantize.plan import LAYERS
from qface_toolkit.result.folder import OutputFolder
from qface_toolkit.result.job import Job
from qface_toolkit.result.names import TIMES
from qface_toolkit.times import Row
from qface_toolkit.verifier import Machine

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
    with timed("time the operators") as progress:
        if progress is not None:
            record = as_record(machine_here(), _measured(job, machine_here(), progress))
            folder.write(TIMES, (json.dumps(record) + "\n").encode())
    return read_form_tables(folder.path(TIMES))


def _measured(job: Job, here: Machine, progress: Progress) -> Mapping[Row, float]:
    """Return the times of the convolutions of files that are made for this machine, in all their forms."""
    ensure_shapes(job.canonical, job.model.spec.input_size, job.model.spec.channels)
    rows = list(dict.fromkeys(row for node in job.canonical.graph.nodes for row in _rows(node)))
    able = [BACKENDS.get(name) for name in job.recipe.backends if BACKENDS.get(name).machine == here]
    found = (backend.time_operators(rows, progress) for backend in able if rows)
    return next((times for times in found if times is not None), {})


def _rows(node: fx.Node) -> Iterator[Row]:
    """Yield the convolutions that a node may become, in integers and in float."""
    if operation(node) not in LAYERS:
        return
    shape = shape_of_conv(node)
    yield "float", shape
    yield "integer", padded(shape)
    yield "integer", scale_shape(shape.outputs, shape.height, shape.width)
    if has_groups(node):
        for form in group_forms_of(module(node)):
            yield from (("integer", part) for part in parts(shape, form)[:1])
            yield from (("float", part) for part in parts(shape, form)[:1] if not form.interleaved)
