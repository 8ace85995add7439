"""Inspect whatever a path holds: one file of ours or of a stranger's, or every artifact of a result."""

from collections.abc import Callable
from pathlib import Path

from qface_toolkit.backends import PROGRAMS, runner_of
from qface_toolkit.errors import ArtifactError
from qface_toolkit.runtimes.fusion import Fusion


def inspect_files(model: str | Path, begin: Callable[[str], object] = lambda name: None) -> dict[str, Fusion]:
    """Return what the runtime really runs for an .onnx file, a .ts archive or every artifact of a result, by name.

    `begin` is called with the name of each file before it is looked at.

    Raises:
        QFaceError: if there is nothing to inspect, or a file is damaged, refused or not to be trusted.
    """
    path = Path(model)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    runners = {file: runner for file in files if file.suffix in PROGRAMS and (runner := runner_of(file))}
    if not runners:
        what, fix = "there is nothing to inspect", "give an .onnx file, a .ts archive of ours or a result"
        raise ArtifactError(what, where=str(path), fix=fix)
    found = {}
    for file, runner in runners.items():
        begin(file.name)
        found[file.name] = runner.inspect(file)
    return found
