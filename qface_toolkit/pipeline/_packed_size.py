"""The bytes of packed files: for the step that has a budget of them, and for the last check."""

from collections.abc import Callable
from pathlib import Path

from qface_toolkit.backends import BACKENDS, float_files
from qface_toolkit.errors import RecipeError
from qface_toolkit.evidence.allocation import packed_backends
from qface_toolkit.methods import FileSizes, wanted_of
from qface_toolkit.quantize.model import QuantizedModel
from qface_toolkit.result.job import Job
from qface_toolkit.runtimes import FLOAT_ARTIFACT


def file_sizes(job: Job) -> FileSizes | None:
    """Return the sizes of the largest packed file that a model becomes, and of float.onnx; None without such files."""
    packed, facts = packed_backends(job.recipe), job.facts()
    if not packed:
        return None

    def largest(model: QuantizedModel) -> int:
        return max(len(BACKENDS.get(name).lower(model, facts)) for name in packed)

    return FileSizes(largest, len(float_files()[0].write(job.model, job.canonical, facts)))


def check_sizes(job: Job, path: Callable[[str], Path]) -> None:
    """Check that every packed file that was written is within the budget.

    Raises:
        RecipeError: if steps behind the allocation made one larger than the margin that it left.
    """
    wanted = wanted_of(job.steps, "widths", "bytes")
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
