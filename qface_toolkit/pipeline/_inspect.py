"""Look at what a runtime really runs, and say which file is being looked at meanwhile."""

from pathlib import Path

from qface_toolkit.result.inspecting import inspect_files
from qface_toolkit.result.job import Tell, silent
from qface_toolkit.runtimes.fusion import Fusion


def inspect(model: str | Path, *, tell: Tell = silent) -> dict[str, Fusion]:
    """Return what the runtime really runs for an .onnx file, a .ts archive or every artifact of a result, by name.

    A Fusion holds the operators after the runtime's own optimization with their shares of the time, 0..1, and every
    part that is left in float with the reason.

    Raises:
        QFaceError: if there is nothing to inspect, or a file is damaged, refused or not to be trusted.
    """
    return inspect_files(model, lambda name: tell(f"look at {name}"))
