"""The bytes of packed files: for the step that has a budget of them, for the last check, and for the report."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qface_toolkit.backends import BACKENDS, float_files
from qface_toolkit.errors import RecipeError
from qface_toolkit.evidence.allocation import packed_backends
from qface_toolkit.pipeline._allocation import allocates, bytes_wanted
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.result.job import Job
from qface_toolkit.runtimes import FLOAT_ARTIFACT


def sizes(job: Job) -> Mapping[str, Any]:
    """Return what a context tells a step about sizes: of the packed file that a model becomes, and of float.onnx."""
    packed = packed_backends(job.recipe)
    if not allocates(job.recipe) or not packed:
        return {}
    facts = job.facts()

    def largest(model: QuantizedModel) -> int:
        return max(len(BACKENDS.get(name).lower(model, facts)) for name in packed)

    return {
        "artifact_bytes": largest,
        "float_bytes": len(float_files()[0].write(job.model, job.canonical, facts)),
    }


def check_sizes(job: Job, path: Callable[[str], Path]) -> None:
    """Check that every packed file that was written is within the budget.

    Raises:
        RecipeError: if steps behind the allocation made one larger than the margin that it left.
    """
    wanted = bytes_wanted(job.recipe)
    if wanted is None:
        return
    whole = path(FLOAT_ARTIFACT).stat().st_size
    for name in packed_backends(job.recipe):
        artifact = BACKENDS.get(name).artifact
        share = path(artifact).stat().st_size / whole
        if share > wanted:
            raise RecipeError(
                f"{artifact} takes {share:.4f} of float.onnx, and the budget is {wanted:g}: steps behind the "
                "allocation made it larger than it left room for",
                where="budget.bytes",
                fix=f"compress again with --set budget.bytes={wanted * wanted / share * 0.999:.4f}",
            )
