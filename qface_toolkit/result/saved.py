"""The model that a finished folder holds, read back to be lowered or looked into again."""

from pathlib import Path

from qface_toolkit.backends import BACKENDS
from qface_toolkit.errors import ArtifactError
from qface_toolkit.result.names import DESCRIPTION


def refuse_simulated(root: Path) -> None:
    """Check that a result holds more than a simulation.

    Raises:
        ArtifactError: if a recipe that simulates made it.
    """
    simulations = [one.artifact for one in BACKENDS.entries().values() if one.runtime.simulates]
    if any((root / name).is_file() for name in simulations) and not (root / DESCRIPTION).exists():
        what = "this result is a simulation alone: it holds no network that could be lowered or looked into"
        raise ArtifactError(what, where=str(root), fix="compress again with another recipe, such as int8")
