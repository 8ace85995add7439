"""What the report says about the widths that a step allocated, and what it told while it did."""

import json
from collections.abc import Callable
from pathlib import Path

from qface_toolkit.backends import BACKENDS
from qface_toolkit.methods import Gift
from qface_toolkit.recipe import Recipe
from qface_toolkit.report.schema import AllocationBlock
from qface_toolkit.result.job import Job
from qface_toolkit.runtimes import FLOAT_ARTIFACT


def packed_backends(recipe: Recipe) -> list[str]:
    """Return the backends whose files have a budget of bytes."""
    return [name for name in recipe.backends if BACKENDS.get(name).packs]


def record_file(gift: Gift) -> str:
    """Return where what a step told about its gift is kept while the job runs."""
    return f"work/{gift}.json"


def allocation_block(job: Job, path: Callable[[str], Path]) -> AllocationBlock | None:
    """Return what the report says about the widths that were allocated."""
    record = path(record_file("widths"))
    if not record.is_file():
        return None
    told = json.loads(record.read_text())
    artifacts = [BACKENDS.get(name).artifact for name in packed_backends(job.recipe)]
    return AllocationBlock(
        **told,
        files={name: path(name).stat().st_size for name in artifacts},
        float_bytes=path(FLOAT_ARTIFACT).stat().st_size,
    )
